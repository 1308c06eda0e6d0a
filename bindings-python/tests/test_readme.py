"""The programs of the README do what it says, in an empty directory, and find the server by themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from levada.testing import Server

README = Path(__file__).parent.parent / "README.md"


def programs() -> dict[str, str]:
    """The README's programs, by the heading they stand under."""
    found: dict[str, str] = {}
    for section in README.read_text().split("\n## ")[1:]:
        for block in re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE):
            found.setdefault(section.splitlines()[0], block)
    return found


def test_the_programs_of_the_readme_run(tmp_path: Path) -> None:
    names = programs()
    with Server() as server:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LEVADA_", "XDG_"))}
        environment["HOME"] = str(server.directory)

        def run(heading: str) -> str:
            command = [sys.executable, "-c", names[heading]]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stderr) == (0, "")
            return done.stdout

        told = "partition 0 offset 0\n0 b'alice' b'a pound of apples' {'priority': 2}\n"
        assert re.sub(r"^partition \d", "partition 0", run("Quick start")) == told
        assert "b'a pound of pears'" in run("asyncio")


def test_the_test_of_the_readme_passes() -> None:
    space: dict[str, object] = {}
    exec(programs()["Tests of your own"], space)  # noqa: S102
    test_orders = space["test_orders"]
    assert callable(test_orders)
    test_orders()
