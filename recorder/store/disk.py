"""One part on a local disk: the few system calls that durability rests on. Decides nothing; raises OSError only.

Files are 0600, new (O_EXCL), never a link (O_NOFOLLOW), in directories 0700 that are synced when something new appears
in them. A live part carries an exclusive flock, which ends with its process: that is how a reader tells a recording
that is still growing from one that was cut.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from contextlib import suppress
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

    __slots__ = ("_fd", "_fresh")

    def __init__(self, fd: int, fresh: list[int]) -> None:
        """`fresh`: open directories with new entries, which the first `sync` makes durable too, and closes."""
        self._fd = fd
        self._fresh = fresh

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
        """Data, file size and, the first time, the way to the file are durable on return.

        The file goes first: on a journalling file system that commits everything, and the directories cost little.
        """
        os.fdatasync(self._fd)
        while self._fresh:
            os.fsync(self._fresh[-1])
            os.close(self._fresh.pop())

    def truncate(self, size: int) -> None:
        """Cut the file to size and free blocks beyond it."""
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        """Close; the flock goes with it."""
        for fd in (*self._fresh, self._fd):
            os.close(fd)


def create_part(root: Path, names: Sequence[str]) -> DiskPart:
    """A new, empty, locked part at root/names...; durable at its first `sync`. FileExistsError if it is there."""
    parent, fresh = os.open(root, _DIRECTORY), list[int]()
    try:
        for name in names[:-1]:
            child, is_new = _enter(parent, name)
            if is_new:
                fresh.append(parent)
            else:
                os.close(parent)
            parent = child
        fd = os.open(names[-1], _NEW_FILE, 0o600, dir_fd=parent)
    except OSError:
        for each in (*fresh, parent):
            os.close(each)
        raise
    fcntl.flock(fd, fcntl.LOCK_EX)
    return DiskPart(fd, [*fresh, parent])


def _enter(parent: int, name: str) -> tuple[int, bool]:
    """(the directory `name`, whether it had to be made, 0700). A link is refused."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent), False
    except FileNotFoundError:
        with suppress(FileExistsError):  # another process was first
            os.mkdir(name, 0o700, dir_fd=parent)
    return os.open(name, _DIRECTORY, dir_fd=parent), True


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
