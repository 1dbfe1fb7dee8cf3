"""The signer's own memory: one line for each signature, on disk before the certificate leaves. Never rewritten.

A line is canonical JSON (sorted keys, no spaces, integers and strings) whose `prev` is the SHA-256 of the line before
it without its newline; the first one's is 64 zeros. Lines hold digests of commands, never commands (I-36).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from broker.core.errors import Fault

NAME = "journal.jsonl"
FIRST = "0" * 64
MAX_LINE = 16 * 1024
Field: TypeAlias = "str | int | bool | list[str]"


class JournalFault(Fault):
    """The journal cannot be written or is not what this signer wrote: nothing may be signed."""


class Journal:
    """An open journal, locked for this process alone. Not safe for threads: the authority holds a lock."""

    __slots__ = ("_descriptor", "_good", "_last", "_number", "_torn")

    def __init__(self, directory: Path) -> None:
        self._descriptor = _open_private(directory / NAME)
        self._good, self._number, self._last, torn_bytes = _end_of(self._descriptor)
        self._torn = torn_bytes > 0
        if torn_bytes:
            # a power cut inside a write: that signature never left, its half line must not stay in the way
            self.append({"kind": "recovered", "torn_bytes": torn_bytes})

    def append(self, fields: Mapping[str, Field]) -> None:
        """Adds one line and returns when it is on disk.

        Raises:
            JournalFault: it could not; what was half written is removed, now or before the next line.
        """
        line = encode_line({**fields, "n": self._number, "prev": self._last, "v": 1})
        try:
            self._mend()
            self._torn = True
            _write_all(self._descriptor, line + b"\n")
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._mend()
            raise JournalFault("the signer's journal cannot be written") from error
        self._torn = False
        self._good += len(line) + 1
        self._number, self._last = self._number + 1, hashlib.sha256(line).hexdigest()

    def close(self) -> None:
        os.close(self._descriptor)

    def _mend(self) -> None:
        if self._torn:
            os.ftruncate(self._descriptor, self._good)
            self._torn = False


def encode_line(fields: Mapping[str, Field]) -> bytes:
    """The one spelling of a line, without its newline. Raises JournalFault when it is longer than a reader takes."""
    line = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    if len(line) > MAX_LINE:
        raise JournalFault("a journal line would be too long")
    return line


def verify(path: Path) -> int:
    """How many lines a journal holds, every one in canonical form, numbered and chained to the one before.

    Raises:
        JournalFault: naming the first line that is not. A cut-off tail of whole lines cannot be seen from inside.
    """
    last, number = FIRST, 0
    with path.open("rb") as file:
        for raw in file:
            line = raw.removesuffix(b"\n")
            if not raw.endswith(b"\n") or _chained(line) != (number, last):
                raise JournalFault(f"journal line {number + 1} is not what the signer wrote")
            last, number = hashlib.sha256(line).hexdigest(), number + 1
    return number


def _chained(line: bytes) -> tuple[object, object]:
    try:
        fields = json.loads(line)
        if encode_line(fields) != line:
            return None, None
        return fields["n"], fields["prev"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, None


def _open_private(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalFault(f"{path}: cannot be opened, or another signer has it") from error
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077 or not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise JournalFault(f"{path}: others may read or write it")
    return descriptor


def _end_of(descriptor: int) -> tuple[int, int, str, int]:
    """Bytes of whole lines, number of the next line, hash of the last one, bytes of a torn line behind it."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - 2 * MAX_LINE - 2)
    tail = os.pread(descriptor, size - start, start)
    whole = tail[: tail.rfind(b"\n") + 1]
    torn_bytes = len(tail) - len(whole)
    if not whole:
        if start or torn_bytes > MAX_LINE:
            raise JournalFault("the journal's end is not what a signer wrote")
        return 0, 0, FIRST, torn_bytes
    line = whole.removesuffix(b"\n").rpartition(b"\n")[2]
    number, _ = _chained(line)
    if not isinstance(number, int):
        raise JournalFault("the journal's last line is not what a signer wrote")
    return size - torn_bytes, number + 1, hashlib.sha256(line).hexdigest(), torn_bytes


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
