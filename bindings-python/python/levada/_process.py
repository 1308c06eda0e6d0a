"""What happens once per process: the core's log goes to `logging`, and clients that are open at exit are closed."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import warnings

from levada import _native

EXIT_TIMEOUT_S = 5.0
"""How long the exit of the interpreter waits for messages under way."""

logger = logging.getLogger("levada")
_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG - 5,
}

_lock = threading.Lock()
_bridge: tuple[_native.LogStream, threading.Thread] | None = None


def _core_level() -> str:
    """The finest level the logger lets through, as the core calls it."""
    level = logger.getEffectiveLevel()
    return next((name for name in ("trace", "debug", "info", "warn") if _LEVELS[name] >= level), "error")


def _pass_on(stream: _native.LogStream) -> None:
    while (lines := stream.wait()) is not None:
        for level, target, message, timestamp_us in lines:
            record_logger = logging.getLogger(target.replace("::", "."))
            number = _LEVELS.get(level.lower(), logging.INFO)
            if not record_logger.isEnabledFor(number):
                continue
            record = record_logger.makeRecord(record_logger.name, number, "levada", 0, message, (), None)
            record.created = timestamp_us / 1_000_000
            record_logger.handle(record)


def start() -> None:
    """Begins to pass the core's log on; called by every connect, effective once in a process."""
    global _bridge
    with _lock:
        if _bridge is None:
            stream = _native.LogStream(_core_level())
            thread = threading.Thread(target=_pass_on, args=(stream,), name="levada-log", daemon=True)
            thread.start()
            _bridge = (stream, thread)


def _stop() -> None:
    unsent = _native.close_all(EXIT_TIMEOUT_S)
    if unsent:
        warnings.warn(
            f"levada: the interpreter ends with {unsent} batches of messages left unsent; close clients or flush producers before",
            RuntimeWarning,
            stacklevel=1,
        )
    if _bridge is not None:
        stream, thread = _bridge
        stream.close()
        thread.join(1.0)


def _forget() -> None:
    global _bridge, _lock
    _lock = threading.Lock()
    _bridge = None


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
