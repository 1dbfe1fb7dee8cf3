"""What the broker keeps in memory for a session that waits, and for a grant that lives."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.stage import BenchStage
from bench.wire import DOOR, Way, Ways

_KIB: Final = 1024
_UNTIL_FULL: Final = 3
"""How many times the grants that are counted are made before: 2 MiB a connection is what SQLite keeps of pages."""
_SETTLED: Final = b"."


class Memory:
    """Sessions are ssh processes: their own memory is not the broker's."""

    def __init__(self, stage: BenchStage, ways: Ways, *, sessions: int, grants: int) -> None:
        self._stage, self._ways, self._sessions, self._grants = stage, ways, sessions, grants

    def pooled(self) -> Mapping[str, float]:
        """Reads of one grant that wait for stdin, on the one connection of their grant."""
        return {"memory pooled KiB": self._each(self._sessions, "cat")}

    def own(self) -> Mapping[str, float]:
        """Writes, each with a connection and a certificate of its own."""
        command = f"touch {self._stage.folder / 'waits'}; printf {_SETTLED.decode()}; sleep 30"
        return {"memory own KiB": self._each(self._sessions, command, told=True)}

    def grant(self) -> Mapping[str, float]:
        """Grants that nobody uses yet. Those before them fill the caches of the database, which stay as large."""
        for _ in range(_UNTIL_FULL * self._grants):
            self._stage.grant()
        before = self._resident()
        for _ in range(self._grants):
            self._stage.grant()
        return {"memory grant KiB": max(0.0, self._resident() - before) / self._grants}

    def _each(self, count: int, command: str, *, told: bool = False) -> float:
        with ExitStack() as stack:
            self._settled(stack.enter_context(self._ways.open(Way(DOOR), command)), told=told)  # what the first costs
            before = self._resident()
            for _ in range(count):
                self._settled(stack.enter_context(self._ways.open(Way(DOOR), command)), told=told)
            return max(0.0, self._resident() - before) / count

    def _settled(self, process: subprocess.Popen[bytes], *, told: bool) -> None:
        """Returns when its command runs."""
        assert process.stdin is not None
        assert process.stdout is not None
        if not told:
            process.stdin.write(_SETTLED)
        if process.stdout.read(1) != _SETTLED:
            raise RuntimeError("a session that should wait has ended")

    def _resident(self) -> float:
        pages = int(Path(f"/proc/{self._stage.broker_pid}/statm").read_text().split()[1])
        return pages * 4096 / _KIB
