"""Servers for tests: a real one, with its data in a folder of its own that goes away with it.

    from levada.testing import Server

    with Server() as server, server.connect() as client:
        ...

The server comes from the ``levada-server`` wheel; ``LEVADA_SERVER_BIN`` names another.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import levada
import levada.aio
from levada._generated import ClientOptions
from levada.aio._client import Opening

__all__ = ["Server", "server_binary"]

_READY_S = 30.0
_STOP_S = 30.0


def server_binary() -> Path:
    """Where the server is: ``LEVADA_SERVER_BIN``, the ``levada-server`` wheel beside this package, or the path.

    Raises FileNotFoundError if there is none.
    """
    name = "levada-server.exe" if sys.platform == "win32" else "levada-server"
    if named := os.environ.get("LEVADA_SERVER_BIN"):
        return Path(named)
    schemes = [None, sysconfig.get_preferred_scheme("user")]
    for scheme in schemes:
        folder = sysconfig.get_path("scripts") if scheme is None else sysconfig.get_path("scripts", scheme)
        if (binary := Path(folder) / name).is_file():
            return binary
    if (found := shutil.which(name)) is not None:
        return Path(found)
    raise FileNotFoundError("no levada-server: run `pip install levada-server`, or set LEVADA_SERVER_BIN")


class Server:
    """A server on a free port of this machine, started by the constructor.

    ``arguments`` are passed to the binary as they are. With ``directory`` the data is kept there, and stays.
    """

    def __init__(
        self,
        *,
        directory: str | os.PathLike[str] | None = None,
        listen: str = "127.0.0.1:0",
        arguments: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if directory is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="levada-")
            directory = self._scratch.name
        self.directory = Path(directory)
        self._listen = listen
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None
        self.address = ""
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def token_file(self) -> Path:
        """File with the token of the user ``root``."""
        return self.directory / "data" / "root.token"

    @property
    def log_file(self) -> Path:
        """What the server wrote on standard error."""
        return self.directory / "server.log"

    @property
    def pid(self) -> int | None:
        """Process of the server; None while it is stopped."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts it again after `stop` or `kill`, with the same data at the same address."""
        command = [str(server_binary()), "--data-dir", str(self.directory / "data"), "--listen", self._listen]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LEVADA_")}
        # It must not announce itself to other clients of this user as the server of this machine.
        environment.pop("XDG_RUNTIME_DIR", None)
        environment |= {"HOME": str(self.directory), **self._environment}
        with self.log_file.open("a") as log:
            self._process = subprocess.Popen(
                [*command, *self._arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        watchdog = threading.Timer(_READY_S, self._process.kill)
        watchdog.start()
        try:
            assert self._process.stdout is not None, "standard output was piped"
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        listening = [word.removeprefix("tcp=") for word in line.split() if word.startswith("tcp=")]
        if not listening:
            self._end(kill=True)
            raise RuntimeError(f"levada-server did not start:\n{self.log_file.read_text()}")
        self.address = self._listen = listening[0]

    def connect(self, **options: Unpack[ClientOptions]) -> levada.Client:
        """A blocking client of it, as the user ``root`` unless options say otherwise."""
        return levada.connect(**self._options(options))

    def aconnect(self, **options: Unpack[ClientOptions]) -> Opening[levada.aio.Client]:
        """An asyncio client of it, as the user ``root`` unless options say otherwise."""
        return levada.aio.connect(**self._options(options))

    def _options(self, options: ClientOptions) -> ClientOptions:
        whole: ClientOptions = {"server": self.address, **options}
        if not {"user", "token", "token_file", "anonymous"} & options.keys():
            whole["token_file"] = str(self.token_file)
        return whole

    def stop(self) -> None:
        """Ends it in order; `start` goes on with its data."""
        self._end(kill=False)

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def close(self) -> None:
        """Ends it and removes its data, unless a directory was given."""
        self._end(kill=False)
        if self._scratch is not None:
            self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
