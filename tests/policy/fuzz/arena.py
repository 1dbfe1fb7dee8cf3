"""Run scripts by a real bash where they can do nothing, and tell what they did: changed a file, started a program.

Each has an empty working folder, an empty standard input, a PATH of five programs, and limits on time, processes and
file size; as root it runs as nobody. Decides nothing about the scripts.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BASH: Final = shutil.which("bash") or "bash"
NOBODY: Final = 65534
HANGS_AFTER_S: Final = 5.0
BACKGROUND_S: Final = 0.03  # for what a script leaves running
ALONE_S: Final = 5.0  # the same, where there are no further scripts to wait for
BATCH: Final = 250
_LINKED: Final = ("ls", "cat", "touch", "true")
# Reads scripts from standard input, each ended by a NUL, so that the start of one bash is all that a case costs.
_DRIVER: Final = r"""
ulimit -t 2 -f 64 -v 2000000
[ "$UID" != 65534 ] || ulimit -u 300
shopt -s nullglob dotglob
i=0
while IFS= read -r -d '' script; do
  echo "$i"
  "$BASH" --norc --noprofile -c -- "$script" </dev/null >/dev/null 2>&1
  changed=(*) ran=(../ran/*)
  if [ "${#changed[@]}${#ran[@]}" != 00 ]; then
    echo "$i ${#changed[@]} ${#ran[@]}"
    /bin/rm -rf -- "${changed[@]/#/./}" "${ran[@]}"
  fi
  i=$((i+1))
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Did:
    """What a script did. `hung`: it did not end, and was ended."""

    changed: bool = False
    ran: bool = False
    hung: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """A folder to run scripts in; `work` is where they stand, `ran` where the marker program leaves its mark."""

    folder: Path

    def run(self, scripts: Sequence[bytes]) -> list[Did]:
        """What each script did, in order; what one left in the background may be told of a later one."""
        found: list[Did] = []
        for start in range(0, len(scripts), BATCH):
            found += self._batch(scripts[start : start + BATCH])
        return found

    def alone(self, script: bytes) -> Did:
        """What one script did, its background work included."""
        return self._batch([script])[0]

    def _batch(self, batch: Sequence[bytes]) -> list[Did]:
        found = [Did()] * len(batch)
        start = 0
        while start < len(batch):
            reports, ended = self._drive(batch[start:])
            at = 0
            for report in reports:
                at, *counts = map(int, report.split())
                if counts:
                    found[start + at] = Did(changed=counts[0] > 0, ran=counts[1] > 0)
            late = self._left()
            if late != Did():
                found[start + at] = late
            if ended:
                break
            found[start + at] = Did(changed=found[start + at].changed, ran=found[start + at].ran, hung=True)
            start += at + 1
        return found

    def _drive(self, scripts: Sequence[bytes]) -> tuple[list[str], bool]:
        """The driver's lines, and whether it came to its end; it is ended if nothing is heard of it for too long."""
        (self.folder / "scripts").write_bytes(b"".join(script + b"\0" for script in scripts))
        user = NOBODY if os.geteuid() == 0 else None
        groups: list[int] | None = [] if user else None
        with (
            (self.folder / "scripts").open("rb") as stdin,
            subprocess.Popen(
                [BASH, "--norc", "--noprofile", "-c", _DRIVER], cwd=self.folder / "work", stdin=stdin,
                env={"PATH": str(self.folder / "bin"), "HOME": str(self.folder / "work"), "LC_ALL": "C.UTF-8"},
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True, user=user, group=user, extra_groups=groups,
            ) as process,
        ):  # fmt: skip
            said = _heard(process)
            if any(mark in script for script in scripts for mark in (b"&", b"(", b"coproc")):
                _await_the_rest(process.pid, BACKGROUND_S if len(scripts) > 1 else ALONE_S)
            _end(process)
        return said.decode().splitlines(), process.returncode == 0

    def _left(self) -> Did:
        """What appeared after the driver had looked, cleared away."""
        found = {}
        for name in ("work", "ran"):
            left = list((self.folder / name).iterdir())
            found[name] = bool(left)
            for path in left:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return Did(changed=found["work"], ran=found["ran"])


def _heard(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    said = b""
    while select.select([process.stdout], [], [], HANGS_AFTER_S)[0]:
        more = os.read(process.stdout.fileno(), 65536)
        if not more:
            process.wait()
            break
        said += more
    return said


def _await_the_rest(group: int, within: float) -> None:
    """Waits while a process of the driver's group still runs, at most `within` seconds."""
    end = time.monotonic() + within
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.005)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def arena(*more: str) -> Iterator[Arena]:
    """An arena that is gone afterwards; `more` programs of this machine may be called in it."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        for name in ("bin", "work", "ran"):
            (folder / name).mkdir()
        for name in (*_LINKED, *more):
            (folder / "bin" / name).symlink_to(shutil.which(name) or f"/bin/{name}")
        marker = folder / "bin" / "zz-mark"
        marker.write_text(f"#!/bin/sh\n: > {folder}/ran/m\n")
        marker.chmod(0o755)
        if os.geteuid() == 0:
            for path in (folder, folder / "work", folder / "ran"):
                os.chown(path, NOBODY, NOBODY)
        yield Arena(folder=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parses(script: bytes) -> bool:
    """Whether bash takes it for a script; it runs none of it."""
    return subprocess.run([BASH, "-n", "-c", "--", script], capture_output=True, check=False).returncode == 0
