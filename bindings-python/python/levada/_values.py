"""Small values of the public API that only Python needs: unsigned integers, moments, positions, durations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from levada._generated import PartitionOffset

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""What timestamps count from."""

_MICROSECOND = timedelta(microseconds=1)


class U64(int):
    """An integer that is unsigned, as the value of a header.

    A plain ``int`` is sent as i64 if it fits and as u64 otherwise; headers of type u64 are received as ``U64``.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"U64({int(self)})"


def datetime_of(timestamp_us: int) -> datetime:
    """The moment that many microseconds after the Unix epoch, in UTC.

    Raises OverflowError for moments before the year 1 or after 9999.
    """
    return EPOCH + timedelta(microseconds=timestamp_us)


def timestamp_us_of(moment: datetime) -> int:
    """Microseconds from the Unix epoch to an aware moment."""
    return (moment - EPOCH) // _MICROSECOND


def milliseconds(duration: object) -> object:
    """A duration as the core takes it; what is none is left for the core to refuse."""
    if isinstance(duration, timedelta):
        return duration / timedelta(milliseconds=1)
    if isinstance(duration, (int, float)) and not isinstance(duration, bool):
        return duration * 1000
    return duration


def seconds(duration: float | timedelta) -> float:
    """A time limit as the native layer takes it."""
    limit = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if limit >= 0:
        return limit
    from levada._errors import usage_error

    raise usage_error("timeout", "a timeout is a number of seconds, 0 or more")


def optional_seconds(duration: float | timedelta | None) -> float | None:
    """As `seconds`, where none means without end."""
    return None if duration is None else seconds(duration)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a partition.

    Where a position is expected, its text does as well: ``"earliest"``, ``"latest"``, ``"offset(5)"``,
    ``"timestamp(1700000000000000)"``, ``"last(3)"``.
    """

    kind: str
    value: int = 0

    @staticmethod
    def earliest() -> Position:
        """The lowest offset kept."""
        return Position("earliest")

    @staticmethod
    def latest() -> Position:
        """After the last message."""
        return Position("latest")

    @staticmethod
    def offset(offset: int) -> Position:
        """That offset."""
        return Position("offset", offset)

    @staticmethod
    def timestamp(moment: datetime | int) -> Position:
        """The first message appended at that moment or later: an aware datetime, or microseconds since the Unix epoch."""
        return Position("timestamp", moment if isinstance(moment, int) else timestamp_us_of(moment))

    @staticmethod
    def last(count: int) -> Position:
        """That many messages before the end."""
        return Position("last", count)

    @staticmethod
    def stored() -> Position:
        """Where the group has stored that it is."""
        return Position("stored")

    def __str__(self) -> str:
        return self.kind if self.kind in ("earliest", "latest", "stored") else f"{self.kind}({self.value})"


def topic_list(topics: str | Iterable[str]) -> list[str]:
    """Topics and patterns; a single one does as well."""
    return [topics] if isinstance(topics, str) else list(topics)


def offset_records(offsets: Iterable[PartitionOffset]) -> list[dict[str, Any]]:
    """Offsets as the native layer takes them."""
    return [{"topic": item.topic, "partition": item.partition, "offset": item.offset} for item in offsets]


def packed(value: Any) -> Any:
    """An option or argument as the native layer takes it."""
    if isinstance(value, Position):
        return str(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(name): packed(item) for name, item in items}
    if isinstance(value, datetime):
        return timestamp_us_of(value)
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    return value
