"""Files both ways with stock sftp: over a jump host, and through the broker, which records operations and digests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from bench.logs import Sample
from bench.machine import cpu_s
from bench.stage import BenchStage
from bench.wire import DOOR, JUMP, Way, Ways

_GB: Final = 1e9
_MB: Final = 1e6


class Transfers:
    """One file, there and back; its digest is looked at after the clock stopped."""

    def __init__(self, stage: BenchStage, ways: Ways, sample: Sample) -> None:
        self._stage, self._ways, self._sample = stage, ways, sample
        self._batch, self._copy = stage.folder / "sftp.batch", stage.folder / "sftp.copy"

    def jump(self) -> Mapping[str, float]:
        """Both ways over a jump host."""
        return self._both(JUMP)

    def door(self) -> Mapping[str, float]:
        """Both ways through the broker, on a target where neither asks a person."""
        before = cpu_s(self._stage.broker_pid)
        found = self._both(DOOR)
        spent = cpu_s(self._stage.broker_pid) - before
        return {**found, "sftp cpu s/GB": spent / (2 * self._sample.size / _GB)}

    def _both(self, name: str) -> Mapping[str, float]:
        return {
            f"sftp get {name} rate": self._moved(name, f"get {self._sample.path} {self._copy}"),
            f"sftp put {name} rate": self._moved(name, f"put {self._sample.path} {self._copy}"),
        }

    def _moved(self, name: str, line: str) -> float:
        self._copy.unlink(missing_ok=True)
        self._batch.write_text(line + "\n")
        began = time.perf_counter()
        self._ways.finish(self._ways.sftp_words(Way(name), self._batch))
        took = time.perf_counter() - began
        self._sample.must_be(self._copy)
        return self._sample.size / _MB / took
