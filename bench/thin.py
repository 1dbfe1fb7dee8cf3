"""`grantctl run` as a process of its own, by the per-user helper that stays connected. Everything that ran is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from bench.brokered import READ
from bench.stage import BenchStage
from grantd.cli import thin
from grantd.cli.agentd.start import write_launcher

_START_SECONDS: Final = 30.0
_GRANTCTL: Final = Path(sys.executable).with_name("grantctl")


class Thin:
    """One helper; `ran` holds the id of every action that succeeded."""

    def __init__(self, stage: BenchStage) -> None:
        self._stage = stage
        self._grant = stage.grant()
        self._runtime = stage.folder / "run"
        self._launcher = stage.folder / "grantctl"
        self.ran: list[str] = []

    def __enter__(self) -> Self:
        self._runtime.mkdir(mode=0o700)
        write_launcher(self._launcher)
        self._environment = {**os.environ, "XDG_RUNTIME_DIR": str(self._runtime), "PYTHONUTF8": "1", thin.SWITCH: ""}
        with ExitStack() as stack:
            helper = subprocess.Popen(
                [_GRANTCTL, "agentd"], env=self._environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(helper.wait)
            stack.callback(helper.terminate)
            deadline = time.monotonic() + _START_SECONDS
            while not (self._runtime / "grantd" / thin.SOCKET).exists():
                if helper.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the helper does not start")
                time.sleep(0.05)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> Mapping[str, float]:
        """The program that pip installs."""
        return {"thin run": self._timed(_GRANTCTL)}

    def launched(self) -> Mapping[str, float]:
        """What `grantctl agentd --launcher` writes: the same without the interpreter's site packages."""
        return {"thin run, launcher": self._timed(self._launcher)}

    def _timed(self, program: Path) -> float:
        who = ["--profile", str(self._stage.agent_profile)]
        words = [str(program), *who, "run", "-o", "json", self._grant, "--", READ]
        began = time.perf_counter()
        done = subprocess.run(words, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        took = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"grantctl run exited with status {done.returncode}: {done.stderr!r}")
        self.ran.append(json.loads(done.stdout.splitlines()[-1])["finished"]["id"])
        return took
