"""Messages on their way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias, Union, cast

from levada._values import timestamp_us_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

Data: TypeAlias = Union["Buffer", str, None]
"""Bytes of any kind; text is sent as UTF-8; None is absent, which differs from empty."""

HeaderValue: TypeAlias = Union[str, "Buffer", bool, int, float]
"""A named value: an ``int`` is i64 where it fits, else u64; `levada.U64` is always u64."""

Headers: TypeAlias = Mapping[str, HeaderValue] | Iterable[tuple[str, HeaderValue]] | None
"""Named values in order; names are unique."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message for `send_batch`, where a payload alone does not say it all."""

    payload: Data
    key: Data = None
    headers: Headers = None
    timestamp_us: int | None = None
    id: Data = None
    partition: int | None = None
    sequence: int | None = None
    """Its number, for a producer with ``external_sequence``: above that of every message before it in its partition, gaps
    allowed, at most ``2**64 - 2``. Such a producer needs one with each message, and others take none."""


def moment_us(timestamp: datetime | None, timestamp_us: int | None) -> int | None:
    """One moment from its two forms; the number wins."""
    if timestamp_us is not None or timestamp is None:
        return timestamp_us
    return timestamp_us_of(timestamp)


def as_list(messages: Iterable[Data | OutgoingMessage]) -> list[Data | OutgoingMessage]:
    """Messages of a batch as the native layer takes them."""
    return cast("list[Data | OutgoingMessage]", messages) if type(messages) is list else list(messages)
