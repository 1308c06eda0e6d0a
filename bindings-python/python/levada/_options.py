"""Keyword arguments on their way to the core, which alone knows their ranges and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levada._generated import DURATIONS
from levada._values import milliseconds, packed


def pack(options: Mapping[str, object]) -> dict[str, Any]:
    """Options by the names the core knows: durations in milliseconds, ``from_`` without its underscore, no None."""
    named: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in DURATIONS:
            named[f"{name}_ms"] = milliseconds(value)
        else:
            named[name.removesuffix("_")] = packed(value)
    return named
