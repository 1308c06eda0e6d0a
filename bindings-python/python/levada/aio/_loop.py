"""One queue of the core for each event loop, fetched when its descriptor becomes readable.

What is awaited is a plain future. A task that is cancelled takes its future along and the operation is told to give up;
messages are taken only after resumption, so that cancellation cannot lose one.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from levada import _native

Start = Callable[[_native.Queue, int], _native.Operation]

_MOST_EVENTS = 1024


class Inbox:
    """Where outcomes for one event loop arrive."""

    __slots__ = ("__weakref__", "_closed", "_tokens", "_waiting", "queue")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.queue = _native.Queue()
        self._tokens = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._closed = False
        descriptor = self.queue.fd()
        assert descriptor is not None, "a queue made for a loop has a descriptor"
        loop.add_reader(descriptor, self._fetch)

    def expect(self) -> tuple[int, asyncio.Future[Any]]:
        """A token for an outcome to come, and the future it will settle."""
        token = next(self._tokens)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        return token, future

    def forget(self, token: int) -> None:
        """Drops the outcome of that token, whenever it comes."""
        self._waiting.pop(token, None)

    async def run(self, start: Start) -> Any:
        """Starts an operation and awaits its outcome. Cancelled, the operation is told to give up."""
        token, future = self.expect()
        try:
            operation = start(self.queue, token)
            try:
                return await future
            except asyncio.CancelledError:
                operation.cancel()
                raise
        finally:
            self.forget(token)
            # An outcome that nobody awaits any more ends here, not with the traceback: what it gives back is there at once.
            del future

    def _fetch(self) -> None:
        for token, value, error in self.queue.drain(_MOST_EVENTS):
            future = self._waiting.pop(token, None)
            if future is None or future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    def close(self) -> None:
        """Ends it. Futures of a loop that is closed have nobody to wake: they are dropped."""
        if not self._closed:
            self._closed = True
            self.queue.close()
            self._waiting.clear()


_lock = threading.Lock()
_inboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Inbox] = weakref.WeakKeyDictionary()


def inbox() -> Inbox:
    """The inbox of the running loop. Those of loops closed meanwhile are closed too."""
    loop = asyncio.get_running_loop()
    found = _inboxes.get(loop)
    if found is not None:
        return found
    with _lock:
        for other in [other for other in _inboxes if other.is_closed()]:
            _inboxes.pop(other).close()
        made = _inboxes[loop] = Inbox(loop)
        weakref.finalize(loop, made.queue.close).atexit = False
        return made


def _forget() -> None:
    """A child of fork has none of its parent's loops."""
    global _inboxes, _lock
    _lock = threading.Lock()
    _inboxes = weakref.WeakKeyDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
