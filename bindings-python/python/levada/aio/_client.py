"""The client for asyncio. Nothing here blocks the loop; the loop is looked up at each call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from datetime import datetime, timedelta
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, Unpack

from levada import _native, _process
from levada._generated import (
    AssignmentChange,
    AsyncAdmin,
    BatchReceipt,
    ClientOptions,
    ConsumerOptions,
    GroupConsumerOptions,
    PartitionOffset,
    ProducerOptions,
    Receipt,
    ServerInfo,
    TopicPartition,
    pack_options,
)
from levada._message import OutgoingMessage, as_list, moment_us
from levada._values import Position, offset_records, optional_seconds, packed, seconds, topic_list
from levada.aio._loop import inbox

if TYPE_CHECKING:
    from levada._message import Data, Headers

_TAKES_IN_A_ROW = 256
"""After so many messages that were there at once, other tasks get a turn."""


class _Closable(Protocol):
    async def aclose(self) -> None: ...


T = TypeVar("T", bound=_Closable)


class Opening(Generic[T]):
    """Something being opened: ``await`` it, or use it in ``async with``, which closes it at the end."""

    __slots__ = ("_open", "_opened")

    def __init__(self, open: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._open = open
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._open().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.aclose()


class _Scope:
    """``async with`` on what is open already."""

    __slots__ = ()

    async def aclose(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def connect(address: str | None = None, /, **options: Unpack[ClientOptions]) -> Opening[Client]:
    """Connects and authenticates; raises after one attempt. Later losses are repaired in the background.

    Without ``address`` (or ``server``) and credentials they are discovered: ``LEVADA_SERVER`` and ``LEVADA_TOKEN_FILE``, then the selected saved context, then
    the file that a server on this machine leaves for its own user.
    """
    named = pack_options(options)
    if address is not None:
        named["server"] = address

    async def open() -> Client:
        _process.start()
        return Client(await inbox().run(lambda queue, token: _native.connect(named, queue, token)))

    return Opening(open)


class Admin(AsyncAdmin):
    """Streams, topics, users and tokens."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.Client) -> None:
        self._native = native

    async def _call(self, operation: str, arguments: dict[str, Any]) -> Any:
        named = pack_options(arguments)
        return await inbox().run(lambda queue, token: self._native.call(operation, named, queue, token))


class Client(_Scope):
    """A connected client. Made by `connect`."""

    __slots__ = ("_native", "admin")

    def __init__(self, native: _native.Client) -> None:
        self._native = native
        self.admin = Admin(native)

    def producer(self, topic: str, /, **options: Unpack[ProducerOptions]) -> Opening[Producer]:
        """A producer to ``stream/topic``."""
        named = pack_options(options)

        async def open() -> Producer:
            return Producer(await inbox().run(lambda queue, token: self._native.producer(topic, named, queue, token)))

        return Opening(open)

    def consumer(self, topic: str, /, **options: Unpack[ConsumerOptions]) -> Opening[Consumer]:
        """A consumer of ``stream/topic``, or of one partition with ``stream/topic:partition``."""
        named = pack_options(options)

        async def open() -> Consumer:
            return Consumer(await inbox().run(lambda queue, token: self._native.consumer(topic, named, queue, token)))

        return Opening(open)

    def group_consumer(
        self, group: str, topics: str | Iterable[str], /, **options: Unpack[GroupConsumerOptions]
    ) -> Opening[Consumer]:
        """A consumer that is a member of a group and reads its share of ``topics``: ``stream/topic``, with ``*`` for any run of characters but ``/``."""
        named, several = pack_options(options), topic_list(topics)

        async def open() -> Consumer:
            begin = self._native.group_consumer
            return Consumer(await inbox().run(lambda queue, token: begin(group, several, named, queue, token)))

        return Opening(open)

    async def ping(self) -> timedelta:
        """Asks for a sign of life; gives the time it took."""
        took = await inbox().run(lambda queue, token: self._native.call("ping", {}, queue, token))
        return timedelta(microseconds=took)

    def server_info(self) -> ServerInfo | None:
        """What the server told at the last handshake."""
        info = self._native.server_info()
        return None if info is None else ServerInfo._from(info)  # pyright: ignore[reportPrivateUsage]

    async def aclose(self, timeout: float | timedelta = 5.0) -> None:
        """Lets every producer settle what it has taken, then ends everything made from this client."""
        await inbox().run(lambda queue, token: self._native.close(seconds(timeout), queue, token))


class Delivery:
    """The acknowledgement to come of an enqueued message: ``await`` it."""

    __slots__ = ("_native",)

    def __init__(self, native: _native.Delivery) -> None:
        self._native = native

    async def wait(self) -> Receipt:
        """Waits for it."""
        return self.try_receipt() or Receipt(*await inbox().run(self._native.wait))

    def __await__(self) -> Generator[Any, Any, Receipt]:
        return self.wait().__await__()

    def try_receipt(self) -> Receipt | None:
        """The receipt if it has come, None if it has not. Raises if the message failed."""
        fields = self._native.try_receipt()
        return None if fields is None else Receipt(*fields)


class Producer(_Scope):
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

    async def send(
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
        """Sends one message and waits for its acknowledgement. Cancelled, the message may be sent all the same."""
        us = moment_us(timestamp, timestamp_us)
        fields = await inbox().run(
            lambda queue, token: self._native.send(payload, key, headers, us, id, partition, sequence, queue, token)
        )
        return Receipt(*fields)

    async def enqueue(
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
            delivery = await inbox().run(
                lambda queue, token: self._native.enqueue(payload, key, headers, us, id, partition, sequence, queue, token)
            )
        return Delivery(delivery)

    async def send_batch(self, messages: Iterable[Data | OutgoingMessage], /) -> list[BatchReceipt]:
        """Sends many messages and waits for their acknowledgements. Plain ``bytes`` cost least."""
        batch = as_list(messages)
        receipts = await inbox().run(lambda queue, token: self._native.send_batch(batch, queue, token))
        return [BatchReceipt(*fields) for fields in receipts]

    async def flush(self) -> None:
        """Waits until everything handed over before is settled; open batches do not linger."""
        await inbox().run(self._native.flush)

    async def aclose(self, timeout: float | timedelta = 5.0) -> None:
        """Takes no more messages and waits until those taken are settled."""
        await inbox().run(lambda queue, token: self._native.close(seconds(timeout), queue, token))


class Consumer(_Scope):
    """Reads messages; ``async for`` gives one after the other. Made by `Client.consumer` and `Client.group_consumer`."""

    __slots__ = ("_finished", "_native", "_taken_in_a_row", "_waiting")

    def __init__(self, native: _native.Consumer) -> None:
        self._native = native
        self._finished = False
        self._waiting = False
        self._taken_in_a_row = 0

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

    async def receive(self, timeout: float | timedelta | None = None) -> _native.Message | None:
        """The next message; None at the end asked for by ``until_end``.

        Raises LevadaTimeoutError if none came in time. Cancelled, it loses nothing.
        """
        message = await self._take_message()
        if isinstance(message, EllipsisType):
            message = await self._wait(self._native.take_message, _is_something, optional_seconds(timeout))
        if isinstance(message, EllipsisType):
            # The core makes the error of a time that has passed.
            return self._native.receive(0.0)
        if message is None:
            self._finished = True
        return message

    async def receive_batch(
        self,
        max_messages: int = 1000,
        max_bytes: int = 4 << 20,
        timeout: float | timedelta | None = 1.0,
    ) -> list[_native.Message]:
        """The next messages, at most ``max_messages`` and about ``max_bytes``, but at least one batch.

        Empty when the time has passed or the end is reached; `finished` tells which. Cancelled, it loses nothing.
        """

        def take() -> tuple[list[_native.Message], bool]:
            return self._native.take(max_messages, max_bytes)

        await self._give_way()
        taken: tuple[list[_native.Message], bool] = ([], False)
        if not self._waiting:
            taken = take()
        if not any(taken):
            taken = await self._wait(take, any, optional_seconds(timeout))
        messages, self._finished = taken
        return messages

    def __aiter__(self) -> AsyncIterator[_native.Message]:
        return self

    async def __anext__(self) -> _native.Message:
        message = await self.receive()
        if message is None:
            raise StopAsyncIteration
        return message

    async def _give_way(self) -> None:
        """Lets other tasks run now and then; before the take, so that a cancellation finds nothing taken."""
        self._taken_in_a_row += 1
        if self._taken_in_a_row >= _TAKES_IN_A_ROW:
            self._taken_in_a_row = 0
            await asyncio.sleep(0)

    async def _take_message(self) -> _native.Message | EllipsisType | None:
        await self._give_way()
        # While another task waits, a take would end its wait: the attempt to wait too is what fails.
        return ... if self._waiting else self._native.take_message()

    async def _wait(self, take: Callable[[], Any], found: Callable[[Any], bool], timeout: float | None) -> Any:
        """Takes once there is something, or when the time has passed."""
        mine = inbox()
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            token, ready = mine.expect()
            try:
                self._native.arm(mine.queue, token)
            except BaseException:
                mine.forget(token)
                raise
            self._waiting = True
            timer = None if deadline is None else loop.call_at(deadline, _settle, ready)
            try:
                await ready
            except BaseException:
                self._native.disarm()
                raise
            finally:
                self._waiting = False
                self._taken_in_a_row = 0
                mine.forget(token)
                if timer is not None:
                    timer.cancel()
            taken = take()
            if found(taken) or (deadline is not None and loop.time() >= deadline):
                return taken

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

    async def commit(self) -> None:
        """Stores how far the group is: everything handed out so far counts as done. Returns when it is durable.

        Partitions that went to another member meanwhile are left out.
        """
        await inbox().run(lambda queue, token: self._native.commit(queue, token))

    async def commit_offsets(self, offsets: Iterable[PartitionOffset], /) -> None:
        """Stores offsets of the caller's choice, all or none: NOT_ASSIGNED if one is another member's.

        They may go back only after a seek.
        """
        packed_offsets = offset_records(offsets)
        await inbox().run(lambda queue, token: self._native.commit_offsets(packed_offsets, queue, token))

    async def committed(self, topic: str, partition: int) -> int | None:
        """The offset the group has stored for a partition, asked of the server."""
        return await inbox().run(lambda queue, token: self._native.committed(topic, partition, queue, token))

    def assignments(self) -> list[TopicPartition]:
        """The partitions it reads now, by topic and number."""
        return [TopicPartition(**record) for record in self._native.assignments()]

    async def next_change(self, timeout: float | timedelta | None = None) -> AssignmentChange | None:
        """The next change of what it reads, beginning with what it was assigned first; None when the time has passed.

        Changes wait until they are asked for. Cancelled at any point, it loses nothing.
        """
        limit = optional_seconds(timeout)
        change = await inbox().run(lambda queue, token: self._native.next_change(limit, queue, token))
        return None if change is None else AssignmentChange._from(change.take())  # pyright: ignore[reportPrivateUsage]

    async def aclose(self, timeout: float | timedelta = 5.0) -> None:
        """Ends the subscriptions; a receive under way fails with CLOSED."""
        await inbox().run(lambda queue, token: self._native.close(seconds(timeout), queue, token))


def _is_something(taken: object) -> bool:
    return taken is not ...


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
