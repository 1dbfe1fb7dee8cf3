"""Files of the signer's directory: private, whole or not there. Never follows a link."""

from __future__ import annotations

import os
from pathlib import Path


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
