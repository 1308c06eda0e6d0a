"""The blocking client. Every call may be made from any thread; Ctrl-C ends a call that waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from levada import _native, _process
from levada._generated import (
    AssignmentChange,
    BatchReceipt,
    ClientOptions,
    ConsumerOptions,
    GroupConsumerOptions,
    PartitionOffset,
    ProducerOptions,
    Receipt,
    ServerInfo,
    SyncAdmin,
    TopicPartition,
    pack_options,
)
from levada._message import OutgoingMessage, as_list, moment_us
from levada._values import Position, offset_records, optional_seconds, packed, seconds, topic_list

if TYPE_CHECKING:
    from levada._message import Data, Headers

Start = Callable[[_native.Queue | None, int], _native.Operation]


def connect(address: str | None = None, /, **options: Unpack[ClientOptions]) -> Client:
    """Connects and authenticates; raises after one attempt. Later losses are repaired in the background.

    Without ``address`` (or ``server``) and credentials they are discovered: ``LEVADA_SERVER`` and ``LEVADA_TOKEN_FILE``, then the selected saved context, then
    the file that a server on this machine leaves for its own user.
    """
    named = pack_options(options)
    if address is not None:
        named["server"] = address
    _process.start()
    return Client(_native.connect(named, None, 0).wait())


class Admin(SyncAdmin):
    """Streams, topics, users and tokens."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.Client) -> None:
        self._native = native

    def _call(self, operation: str, arguments: dict[str, Any]) -> Any:
        return self._native.call(operation, pack_options(arguments), None, 0).wait()


class Client:
    """A connected client. Made by `connect`."""

    __slots__ = ("_native", "admin")

    def __init__(self, native: _native.Client) -> None:
        self._native = native
        self.admin = Admin(native)

    def producer(self, topic: str, /, **options: Unpack[ProducerOptions]) -> Producer:
        """A producer to ``stream/topic``."""
        return Producer(self._native.producer(topic, pack_options(options), None, 0).wait())

    def consumer(self, topic: str, /, **options: Unpack[ConsumerOptions]) -> Consumer:
        """A consumer of ``stream/topic``, or of one partition with ``stream/topic:partition``."""
        return Consumer(self._native.consumer(topic, pack_options(options), None, 0).wait())

    def group_consumer(
        self, group: str, topics: str | Iterable[str], /, **options: Unpack[GroupConsumerOptions]
    ) -> Consumer:
        """A consumer that is a member of a group and reads its share of ``topics``: ``stream/topic``, with ``*`` for any run of characters but ``/``."""
        operation = self._native.group_consumer(group, topic_list(topics), pack_options(options), None, 0)
        return Consumer(operation.wait())

    def ping(self) -> timedelta:
        """Asks for a sign of life; gives the time it took."""
        return timedelta(microseconds=self._native.call("ping", {}, None, 0).wait())

    def server_info(self) -> ServerInfo | None:
        """What the server told at the last handshake."""
        info = self._native.server_info()
        return None if info is None else ServerInfo._from(info)  # pyright: ignore[reportPrivateUsage]

    def close(self, timeout: float | timedelta = 5.0) -> None:
        """Lets every producer settle what it has taken, then ends everything made from this client."""
        self._native.close(seconds(timeout), None, 0).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Delivery:
    """The acknowledgement to come of an enqueued message."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.Delivery) -> None:
        self._native = native

    def wait(self) -> Receipt:
        """Waits for it."""
        return self.try_receipt() or Receipt(*self._native.wait(None, 0).wait())

    def try_receipt(self) -> Receipt | None:
        """The receipt if it has come, None if it has not. Raises if the message failed."""
        fields = self._native.try_receipt()
        return None if fields is None else Receipt(*fields)


class Producer:
    """Sends messages to one topic. Made by `Client.producer`."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.Producer) -> None:
        self._native = native

    @property
    def topic(self) -> str:
        """The topic, ``stream/topic``."""
        return self._native.topic

    @property
    def partition_count(self) -> int:
        """Partitions of the topic."""
        return self._native.partition_count

    def send(
        self,
        payload: Data,
        *,
        key: Data = None,
        headers: Headers = None,
        timestamp: datetime | None = None,
        timestamp_us: int | None = None,
        id: Data = None,
        partition: int | None = None,
        sequence: int | None = None,
    ) -> Receipt:
        """Sends one message and waits for its acknowledgement."""
        us = moment_us(timestamp, timestamp_us)
        return Receipt(*self._native.send(payload, key, headers, us, id, partition, sequence, None, 0).wait())

    def enqueue(
        self,
        payload: Data,
        *,
        key: Data = None,
        headers: Headers = None,
        timestamp: datetime | None = None,
        timestamp_us: int | None = None,
        id: Data = None,
        partition: int | None = None,
        sequence: int | None = None,
    ) -> Delivery:
        """Copies one message into the open batch and gives its acknowledgement to come; waits only while the buffer is full."""
        us = moment_us(timestamp, timestamp_us)
        delivery = self._native.try_enqueue(payload, key, headers, us, id, partition, sequence)
        if delivery is None:
            delivery = self._native.enqueue(payload, key, headers, us, id, partition, sequence, None, 0).wait()
        return Delivery(delivery)

    def send_batch(self, messages: Iterable[Data | OutgoingMessage], /) -> list[BatchReceipt]:
        """Sends many messages and waits for their acknowledgements. Plain ``bytes`` cost least."""
        return [BatchReceipt(*fields) for fields in self._native.send_batch(as_list(messages), None, 0).wait()]

    def flush(self) -> None:
        """Waits until everything handed over before is settled; open batches do not linger."""
        self._native.flush(None, 0).wait()

    def close(self, timeout: float | timedelta = 5.0) -> None:
        """Takes no more messages and waits until those taken are settled."""
        self._native.close(seconds(timeout), None, 0).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Consumer:
    """Reads messages; iterating gives one after the other. Made by `Client.consumer` and `Client.group_consumer`."""

    __slots__ = ("_finished", "_native")

    def __init__(self, native: _native.Consumer) -> None:
        self._native = native
        self._finished = False

    @property
    def topic(self) -> str:
        """The topic, ``stream/topic``; of a member of a group, the topics and patterns."""
        return self._native.topic

    @property
    def partitions(self) -> list[int]:
        """The partitions it reads."""
        return self._native.partitions

    @property
    def finished(self) -> bool:
        """Whether the end asked for by ``until_end`` was reached."""
        return self._finished

    def receive(self, timeout: float | timedelta | None = None) -> _native.Message | None:
        """The next message; None at the end asked for by ``until_end``.

        Raises LevadaTimeoutError if none came in time. Given up, it loses nothing.
        """
        message = self._native.receive(optional_seconds(timeout))
        if message is None:
            self._finished = True
        return message

    def receive_batch(
        self,
        max_messages: int = 1000,
        max_bytes: int = 4 << 20,
        timeout: float | timedelta | None = 1.0,
    ) -> list[_native.Message]:
        """The next messages, at most ``max_messages`` and about ``max_bytes``, but at least one batch.

        Empty when the time has passed or the end is reached; `finished` tells which. Given up, it loses nothing.
        """
        messages, finished = self._native.receive_batch(max_messages, max_bytes, optional_seconds(timeout))
        self._finished = finished
        return messages

    def __iter__(self) -> Iterator[_native.Message]:
        return self

    def __next__(self) -> _native.Message:
        message = self._native.receive(None)
        if message is None:
            self._finished = True
            raise StopIteration
        return message

    def seek(self, partition: int, position: Position | str, topic: str | None = None) -> None:
        """Moves to another position in one partition. What was handed out is not taken back.

        Here and below ``topic`` is needed only where the consumer reads that partition of several topics.
        """
        self._native.seek(partition, packed(position), topic)
        self._finished = False

    def position(self, partition: int, topic: str | None = None) -> int | None:
        """Offset of the next message to be handed out; None until the server has told what the start came to."""
        return self._native.position(partition, topic)

    def pause(self, partition: int, topic: str | None = None) -> None:
        """Stops handing out messages of a partition; at most its share of the prefetched bytes is kept."""
        self._native.pause(partition, topic)

    def resume(self, partition: int, topic: str | None = None) -> None:
        """Goes on with a paused partition."""
        self._native.resume(partition, topic)

    def commit(self) -> None:
        """Stores how far the group is: everything handed out so far counts as done. Returns when it is durable.

        Partitions that went to another member meanwhile are left out.
        """
        self._native.commit(None, 0).wait()

    def commit_offsets(self, offsets: Iterable[PartitionOffset], /) -> None:
        """Stores offsets of the caller's choice, all or none: NOT_ASSIGNED if one is another member's.

        They may go back only after a seek.
        """
        packed_offsets = offset_records(offsets)
        self._native.commit_offsets(packed_offsets, None, 0).wait()

    def committed(self, topic: str, partition: int) -> int | None:
        """The offset the group has stored for a partition, asked of the server."""
        return self._native.committed(topic, partition, None, 0).wait()

    def assignments(self) -> list[TopicPartition]:
        """The partitions it reads now, by topic and number."""
        return [TopicPartition(**record) for record in self._native.assignments()]

    def next_change(self, timeout: float | timedelta | None = None) -> AssignmentChange | None:
        """The next change of what it reads, beginning with what it was assigned first; None when the time has passed.

        Changes wait until they are asked for. Given up, it loses nothing.
        """
        limit = optional_seconds(timeout)
        change = self._native.next_change(limit, None, 0).wait()
        return None if change is None else AssignmentChange._from(change.take())  # pyright: ignore[reportPrivateUsage]

    def close(self, timeout: float | timedelta = 5.0) -> None:
        """Ends the subscriptions; a receive under way fails with CLOSED."""
        self._native.close(seconds(timeout), None, 0).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
