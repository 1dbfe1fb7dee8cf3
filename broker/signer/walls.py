"""The view of the system that a signer at work has: its directory, its socket, its own code, and nothing else.

As far as the kernel lets a process without privileges go; what it refused is a wall that says so, never silence.
"""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import broker
import policy
import recorder
from broker.signer import harden, landlock, seccomp
from broker.signer.landlock import Right
from broker.signer.seccomp import Refused

MAX_OPEN_FILES = 64
"""Eight connections, the journal, a head that is written, a module that is loaded late."""
MAX_FILE_BYTES = 16 << 30
"""A journal beyond it is not written, so nothing is signed."""
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/localtime", "/etc/ld.so.cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """One protection: `detail` says how far it reaches, or why it does not stand."""

    name: str
    stands: bool
    detail: str


def alone() -> None:
    """Nothing of whoever started this process: no descriptor beyond the standard three, no variable, no directory."""
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.environ.clear()
    os.chdir("/")


def limits() -> None:
    """What a signer needs of descriptors and of a file's size, for good."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))


def close_in(*, directory: Path, socket: Path, freed: str) -> tuple[Wall, ...]:
    """Raises every wall there is, in the one thread that there still is; each reports for itself.

    `freed` is what harden.overwrite_freed said, while there was an environment to look at.

    Raises:
        HardenFault: the kernel refused even that this process gains no privileges.
    """
    harden.no_new_privileges()
    return (
        _wall("memory", harden.lock_memory(), "locked"),
        _wall("freed memory", freed, "overwritten"),
        _files(directory, socket),
        _calls(),
    )


def _wall(name: str, why: str, detail: str) -> Wall:
    return Wall(name=name, stands=not why, detail=why or detail)


def _files(directory: Path, socket: Path) -> Wall:
    allowed = dict.fromkeys(map(Path, _code()), Right.LOOK)
    allowed |= {socket.parent: Right.REMOVE, directory: Right.OWN}
    if socket.parent == directory:
        allowed[directory] = Right.OWN
    try:
        abi = landlock.restrict(allowed)
    except Refused as refused:
        return Wall(name="files", stands=False, detail=str(refused))
    return Wall(name="files", stands=True, detail=f"landlock {abi}")


def _calls() -> Wall:
    try:
        seccomp.restrict()
    except Refused as refused:
        return Wall(name="calls", stands=False, detail=str(refused))
    return Wall(name="calls", stands=True, detail="seccomp")


def _code() -> set[str]:
    """Where Python and this program lie: read, never written. Not sys.path, which may hold a whole working tree."""
    own = {str(Path(file).parent) for package in (broker, policy, recorder) if (file := package.__file__)}
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return {*own, *places, f"{sys.base_prefix}/lib", *_LIBRARIES}
