"""What needs no client that stays: a cold ssh through the broker, and commands on a target that is far away."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final, Self

from bench.brokered import READ, must_have_run
from bench.stage import FAR_TARGET, BenchStage
from bench.wire import DOOR, FAR, JUMP, Way, Ways


class Cold:
    """An ssh process that connects, runs `true` and ends; the grant's own connection to the target is there already."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    def jump(self) -> Mapping[str, float]:
        """Over a jump host, curve25519 on both connections."""
        return {"cold jump": self._took(JUMP)}

    def door(self) -> Mapping[str, float]:
        """Through the broker, curve25519."""
        return {"cold door": self._took(DOOR)}

    def _took(self, name: str) -> float:
        began = time.perf_counter()
        self._ways.run(Way(name), READ)
        return time.perf_counter() - began


class Distant:
    """The same sshd behind a wire of some length. `ran` holds the id of every action that succeeded."""

    def __init__(self, stage: BenchStage, ways: Ways) -> None:
        self._stage, self._ways = stage, ways
        self._control: Final = stage.folder / "far-mux"
        self._grant = stage.grant(FAR_TARGET)
        self._stack = ExitStack()
        self.ran: list[str] = []

    def __enter__(self) -> Self:
        """Starts the master."""
        self._master("-M", "-N", "-f")
        self._stack.callback(self._master, "-O", "exit")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self) -> Mapping[str, float]:
        """A read through the broker."""
        began = time.perf_counter()
        result = self._stage.agent.run(self._grant, READ)
        took = time.perf_counter() - began
        must_have_run(result)
        self.ran.append(result.action.id)
        return {"far brokered read": took}

    def mux(self) -> Mapping[str, float]:
        """A process over the master's connection."""
        began = time.perf_counter()
        self._ways.run(Way(FAR), READ, options=("-o", f"ControlPath={self._control}"))
        return {"far ssh mux": time.perf_counter() - began}

    def _master(self, *options: str) -> None:
        self._ways.finish(self._ways.words(Way(FAR), options=("-o", f"ControlPath={self._control}", *options)))
