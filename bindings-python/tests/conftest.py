"""One server for all tests; each test has a stream of its own."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import levada
import pytest
from levada import _native
from levada.testing import Server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[levada.Client]:
    with server.connect() as client:
        yield client


@pytest.fixture
def topic(client: levada.Client) -> str:
    """A topic of one partition, which acknowledges from memory."""
    name = f"s{os.getpid()}-{next(_numbers)}/t"
    client.admin.create_topic(name, durability="memory")
    return name


@pytest.fixture
def run() -> Callable[..., object]:
    """Runs a coroutine in a loop of its own, within a time no test should need."""

    def run(main: object) -> object:
        async def bounded() -> object:
            async with asyncio.timeout(60):
                return await main  # type: ignore[misc]

        return asyncio.run(bounded())

    return run


class Script:
    """A program run by an interpreter of its own, with the server's address and token in its environment."""

    def __init__(self, server: Server) -> None:
        self._environment = {
            **os.environ,
            "LEVADA_SERVER": server.address,
            "LEVADA_TOKEN_FILE": str(server.token_file),
            "PYTHONFAULTHANDLER": "1",
        }

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-c", textwrap.dedent(program), *arguments]
        return subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, program: str, *arguments: str) -> tuple[int, str, str]:
        with self.start(program, *arguments) as process:
            try:
                out, err = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            return process.returncode, out, err


@pytest.fixture
def script(server: Server) -> Script:
    return Script(server)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails the test if a handle of the core outlives it; what the core does aside may take a moment."""
    gc.collect()
    before = _native.stats()

    def left() -> dict[str, int]:
        gc.collect()
        return {name: count for name, count in _native.stats().items() if count > before[name]}

    yield
    settle(lambda: not left())
    assert left() == {}


def settle(done: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Waits until something holds; false if it did not in time."""
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True
