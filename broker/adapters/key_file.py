"""A file that holds one key: made whole or not at all, read only where nobody else could have had it (I-54).

Never prints a key. Whether the bytes may be a key is broker.core.keymaterial's to say.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from broker.adapters.xaes import zero
from broker.core.errors import Fault
from broker.core.keymaterial import KEY_BYTES

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_HISTORIES: Final = (".git", ".hg", ".svn")


class RootKeyFault(Fault):
    """There is no root key to start with, or not one to trust. The message names the place, never the key."""


def make_key_file(path: Path) -> None:
    """Writes 32 random bytes to `path`, mode 0400, in its own private directory. Never overwrites, never half.

    Raises:
        RootKeyFault: something is already there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        os.link(half, path)  # unlike a rename, it overwrites nothing
    except FileExistsError as error:
        raise RootKeyFault(f"{path}: is already there, a root key is never overwritten") from error
    finally:
        half.unlink()
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """What was made, renamed or removed in it is so after a power cut as well."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_key_file(path: Path, *, owners: AbstractSet[int], others: int) -> bytearray:
    """The 32 bytes of a key file, in a buffer to zero.

    Args:
        path: the file; a link is refused.
        owners: uids that the file may belong to, and its directory too (or to root).
        others: permission bits that the file must not have.

    Raises:
        RootKeyFault: missing, not a plain file, another's, open to others, of another size, or kept with source code.
    """
    descriptor = _opened(path)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in owners:
            raise RootKeyFault(f"{path}: the root key must be a file of this process's own user")
        if stat.S_IMODE(found.st_mode) & others:
            raise RootKeyFault(f"{path}: others may read the root key, chmod 0400 it")
        if found.st_size != KEY_BYTES:
            raise RootKeyFault(f"{path}: the root key must have exactly {KEY_BYTES} bytes")
        _must_lie_apart(path, owners=owners)
        return _filled(descriptor, path)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        # not blocking: a pipe in the place of a key must not hold up the start
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "is a symbolic link, the root key must be a file" if error.errno == errno.ELOOP else "cannot be opened"
        raise RootKeyFault(f"{path}: {why}") from error


def _must_lie_apart(path: Path, *, owners: AbstractSet[int]) -> None:
    """Nobody else can put another file in its place, and no commit can take it along."""
    folder = path.parent.resolve()
    found = folder.stat()
    if found.st_uid not in {0, *owners} or found.st_mode & _OTHERS_WRITE:
        raise RootKeyFault(
            f"{path}: others may replace the root key, its directory must be writable by its owner alone"
        )
    for above in (folder, *folder.parents):
        if any((above / history).exists() for history in _HISTORIES):
            raise RootKeyFault(f"{path}: the root key lies among versioned files ({above}), move it out of there")


def _filled(descriptor: int, path: Path) -> bytearray:
    material = bytearray(KEY_BYTES)
    if os.readv(descriptor, [material]) != KEY_BYTES:
        zero(material)
        raise RootKeyFault(f"{path}: the root key must have exactly {KEY_BYTES} bytes")
    return material
