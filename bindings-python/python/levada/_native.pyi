from datetime import datetime
from types import EllipsisType
from typing import Any, final

from levada._generated import Durability
from levada._message import Data, Headers, OutgoingMessage

__all__ = [
    "Change",
    "Client",
    "Consumer",
    "Delivery",
    "LogStream",
    "Message",
    "Operation",
    "Producer",
    "Queue",
    "close_all",
    "connect",
    "stats",
    "version",
]

def version() -> str: ...
def stats() -> dict[str, int]: ...
def close_all(timeout: float, /) -> int: ...
def connect(options: dict[str, Any], queue: Queue | None, token: int, /) -> Operation: ...
@final
class Operation:
    def wait(self) -> Any: ...
    def cancel(self) -> None: ...

@final
class Change:
    def take(self) -> Any: ...

@final
class Queue:
    def __new__(cls) -> Queue: ...
    def fd(self) -> int | None: ...
    def drain(self, max: int, /) -> list[tuple[int, Any, Exception | None]]: ...
    def close(self) -> None: ...

@final
class LogStream:
    def __new__(cls, level: str, /) -> LogStream: ...
    def wait(self) -> list[tuple[str, str, str, int]] | None: ...
    def close(self) -> None: ...

@final
class Client:
    def call(self, operation: str, arguments: dict[str, Any], queue: Queue | None, token: int, /) -> Operation: ...
    def server_info(self) -> dict[str, Any] | None: ...
    def producer(self, topic: str, options: dict[str, Any], queue: Queue | None, token: int, /) -> Operation: ...
    def consumer(self, topic: str, options: dict[str, Any], queue: Queue | None, token: int, /) -> Operation: ...
    def group_consumer(
        self, group: str, topics: list[str], options: dict[str, Any], queue: Queue | None, token: int, /
    ) -> Operation: ...
    def close(self, timeout: float, queue: Queue | None, token: int, /) -> Operation: ...

@final
class Producer:
    @property
    def topic(self) -> str: ...
    @property
    def partition_count(self) -> int: ...
    def send(
        self,
        payload: Data,
        key: Data,
        headers: Headers,
        timestamp_us: int | None,
        id: Data,
        partition: int | None,
        sequence: int | None,
        queue: Queue | None,
        token: int,
        /,
    ) -> Operation: ...
    def try_enqueue(
        self,
        payload: Data,
        key: Data,
        headers: Headers,
        timestamp_us: int | None,
        id: Data,
        partition: int | None,
        sequence: int | None,
        /,
    ) -> Delivery | None: ...
    def enqueue(
        self,
        payload: Data,
        key: Data,
        headers: Headers,
        timestamp_us: int | None,
        id: Data,
        partition: int | None,
        sequence: int | None,
        queue: Queue | None,
        token: int,
        /,
    ) -> Operation: ...
    def send_batch(
        self, messages: list[Data | OutgoingMessage], queue: Queue | None, token: int, /
    ) -> Operation: ...
    def flush(self, queue: Queue | None, token: int, /) -> Operation: ...
    def close(self, timeout: float, queue: Queue | None, token: int, /) -> Operation: ...

@final
class Delivery:
    def try_receipt(self) -> tuple[int, int | None, int, Durability, bool, bool] | None: ...
    def wait(self, queue: Queue | None, token: int, /) -> Operation: ...

@final
class Consumer:
    @property
    def topic(self) -> str: ...
    @property
    def partitions(self) -> list[int]: ...
    def arm(self, queue: Queue, token: int, /) -> None: ...
    def disarm(self) -> None: ...
    def take(self, max_messages: int, max_bytes: int, /) -> tuple[list[Message], bool]: ...
    def take_message(self) -> Message | EllipsisType | None: ...
    def receive(self, timeout: float | None, /) -> Message | None: ...
    def receive_batch(
        self, max_messages: int, max_bytes: int, timeout: float | None, /
    ) -> tuple[list[Message], bool]: ...
    def seek(self, partition: int, position: Any, topic: str | None, /) -> None: ...
    def position(self, partition: int, topic: str | None, /) -> int | None: ...
    def pause(self, partition: int, topic: str | None, /) -> None: ...
    def resume(self, partition: int, topic: str | None, /) -> None: ...
    def commit(self, queue: Queue | None, token: int, /) -> Operation: ...
    def commit_offsets(self, offsets: list[dict[str, Any]], queue: Queue | None, token: int, /) -> Operation: ...
    def committed(self, topic: str, partition: int, queue: Queue | None, token: int, /) -> Operation: ...
    def assignments(self) -> list[dict[str, Any]]: ...
    def next_change(self, timeout: float | None, queue: Queue | None, token: int, /) -> Operation: ...
    def close(self, timeout: float, queue: Queue | None, token: int, /) -> Operation: ...

@final
class Message:
    """A message received. ``memoryview(message)`` is a view of the payload without a copy."""

    @property
    def payload(self) -> bytes | None:
        """What it says: a copy made on each read. None differs from empty."""

    @property
    def key(self) -> bytes | None:
        """What it is about; None differs from empty."""

    @property
    def headers(self) -> dict[str, str | bytes | bool | int | float]:
        """Its headers, in order."""

    @property
    def id(self) -> bytes | None:
        """The application's own identity, 16 bytes."""

    @property
    def offset(self) -> int:
        """Its offset in the partition."""

    @property
    def topic(self) -> str:
        """Its topic, ``stream/topic``."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def timestamp_us(self) -> int:
        """When it happened, in microseconds since the Unix epoch."""

    @property
    def timestamp(self) -> datetime:
        """When it happened, in UTC."""

    @property
    def append_time_us(self) -> int:
        """When it was appended, in microseconds since the Unix epoch."""

    @property
    def append_time(self) -> datetime:
        """When it was appended, in UTC."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
