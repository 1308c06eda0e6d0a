"""What a blocking client does against a real server."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import levada
import pytest
from levada.testing import Server


def everything(client: levada.Client, topic: str) -> list[levada.Message]:
    with client.consumer(topic, from_="earliest", until_end=True) as consumer:
        return list(consumer)


def test_a_message_comes_back_as_it_was_sent(client: levada.Client, topic: str) -> None:
    moment = datetime(2026, 11, 23, 7, 10, 0, 123456, tzinfo=UTC)
    headers = {
        "text": "ü",
        "bytes": b"\x00\xff",
        "yes": True,
        "negative": -(2**63),
        "large": 2**64 - 1,
        "unsigned": levada.U64(5),
        "float": -0.5,
    }
    with client.producer(topic) as producer:
        receipt = producer.send(
            b"\x00payload", key="ключ", headers=headers, timestamp=moment, id=b"0123456789abcdef", partition=0
        )
    assert (receipt.partition, receipt.offset, receipt.duplicate) == (0, 0, False)
    (message,) = everything(client, topic)
    assert message.payload == b"\x00payload"
    assert message.key == "ключ".encode()
    assert list(message.headers.items()) == list(headers.items())
    assert isinstance(message.headers["unsigned"], levada.U64)
    assert isinstance(message.headers["large"], levada.U64)
    assert type(message.headers["negative"]) is int
    assert (message.partition, message.offset, message.id) == (0, 0, b"0123456789abcdef")
    assert message.timestamp == moment
    assert message.timestamp_us == 1795417800123456
    assert message.append_time == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=message.append_time_us)
    assert message.append_time_us == receipt.append_time_us


def test_absent_differs_from_empty(client: levada.Client, topic: str) -> None:
    with client.producer(topic) as producer:
        producer.send(None)
        producer.send(b"", key=b"")
    absent, empty = everything(client, topic)
    assert (absent.payload, absent.key, absent.headers, absent.id) == (None, None, {}, None)
    assert (empty.payload, empty.key) == (b"", b"")
    with pytest.raises(BufferError):
        memoryview(absent)
    assert bytes(memoryview(empty)) == b""


def test_a_memoryview_is_read_only_and_outlives_its_message_and_client(client: levada.Client, topic: str) -> None:
    with client.producer(topic) as producer:
        producer.send(bytes(range(256)))
    (message,) = everything(client, topic)
    view = memoryview(message)
    assert view.readonly
    assert view.obj is message
    assert (view.format, view.itemsize, view.nbytes, view.c_contiguous) == ("B", 1, 256, True)
    with pytest.raises(TypeError):
        view[0] = 1
    part = view[10:20]
    del message, view
    client.close()
    assert bytes(part) == bytes(range(10, 20))


@pytest.mark.parametrize("payload", [b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4], "abc"])
def test_payloads_are_bytes_of_any_kind(client: levada.Client, topic: str, payload: object) -> None:
    with client.producer(topic) as producer:
        producer.send(payload)  # type: ignore[arg-type]
        producer.send_batch([payload, b"plain"])  # type: ignore[list-item]
    assert [message.payload for message in everything(client, topic)] == [b"abc", b"abc", b"plain"]


def test_a_received_message_can_be_sent_on_as_it_is(client: levada.Client, topic: str) -> None:
    with client.producer(topic) as producer:
        producer.send(b"once")
        (message,) = everything(client, topic)
        producer.send(memoryview(message))
    assert [message.payload for message in everything(client, topic)] == [b"once", b"once"]


def test_plain_payloads_and_whole_messages_share_a_batch_call(client: levada.Client, topic: str) -> None:
    with client.producer(topic) as producer:
        plain = producer.send_batch([b"%d" % number for number in range(5000)])
        assert sum(receipt.message_count for receipt in plain) == 5000
        assert plain[0].base_offset == 0
        mixed = producer.send_batch(
            iter([None, "text", levada.OutgoingMessage(b"whole", key="k", headers=[("h", 1)], timestamp_us=5)])
        )
        assert sum(receipt.message_count for receipt in mixed) == 3
        assert producer.send_batch([]) == []
    messages = everything(client, topic)
    assert [message.payload for message in messages[:5000]] == [b"%d" % number for number in range(5000)]
    assert [message.offset for message in messages] == list(range(5003))
    assert [message.payload for message in messages[5000:]] == [None, b"text", b"whole"]
    assert (messages[-1].key, messages[-1].headers, messages[-1].timestamp_us) == (b"k", {"h": 1}, 5)


def test_an_enqueued_message_is_copied_and_acknowledged_later(client: levada.Client, topic: str) -> None:
    with client.producer(topic, linger=timedelta(milliseconds=20)) as producer:
        payload = bytearray(b"before")
        delivery = producer.enqueue(payload)
        payload[:] = b"after!"
        assert delivery.wait().offset == 0
        assert delivery.try_receipt() == delivery.wait()
        deliveries = [producer.enqueue(b"%d" % number) for number in range(1000)]
        producer.flush()
        receipts = [delivery.try_receipt() for delivery in deliveries]
    assert [receipt.offset for receipt in receipts if receipt] == list(range(1, 1001))
    assert everything(client, topic)[0].payload == b"before"


def test_enqueue_waits_while_the_buffer_is_full(client: levada.Client, topic: str) -> None:
    with client.producer(topic, max_buffered_bytes=1 << 20) as producer:
        deliveries = [producer.enqueue(bytes(200_000)) for _ in range(50)]
        producer.flush()
    assert [delivery.wait().offset for delivery in deliveries] == list(range(50))


def test_receive_batch_gives_what_is_there_and_nothing_when_the_time_has_passed(
    client: levada.Client, topic: str
) -> None:
    with client.producer(topic) as producer, client.consumer(topic, from_="earliest") as consumer:
        assert consumer.receive_batch(timeout=0.05) == []
        assert not consumer.finished
        producer.send_batch([b"%d" % number for number in range(10)])
        first = consumer.receive_batch(max_messages=4)
        assert [message.payload for message in first] == [b"0", b"1", b"2", b"3"]
        rest: list[levada.Message] = []
        while len(rest) < 6:
            rest += consumer.receive_batch(timeout=timedelta(seconds=5))
        assert [message.payload for message in rest] == [b"4", b"5", b"6", b"7", b"8", b"9"]


def test_a_consumer_can_seek_pause_and_tell_its_position(client: levada.Client, topic: str) -> None:
    with client.producer(topic) as producer:
        producer.send_batch([b"%d" % number for number in range(10)])
    with client.consumer(topic, from_=levada.Position.offset(3)) as consumer:
        assert (consumer.topic, consumer.partitions) == (topic, [0])
        message = consumer.receive(timeout=5)
        assert message is not None
        assert message.offset == 3
        assert consumer.position(0) == 4
        consumer.seek(0, "offset(8)")
        assert [consumer.receive(timeout=5).offset for _ in range(2)] == [8, 9]  # type: ignore[union-attr]
        consumer.seek(0, levada.Position.last(1))
        assert consumer.receive(timeout=5).offset == 9  # type: ignore[union-attr]
        consumer.seek(0, levada.Position.earliest())
        consumer.pause(0)
        with pytest.raises(levada.LevadaTimeoutError):
            consumer.receive(timeout=0.1)
        consumer.resume(0)
        assert consumer.receive(timeout=5).offset == 0  # type: ignore[union-attr]


def test_positions_are_moments_too(client: levada.Client, topic: str) -> None:
    with client.producer(topic) as producer:
        producer.send(b"old")
        between = producer.send(b"new")
    at = levada.Position.timestamp(datetime.fromtimestamp(0, UTC) + timedelta(microseconds=between.append_time_us))
    assert client.admin.resolve_position(f"{topic}:0", at).offset == 1
    assert client.admin.resolve_position(f"{topic}:0", levada.Position.timestamp(2**62)).offset == 2


def test_iteration_follows_until_the_consumer_is_closed(client: levada.Client, topic: str) -> None:
    consumer = client.consumer(topic, from_="earliest")
    seen: list[bytes | None] = []
    outcome: list[BaseException] = []
    enough = threading.Event()

    def follow() -> None:
        try:
            for message in consumer:
                seen.append(message.payload)
                if len(seen) == 3:
                    enough.set()
        except levada.LevadaError as error:
            outcome.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    with client.producer(topic) as producer:
        for number in range(3):
            producer.send(b"%d" % number)
    assert enough.wait(10)
    consumer.close()
    thread.join(10)
    assert not thread.is_alive()
    assert seen == [b"0", b"1", b"2"]
    assert [error.name for error in outcome] == ["CLOSED"]  # type: ignore[attr-defined]


def test_a_second_receive_at_the_same_time_is_refused(client: levada.Client, topic: str) -> None:
    with client.consumer(topic) as consumer:
        names: list[str] = []

        def wait() -> None:
            # Whoever comes second is refused, and that may be this thread.
            while "CLOSED" not in names:
                try:
                    consumer.receive()
                except levada.LevadaError as error:
                    names.append(error.name)

        thread = threading.Thread(target=wait)
        thread.start()
        refused = ""
        while refused != "CONCURRENT_CALL":
            with pytest.raises(levada.LevadaError) as raised:
                consumer.receive(timeout=0.001)
            refused = raised.value.name
        consumer.close()
        thread.join(10)
        assert not thread.is_alive()
        assert set(names) <= {"CLOSED", "CONCURRENT_CALL"}


def test_admin_calls_give_records(client: levada.Client, server: Server, topic: str) -> None:
    stream = topic.split("/")[0]
    name = f"{stream}/other"
    made = client.admin.create_topic(
        name, partition_count=3, compression="zstd", retention_age=timedelta(days=2), retention_bytes=1 << 30
    )
    assert (made.stream, made.topic, made.options.partition_count, made.options.compression) == (stream, "other", 3, "zstd")
    assert made.options.retention_bytes == 1 << 30
    changed = client.admin.alter_topic(name, partition_count=4)
    assert changed.options.partition_count == 4
    described = client.admin.describe_topic(name)
    assert [partition.partition for partition in described.partitions] == [0, 1, 2, 3]
    assert [topic.topic for topic in client.admin.list_topics(stream=stream)] == ["other", "t"]
    assert stream in [each.stream for each in client.admin.list_streams()]
    client.admin.delete_topic(name)
    assert [topic.topic for topic in client.admin.describe_stream(stream).topics] == ["t"]
    with client.producer(topic) as producer:
        producer.send(b"gone")
    client.admin.purge_topic(topic)
    assert everything(client, topic) == []
    assert client.admin.delete_stream(stream, topics=True) == 1
    assert client.ping() > timedelta(0)
    info = client.server_info()
    assert info is not None
    assert (info.user, info.role, len(info.cluster_id)) == ("root", "admin", 16)
    assert client.admin.status() is not None


def test_users_and_tokens(client: levada.Client, server: Server) -> None:
    user = client.admin.create_user("ada", password="correct horse", role="member")
    assert (user.user, user.role) == ("ada", "member")
    with server.connect(user="ada", password="correct horse") as ada:
        with pytest.raises(levada.LevadaAuthError) as denied:
            ada.admin.create_topic("not/allowed")
        assert denied.value.name == "PERMISSION_DENIED"
        token = ada.admin.create_token("mine")
    assert "lvd_" in token.secret
    assert token.secret not in repr(token)
    with server.connect(token=token.secret) as ada:
        assert [each.name for each in ada.admin.list_tokens()] == ["mine"]
    client.admin.delete_user("ada")
    with pytest.raises(levada.LevadaAuthError):
        server.connect(token=token.secret)
