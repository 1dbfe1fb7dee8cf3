"""The same work through the broker: a read at once, a write that a person approves. Everything that ran is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from bench.stage import BenchStage
from grantd.client import Result
from grantd.v1.action_pb2 import ActionState

READ: Final = "true"


class Brokered:
    """One agent with a client that stays connected. `ran` holds the id of every action that succeeded."""

    def __init__(self, stage: BenchStage) -> None:
        self._stage = stage
        self._grant = stage.grant()
        self._file = stage.folder / "written"
        self.ran: list[str] = []

    def read(self) -> Mapping[str, float]:
        """A command that only reads."""
        began = time.perf_counter()
        result = self._stage.agent.run(self._grant, READ)
        took = time.perf_counter() - began
        self._keep(result)
        return {"brokered read": took}

    def write(self) -> Mapping[str, float]:
        """A command that changes something: asked, signed at once, run. Also from the signed yes to the end alone."""
        self._file.unlink(missing_ok=True)
        began = time.perf_counter()
        result = self._stage.agent.run(self._grant, f"touch {self._file}")
        over = time.perf_counter()
        self._keep(result)
        if not self._file.exists():
            raise RuntimeError("the approved write left no trace on the target")
        decided = self._stage.approver.decided_at[result.action.id]
        return {"brokered write": over - began, "write from yes to end": over - decided}

    def _keep(self, result: Result) -> None:
        must_have_run(result)
        self.ran.append(result.action.id)


def must_have_run(result: Result) -> None:
    """Raises for a command that did not end with exit status 0."""
    if result.exit_status != 0 or result.action.state != ActionState.ACTION_STATE_SUCCEEDED:
        raise RuntimeError(f"a command did not run to a good end: {result.action}")
