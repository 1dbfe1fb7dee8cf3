"""Reads what nobody but the signer may read, and destroys what nobody shall read any more (I-54)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from broker.core.errors import Fault

_MAX_FILE_BYTES = 16 * 1024


class KeyFault(Fault):
    """The keys cannot be used as they lie there; the message names the file, never its content."""


def read_private(path: Path, owner: int) -> bytes:
    """The content of a regular file of uid `owner`, not a link, that nobody else may read. Raises KeyFault."""
    try:
        # not blocking: a pipe in the place of a key must not hold up the start
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFault(f"{path}: cannot be opened") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFault(f"{path}: not a file")
        must_be_private(path, found, owner)
        return os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def must_be_private(path: Path, found: os.stat_result, owner: int) -> None:
    """Raises KeyFault where another user owns it or may read it."""
    if found.st_uid != owner:
        raise KeyFault(f"{path}: belongs to uid {found.st_uid}, not to uid {owner}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KeyFault(f"{path}: others may read it (mode {stat.S_IMODE(found.st_mode):04o}), chmod go= it")


def destroy(path: Path) -> None:
    """Writes zeros over a file, then removes it; nothing where it is gone already.

    A disk or file system that writes elsewhere keeps the old blocks for a while: that is why the directory of the keys
    belongs on an encrypted disk.
    """
    if not path.exists():
        return
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync(path.parent)


def sync(directory: Path) -> None:
    """Names in it are on disk when this returns."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
