"""One party to the scheduler: what runs on a target shares this machine with the broker, and would not elsewhere.

Linux gives each login session of sshd a scheduler group of its own (sched_autogroup_enabled). With 500 sessions that
are all ending, a broker on the same machine is one party of some hundred and has its turn every tenth of a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PLACES: Final = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))
"""Where the control groups of processors are: version 1, version 2."""
_GONE_S: Final = 5.0


@contextmanager
def one_party(pid: int) -> Iterator[bool]:
    """A process, and all that it starts from now on, together count as much as any other session of this machine.

    Yields whether: it wants root, and a control group of processors. Leave it when they have ended.
    """
    group = _made(pid)
    try:
        yield group is not None
    finally:
        if group is not None:
            _removed(group)


def _made(pid: int) -> Path | None:
    for place in _PLACES:
        group = place / f"grantd-bench-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if _taken_in(group, pid):
            return group
        group.rmdir()
    return None


def _taken_in(group: Path, pid: int) -> bool:
    if not any((group / name).exists() for name in ("cpu.shares", "cpu.weight")):
        return False
    try:
        (group / "cgroup.procs").write_text(str(pid))
    except OSError:  # as in a container, which may make groups and put nobody into them
        return False
    return True


def _removed(group: Path) -> None:
    until = time.monotonic() + _GONE_S
    while (group / "cgroup.procs").read_text() and time.monotonic() < until:
        time.sleep(0.05)
    group.rmdir()
