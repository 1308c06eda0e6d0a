"""Errors: one base, a class each, everything a caller decides by; and arguments that make no sense."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import levada
import pytest


def test_an_error_tells_all_there_is(client: levada.Client, topic: str) -> None:
    missing = topic + "2"
    with pytest.raises(levada.LevadaNotFoundError) as raised:
        client.producer(missing)
    error = raised.value
    assert isinstance(error, levada.LevadaError)
    assert isinstance(error, LookupError)
    assert (error.code, error.name) == (301, "TOPIC_NOT_FOUND")
    assert (error.retriable, error.maybe_applied) == (False, False)
    assert error.details == {"topic": missing}
    assert missing in error.message
    assert str(error).startswith("TOPIC_NOT_FOUND (301)")


def test_errors_survive_pickling(client: levada.Client, topic: str) -> None:
    missing = topic + "2"
    with pytest.raises(levada.LevadaError) as raised:
        client.producer(missing)
    for twin in (pickle.loads(pickle.dumps(raised.value)), copy.copy(raised.value)):
        assert type(twin) is levada.LevadaNotFoundError
        assert (twin.code, twin.details, str(twin)) == (301, {"topic": missing}, str(raised.value))


def test_nobody_listens() -> None:
    with pytest.raises(levada.LevadaConnectionError) as raised:
        levada.connect("127.0.0.1:1", anonymous=True)
    assert (raised.value.name, raised.value.retriable) == ("CONNECT_FAILED", True)
    assert isinstance(raised.value, ConnectionError)


OPTIONS: list[tuple[str, Callable[[levada.Client, str], Any]]] = [
    ("nonsense", lambda client, topic: client.producer(topic, nonsense=1)),  # type: ignore[call-arg]
    ("linger", lambda client, topic: client.producer(topic, linger=-1.0)),
    ("linger", lambda client, topic: client.producer(topic, linger="soon")),  # type: ignore[arg-type]
    ("linger", lambda client, topic: client.producer(topic, linger=float("nan"))),
    ("max_in_flight", lambda client, topic: client.producer(topic, max_in_flight=65)),
    ("batch_bytes", lambda client, topic: client.producer(topic, batch_bytes=True)),
    ("compression", lambda client, topic: client.producer(topic, compression="brotli")),  # type: ignore[arg-type]
    ("compression_level", lambda client, topic: client.producer(topic, compression="lz4", compression_level=3)),
    ("from", lambda client, topic: client.consumer(topic, from_="yesterday")),
    ("partitions", lambda client, topic: client.consumer(topic, partitions=[-1])),
    ("position", lambda client, topic: client.consumer(topic).seek(0, "offset(x)")),
    ("id", lambda client, topic: client.producer(topic).send(b"", id=b"short")),
    ("payload", lambda client, topic: client.producer(topic).send(5)),  # type: ignore[arg-type]
    ("key", lambda client, topic: client.producer(topic).send(b"", key=5)),  # type: ignore[arg-type]
    ("headers", lambda client, topic: client.producer(topic).send(b"", headers=5)),  # type: ignore[arg-type]
    ("headers", lambda client, topic: client.producer(topic).send(b"", headers={"n": object()})),  # type: ignore[dict-item]
    ("headers", lambda client, topic: client.producer(topic).send(b"", headers=[("n", 1), ("n", 2)])),
    ("partition", lambda client, topic: client.producer(topic).send(b"", partition=-1)),
    ("sequence", lambda client, topic: client.producer(topic).send(b"", partition=0, sequence=-1)),
    ("sequence", lambda client, topic: client.producer(topic).send(b"", partition=0, sequence=2**64)),
    ("sequence", lambda client, topic: client.producer(topic).send(b"", partition=0, sequence=1)),
    ("external_sequence", lambda client, topic: client.producer(topic, external_sequence=True)),
    ("timestamp_us", lambda client, topic: client.producer(topic).send(b"", timestamp_us=2**63)),
    ("messages", lambda client, topic: client.producer(topic).send_batch([object()])),  # type: ignore[list-item]
    ("timeout", lambda client, topic: client.consumer(topic).receive(timeout=-1)),
    ("timeout", lambda client, topic: client.consumer(topic).receive(timeout=float("nan"))),
    ("timeout", lambda client, topic: client.close(timeout=-1)),
]


@pytest.mark.parametrize(("argument", "call"), OPTIONS)
def test_wrong_arguments_are_usage_errors_that_name_them(
    client: levada.Client, topic: str, argument: str, call: Callable[[levada.Client, str], Any]
) -> None:
    with pytest.raises(levada.LevadaUsageError) as raised:
        call(client, topic)
    assert isinstance(raised.value, ValueError)
    assert raised.value.details["argument"].removesuffix("_ms") == argument


@pytest.mark.parametrize("option", [{"user": "x"}, {"token": "t", "anonymous": True}, {"server": "host:port"}])
def test_wrong_connections_are_usage_errors(option: dict[str, Any]) -> None:
    with pytest.raises(levada.LevadaUsageError):
        levada.connect(**{"server": "127.0.0.1:1", **option})


def test_the_wrong_shape_of_a_call_is_a_type_error(client: levada.Client, topic: str) -> None:
    with pytest.raises(TypeError):
        client.producer()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        client.producer(topic).send()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        client.producer(5)  # type: ignore[arg-type]


def test_calls_after_close_are_refused_and_closing_again_is_not(client: levada.Client, topic: str) -> None:
    producer, consumer = client.producer(topic), client.consumer(topic)
    client.close()
    client.close()
    producer.close()
    consumer.close()
    calls: list[Callable[[], Any]] = [
        client.ping,
        lambda: client.producer(topic),
        lambda: producer.send(b""),
        lambda: producer.enqueue(b""),
        lambda: producer.send_batch([b""]),
        lambda: consumer.receive(timeout=5),
        lambda: consumer.receive_batch(timeout=5),
    ]
    for call in calls:
        with pytest.raises(levada.LevadaClosedError) as raised:
            call()
        assert raised.value.name == "CLOSED"


def test_a_batch_that_is_changed_while_it_is_read_does_no_harm(client: levada.Client, topic: str) -> None:
    class Shrinking:
        """Empties the list it is in as soon as it is looked at."""

        def __init__(self, batch: list[Any]) -> None:
            self.batch = batch

        @property
        def payload(self) -> bytes:
            self.batch.clear()
            return b"seen"

        key = headers = timestamp_us = id = partition = None

    with client.producer(topic) as producer:
        batch: list[Any] = [b"first"]
        batch += [Shrinking(batch), b"never", b"never"]
        assert sum(receipt.message_count for receipt in producer.send_batch(batch)) == 2
