"""What the figures were measured on: versions, load, what one fsync costs, CPU time of a process. Changes nothing."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from bench.figures import quantile
from tests import peers

_TRIES: Final = 100
_ROW: Final = b"r" * 300


def described(folder: Path) -> dict[str, object]:
    """The machine in words and figures; `folder` lies on the disk that the broker writes to."""
    ssh = peers.get("ssh")
    said = subprocess.run([ssh, "-V"], check=True, capture_output=True, text=True, env=peers.environment(ssh))
    sync, commit = fsync_ms(folder), commit_ms(folder)
    return {
        "cores": os.cpu_count() or 0,
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssh": said.stderr.strip(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("asyncssh", "grpcio", "cryptography", "uvloop", "sqlalchemy")},
        "fdatasync_ms": {"p50": round(median(sync), 3), "p99": round(quantile(sync, 0.99), 3)},
        "sqlite_full_commit_ms": {"p50": round(median(commit), 3), "p99": round(quantile(commit, 0.99), 3)},
    }


def fsync_ms(folder: Path) -> list[float]:
    """Appending 300 bytes and making them durable, in ms."""
    path = folder / "fsync.probe"
    took: list[float] = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(_TRIES):
            began = time.perf_counter()
            os.write(descriptor, _ROW)
            os.fdatasync(descriptor)
            took.append((time.perf_counter() - began) * 1e3)
    finally:
        os.close(descriptor)
        path.unlink()
    return took


def commit_ms(folder: Path) -> list[float]:
    """One row of 300 bytes in one transaction of its own, SQLite in WAL mode with FULL, in ms."""
    path = folder / "commit.probe"
    took: list[float] = []
    conn = raw_log(path)
    try:
        for _ in range(_TRIES):
            began = time.perf_counter()
            conn.execute("INSERT INTO log (entry) VALUES (?)", (_ROW,))
            took.append((time.perf_counter() - began) * 1e3)
    finally:
        conn.close()
        path.unlink()
    return took


def raw_log(path: Path) -> sqlite3.Connection:
    """A table of entries without anything around it; each statement commits by itself."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("PRAGMA synchronous=FULL")
    conn.execute("CREATE TABLE log (n INTEGER PRIMARY KEY, entry BLOB NOT NULL)")
    return conn


def load() -> str:
    """The load averages."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, its threads that still live and its children's left out and in: see /proc."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()
