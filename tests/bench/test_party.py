"""What shares this machine with a broker that is measured, and would not elsewhere, counts as one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.party import one_party


def _groups(pid: int) -> set[str]:
    return {line.rpartition(":")[2] for line in Path(f"/proc/{pid}/cgroup").read_text().split()}


def test_a_process_and_what_it_starts_are_one_party() -> None:
    """And nothing of the group is left behind; where that may not be done nothing is changed, and it is said."""
    with subprocess.Popen(
        ["sh", "-c", "read x; sleep 60 & echo $!; wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        with one_party(shell.pid) as alike:
            shell.stdin.write("\n")
            shell.stdin.flush()
            child = int(shell.stdout.readline())
            ours = f"grantd-bench-{os.getpid()}"
            together = [any(ours in group for group in _groups(pid)) for pid in (shell.pid, child)]
            os.kill(child, 15)
            shell.wait(10)
        assert together == [alike, alike]
    assert not any(Path(place, ours).exists() for place in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup"))


def test_where_a_process_cannot_be_taken_in_nothing_is_left_behind() -> None:
    """It is said, as where no group can be made: a bench goes on and says so too."""
    with subprocess.Popen(["true"]) as gone:
        gone.wait(10)
    with one_party(gone.pid) as alike:
        assert not alike
    ours = f"grantd-bench-{os.getpid()}"
    assert not any(Path(place, ours).exists() for place in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup"))
