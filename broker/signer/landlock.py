"""Landlock: from here on only these paths, no TCP port, nobody else's abstract sockets or processes. Linux 5.13 and up.

Uses what the running kernel offers of its rights, and says which version that was; needs no privilege.
Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping
from enum import IntFlag
from pathlib import Path

from broker.signer.seccomp import Refused

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_NET_ABI, _SCOPE_ABI = 4, 6
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract Unix sockets, signals
_HANDLED = ((1, 0x1FFF), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
"""(version from which, rights): thirteen of the first, then refer, truncate, ioctl of devices."""


class Right(IntFlag):
    """What a rule may allow below a path."""

    WRITE = 1 << 1
    READ = 1 << 2
    LIST = 1 << 3
    REMOVE = 1 << 5
    FOLDER = 1 << 7
    MAKE = 1 << 8
    TRUNCATE = 1 << 14

    OWN = WRITE | READ | LIST | REMOVE | FOLDER | MAKE | TRUNCATE
    LOOK = READ | LIST


def version() -> int:
    """What this kernel offers; 0 for nothing."""
    return max(0, _call(_CREATE, None, 0, _VERSION_FLAG))


def handled(abi: int) -> int:
    """Every right over files that a kernel of this version can take away."""
    return sum(rights for since, rights in _HANDLED if abi >= since)


def restrict(allowed: Mapping[Path, Right]) -> int:
    """Takes everything from this thread, and later ones, but `allowed`; missing paths are no paths. For good.

    Needs no_new_privs. Returns the version in force.

    Raises:
        Refused: the kernel has none of it, or not for this process.
    """
    abi = version()
    if abi == 0:
        raise Refused("the kernel has no Landlock")
    ruleset = _checked(_call(_CREATE, *_attributes(abi), 0))
    try:
        for path, rights in allowed.items():
            _allow(ruleset, path, int(rights) & handled(abi))
        _checked(_call(_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)
    return abi


def _attributes(abi: int) -> tuple[bytes, int]:
    values = [handled(abi)]
    if abi >= _NET_ABI:
        values.append(_TCP)
    if abi >= _SCOPE_ABI:
        values.append(_SCOPES)
    return struct.pack(f"{len(values)}Q", *values), 8 * len(values)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not path.is_dir():
            rights &= Right.WRITE | Right.READ | Right.TRUNCATE
        _checked(_call(_ADD, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0))
    finally:
        os.close(place)


def _call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *given)
    return result


def _checked(result: int) -> int:
    if result < 0:
        raise Refused(f"errno {ctypes.get_errno()}")
    return result
