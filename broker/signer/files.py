"""Files of the signer's directory: private, whole or not there. Never follows a link."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

from broker.core.errors import Fault


def make(path: Path, data: bytes) -> None:
    """A new file 0400, on disk when this returns. FileExistsError where there is one; OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    _fill(descriptor, data)
    _sync(path.parent)


def put(path: Path, data: bytes) -> None:
    """Replaces the file, 0600: a reader sees the old bytes or the new ones, also after a power cut. OSError."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    _fill(descriptor, data)
    new.replace(path)
    _sync(path.parent)


def open_log(path: Path, fault: Callable[[str], Fault]) -> int:
    """The descriptor of a file that only grows, 0600 and locked for this process alone; made where there is none.

    Raises what `fault` makes of the reason: another process has it, or somebody else may read or write it.
    """
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise fault(f"{path}: cannot be opened") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise fault(f"{path}: another signer has it") from error
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077 or not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise fault(f"{path}: others may read or write it")
    return descriptor


def _fill(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
