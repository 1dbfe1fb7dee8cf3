"""One part on a local disk: the few system calls that durability rests on. Decides nothing; raises OSError only.

Files are 0600, new (O_EXCL), never a link (O_NOFOLLOW), in directories 0700 that are synced when something new appears
in them. A live part carries an exclusive flock, which ends with its process: that is how a reader tells a recording
that is still growing from one that was cut.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FALLOC_FL_KEEP_SIZE = 1
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate  # posix_fallocate would grow the file: no KEEP_SIZE there
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class DiskPart:
    """A `PartFile` on a file system that can reserve room (ext4, xfs, btrfs, tmpfs, ...)."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def reserve(self, offset: int, size: int) -> None:
        """Allocate blocks for [offset, offset + size) without growing the file."""
        if _fallocate(self._fd, _FALLOC_FL_KEEP_SIZE, offset, size) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot reserve {size} bytes: {os.strerror(code)}")

    def write(self, data: bytes, offset: int) -> None:
        """Write all of data at offset."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written

    def sync(self) -> None:
        """Data and file size are durable on return."""
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        """Cut the file to size and free blocks beyond it."""
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        """Close; the flock goes with it."""
        os.close(self._fd)


def create_part(root: Path, names: Sequence[str]) -> DiskPart:
    """A new, empty, locked part at root/names..., its directory entries durable. FileExistsError if it is there."""
    parent = os.open(root, _DIRECTORY)
    try:
        for name in names[:-1]:
            child = _enter(parent, name)
            os.close(parent)
            parent = child
        fd = os.open(names[-1], _NEW_FILE, 0o600, dir_fd=parent)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.fsync(parent)
        except OSError:
            os.close(fd)
            raise
    finally:
        os.close(parent)
    return DiskPart(fd)


def _enter(parent: int, name: str) -> int:
    """Open the directory `name`, making it (0700, durably) when it is not there. A link is refused."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        os.fsync(parent)
    except FileExistsError:
        pass
    return os.open(name, _DIRECTORY, dir_fd=parent)


def is_live(path: Path) -> bool:
    """Whether a writer holds this part open right now."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def free_bytes(root: Path) -> int:
    """Bytes that an unprivileged process can still write here."""
    stat = os.statvfs(root)
    return stat.f_bavail * stat.f_frsize
