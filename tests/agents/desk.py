"""Where somebody works with grantctl: a profile, a runtime directory, and the helper there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grantd.cli import thin
from tests.agents.console import GRANTCTL, Ran
from tests.pace import Since

NOT_DONE = 99
# what a process says that was to do it by the helper or not at all
THIN = (
    f"import sys; from grantd.cli import thin; s = thin.attempt(sys.argv[1:]); sys.exit({NOT_DONE} if s is None else s)"
)


@dataclass(frozen=True, slots=True)
class Desk:
    """A profile, a runtime directory, and grantctl with both."""

    home: Path
    runtime: Path

    def environment(self, **more: str) -> dict[str, str]:
        """For programs that may find the helper."""
        return {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime), thin.SWITCH: "", "PYTHONUTF8": "1", **more}

    def words(self, *words: str) -> list[str]:
        """By the helper or not at all."""
        return [sys.executable, "-c", THIN, "--profile", str(self.home), *words]

    def by_helper(self, *words: str, stdin: bytes = b"", **env: str) -> Ran:
        """To its end."""
        return subprocess.run(
            self.words(*words), input=stdin, capture_output=True, check=False, timeout=30, env=self.environment(**env)
        )

    def without(self, *words: str, stdin: bytes = b"") -> Ran:
        """As if there were no helper."""
        return subprocess.run(
            [GRANTCTL, "--profile", str(self.home), *words], input=stdin, capture_output=True, check=False, timeout=30,
            env=self.environment(**{thin.SWITCH: "off"}),
        )  # fmt: skip


@contextlib.contextmanager
def helping(desk: Desk, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`grantctl agentd` in front."""
    with subprocess.Popen(
        [GRANTCTL, "agentd", *words], env=desk.environment(), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        path = desk.runtime / "grantd" / thin.SOCKET
        deadline = time.monotonic() + 20
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for something that will be so."""
    since = Since()
    while not holds():
        assert since.s() < seconds
        time.sleep(0.01)
