"""How long something took, without what a busy machine made it wait: so a promise of time is held to the product alone.

Many programs run on the machine that runs the tests. A test that promises "within a second" asks `Since`, which takes
off the time in which some task waited for a processor or the disk, or another machine had the processor, as the kernel
counts it. On a quiet machine that is nothing, and the bound is the promise to the letter.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

_TOTAL = re.compile(r"^some .*total=(\d+)$", re.MULTILINE)
_STEAL = 8
"""Which number of /proc/stat's first line counts what other machines took, in ticks of all processors."""


class Since:
    """Time from now on, in seconds."""

    def __init__(self) -> None:
        self._stalled, self._began = _stalled_s(), time.monotonic()

    def s(self) -> float:
        """Seconds since it was made in which nothing made anybody wait: for "not later than"."""
        return max(0.0, self.wall_s() - (_stalled_s() - self._stalled))

    def wall_s(self) -> float:
        """Seconds since it was made: for "not before"."""
        return time.monotonic() - self._began


def _stalled_s() -> float:
    """Seconds, since the machine started, in which a task waited for a processor or a disk; 0 where nobody counts."""
    try:
        waited = sum(_total_us(Path("/proc/pressure", name)) for name in ("cpu", "io")) / 1_000_000
        stolen = int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[_STEAL]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):  # a kernel without them: the bound is the promise to the letter
        return 0.0
    return waited + stolen


def _total_us(pressure: Path) -> int:
    found = _TOTAL.search(pressure.read_text())
    return int(found[1]) if found else 0
