"""Programs run to their end, processes that are there, and waiting for what others do."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pace import Since


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """One finished program."""

    status: int
    out: str
    err: str

    def json(self) -> list[dict[str, Any]]:
        """Its standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


def finish(words: list[str], *, stdin: bytes | None = None, env: dict[str, str] | None = None) -> Spoken:
    """Runs a program to its end, without colours; what it says is decoded with escapes, never lost."""
    done = subprocess.run(
        words,
        input=b"" if stdin is None else stdin,
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, "NO_COLOR": "1", **(env or {})},
    )
    out, err = (text.decode(errors="backslashreplace") for text in (done.stdout, done.stderr))
    return Spoken(status=done.returncode, out=out, err=err)


def wait_until(holds: Callable[[], bool], seconds: float, every: float = 0.02) -> float:
    """The monotonic second at which it held; AssertionError where it does not in time."""
    since = Since()
    while not holds():
        assert since.s() < seconds, f"not within {seconds} s"
        time.sleep(every)
    return time.monotonic()


def processes_with(marker: str) -> list[int]:
    """Processes of this machine whose words hold `marker`, but for clients and brokers that only speak of it."""
    found = []
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker.encode() in words.read_bytes() and b"grantctl" not in words.read_bytes():
                found.append(int(words.parent.name))
    return found
