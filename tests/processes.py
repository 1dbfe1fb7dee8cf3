"""Small truths about processes and ports that the real peers need. Never touches a process it was not given."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
from pathlib import Path

_STOP_SECONDS = 5
_PORTS = (10_000, 20_000)


def free_port() -> int:
    """A loopback TCP port that nobody used a moment ago; whoever can retries on a collision.

    Below those that the kernel hands out: any client of the other worker would take one of them meanwhile.
    """
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def descendants(pid: int) -> list[int]:
    """The process ids below pid, parents first, as /proc shows them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            # the name in parentheses may hold spaces and parentheses itself: fields are counted after the last one
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, ()))
    return found[1:]


def stop_tree(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """End the process with the signal and then whatever is still below it; returns when it is gone."""
    below = descendants(process.pid)
    process.send_signal(how)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
