"""From what the core reports to the exception of its class."""

from __future__ import annotations

from levada._generated import ERROR_CLASSES, LevadaError


def error_of(
    code: int,
    name: str,
    class_name: str,
    retriable: bool,
    maybe_applied: bool,
    retry_after_ms: int,
    message: str,
    details: list[tuple[str, str]],
) -> LevadaError:
    """The exception for an error. A class newer than this package is the base."""
    exception = ERROR_CLASSES.get(class_name, LevadaError)
    return exception(code, name, class_name, retriable, maybe_applied, retry_after_ms, message, dict(details))
