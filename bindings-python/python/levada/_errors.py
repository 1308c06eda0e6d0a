"""Errors that this layer raises by itself, for what never reaches the core."""

from __future__ import annotations

from levada._generated import ErrorCode, LevadaUsageError


def usage_error(argument: str, message: str) -> LevadaUsageError:
    """The error of an argument that cannot be converted."""
    details = {"argument": argument}
    return LevadaUsageError(ErrorCode.CLIENT_USAGE, "CLIENT_USAGE", "usage", False, False, 0, message, details)
