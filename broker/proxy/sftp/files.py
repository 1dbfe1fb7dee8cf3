"""What went through one open file: how many bytes, where, and their SHA-256 where it was whole and in order.

Keeps a bounded number of ranges, whatever a client reads or writes in whatever order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from broker.core.sftp import Open, Status
from broker.proxy.sftp.packets import shown

MAX_RANGES: Final = 32
TOLD_EVERY: Final = 64 * 1024 * 1024
"""Bytes after which a file that is not closed yet is noted, so that a long copy leaves a trace before it ends."""


@dataclass(slots=True)
class Span:
    """The bytes that went one way."""

    moved: int = 0
    told: int = 0
    """Of these, how many a note spoke of."""
    ranges: list[list[int]] = field(default_factory=list)
    """[first, behind the last], in the order in which they came; neighbours are joined."""
    dropped: bool = False
    """There were more ranges than are kept."""
    _hash: hashlib._Hash | None = field(default_factory=hashlib.sha256)

    def take(self, offset: int, data: memoryview) -> None:
        """So many bytes more, from `offset` on."""
        end = offset + len(data)
        if offset != self.next:
            self._hash = None
        if self._hash is not None:
            self._hash.update(data)
        self.moved += len(data)
        if self.ranges and self.ranges[-1][1] == offset:
            self.ranges[-1][1] = end
        elif len(self.ranges) < MAX_RANGES:
            self.ranges.append([offset, end])
        else:
            self.dropped = True

    @property
    def next(self) -> int:
        """Where the next byte is expected, as long as all came in order from the first one."""
        return self.ranges[0][1] if self.ranges else 0

    def sha256(self) -> str | None:
        """Of everything, if it came in order from the first byte on."""
        return self._hash.hexdigest() if self._hash is not None else None


@dataclass(slots=True, kw_only=True)
class OpenFile:
    """One handle that a client holds."""

    handle: bytes
    """The target's own name of it."""
    path: bytes
    flags: int
    """0 for a folder."""
    writing: bool
    """Whether it was opened on the session that writes."""
    folder: bool = False
    number: int = 0
    """Ties its notes together."""
    read: Span = field(default_factory=Span)
    written: Span = field(default_factory=Span)
    entries: int = 0
    size: int | None = None
    """As the target said last."""
    ended: bool = False
    """The target said that nothing more is there to read."""
    failed: Status | None = None
    """The first thing that went wrong with it."""

    def due(self) -> bool:
        """Whether enough went through since the last note."""
        spans = (self.read, self.written)
        return any(span.moved - span.told >= TOLD_EVERY for span in spans)

    def progress(self) -> dict[str, object]:
        """The note of a file that is still open."""
        for span in (self.read, self.written):
            span.told = span.moved
        return {
            "op": "progress",
            "path": shown(self.path),
            "file": self.number,
            "read": self.read.moved,
            "written": self.written.moved,
        }

    def summary(self, result: str) -> list[dict[str, object]]:
        """The notes of its end: one for what was read and one for what was written, where anything was."""
        if self.folder:
            return [self._told("list", result) | {"entries": self.entries}]
        notes = []
        if self.read.moved or (not self.written.moved and not self._may_write()):
            notes.append(self._told("get", result) | self._moved(self.read, whole=self._read_whole()))
        if self.written.moved or self._may_write():
            notes.append(self._told("put", result) | self._moved(self.written, whole=self._written_whole()))
        return notes

    def _told(self, op: str, result: str) -> dict[str, object]:
        return {"op": op, "path": shown(self.path), "file": self.number, "result": result}

    def _may_write(self) -> bool:
        return bool(self.flags & (Open.WRITE | Open.APPEND))

    def _read_whole(self) -> bool:
        return self.ended or self.read.moved == self.size

    def _written_whole(self) -> bool:
        """An old file that was not emptied may be longer than what was written; one that is appended to is."""
        made = self.flags & Open.CREAT and self.flags & Open.EXCL  # EXCL alone means nothing, and empties nothing
        anew = (self.flags & Open.TRUNC or made) and not self.flags & Open.APPEND
        return bool(anew) and self.failed is None

    def _moved(self, span: Span, *, whole: bool) -> dict[str, object]:
        sha256 = span.sha256() if whole else None
        told: dict[str, object] = {
            "off": span.ranges[0][0] if span.ranges else 0,
            "len": span.moved,
            "total": self.size,
            "sha256": sha256,
        }
        if sha256 is None and span.ranges:
            told |= {"ranges": span.ranges} | ({"more_ranges": True} if span.dropped else {})
        return told
