"""Much output of one command, by each way: MB a second and the broker's processor, every byte checked."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.logs import Sample
from bench.machine import cpu_s
from bench.stage import BenchStage
from bench.wire import DIRECT, DOOR, JUMP, LEGS, Way, Ways

_MEMORY: Final = Path("/dev/shm")  # noqa: S108  what arrives is kept in memory and hashed after the clock stopped
_GB: Final = 1e9
_MB: Final = 1e6


class Bulk:
    """One file of text, read through ssh as a process."""

    def __init__(self, stage: BenchStage, ways: Ways, sample: Sample, *, legs_pid: int) -> None:
        self._stage, self._ways, self._sample, self._legs_pid = stage, ways, sample, legs_pid
        self._kept = _MEMORY if _MEMORY.is_dir() else stage.folder

    def direct(self) -> Mapping[str, float]:
        """No proxy at all."""
        return {"bulk direct rate": self._rate(Way(DIRECT))}

    def jump(self) -> Mapping[str, float]:
        """A jump host, the broker's cipher and key exchange on both connections."""
        return {"bulk jump rate": self._rate(Way(JUMP))}

    def jump_own(self) -> Mapping[str, float]:
        """A jump host as people have it."""
        return {"bulk jump defaults rate": self._rate(Way(JUMP, own=True))}

    def recorded(self) -> Mapping[str, float]:
        """Through the broker, recorded."""
        return self._through(DOOR, "recorded", self._stage.broker_pid)

    def legs(self) -> Mapping[str, float]:
        """Through the broker's two legs with nothing between them."""
        return self._through(LEGS, "legs", self._legs_pid)

    def _through(self, name: str, called: str, pid: int) -> Mapping[str, float]:
        before = cpu_s(pid)
        rate = self._rate(Way(name))
        spent = cpu_s(pid) - before
        return {f"bulk {called} rate": rate, f"bulk {called} cpu s/GB": spent / (self._sample.size / _GB)}

    def _rate(self, way: Way) -> float:
        """MB a second of a command that ends well; raises where a byte is missing or another."""
        with tempfile.NamedTemporaryFile(dir=self._kept) as kept:
            began = time.perf_counter()
            self._ways.finish(self._ways.words(way, f"cat {self._sample.path}"), stdout=kept.file)
            took = time.perf_counter() - began
            self._sample.must_be(Path(kept.name))
        return self._sample.size / _MB / took
