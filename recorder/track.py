"""One recording as the recorder thread sees it: events in, sealed frames in a file. Blocks; never touches a loop.

Order of a frame: reserve room for it and for the end, seal, write. So a full disk is met before anything is sealed,
and the room that an orderly end needs is already ours (formats.md 1.3, rule 5).
"""

from __future__ import annotations

import errno
import json
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from recorder import canonical, grec
from recorder.errors import RecorderFailed
from recorder.grec import Event, Header, Kind
from recorder.merkle import CompactRange, leaf_hash
from recorder.sealing import Sealer, derive_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from recorder.canonical import Json

FRAME_BYTES = 256 * 1024  # plaintext at which a frame is written without waiting for its timer
SEGMENT_BYTES = 1024 * 1024  # plaintext between fresh zstd contexts
SEGMENT_US = 60 * 1_000_000
RESERVE = 256 * 1024  # bytes kept allocated behind the last frame so that the end can be written on a full disk
_FRAME_SLACK = 4096  # bytes that a frame can be longer than its plaintext
_MAX_INDEX = 1024  # segment starts in the end frame, about 45 bytes each; thinned beyond
_MAX_MARKERS = 64  # markers in the end frame; all of them are events too
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # no room, but what is reserved is still ours
_EVENT_COST = 256  # bytes of memory around a queued payload, measured with sys.getsizeof: 233
_NAMES = {int(kind): kind.name for kind in Kind}
_MAX_LABEL = 120  # characters of a marker's label in the end frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The recorder's bounds. Production uses the defaults; tests shorten them."""

    flush_after_s: float = 0.8  # an event is on disk at most this long after it came, plus one fdatasync: <= 1 s
    hold_s: float = 1.0  # the bound of I-30: while an event is not durable after this long, nothing more is accepted
    lag_s: float = 15.0  # not durable after this long: the disk does not stall, it is gone; the recorder has failed
    open_s: float = 5.0  # a recording that is not open by then is refused
    checkpoint_s: float = 60.0
    queue_bytes: int = 4 * 1024 * 1024  # accepted and not yet taken over by the thread, per recording
    sync_bytes: int = 8 * 1024 * 1024  # written and not yet synced: bounds how long one fdatasync can take
    part_bytes: int = 1024 * 1024 * 1024
    part_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingMeta:
    """What a recording is opened with: opaque ids, its data key, its wall-clock start (aware)."""

    rec: str
    sid: str
    ten: str
    dek_id: str
    dek: bytes | bytearray = field(repr=False)
    salt: bytes
    """24 fresh random bytes for the first part; later parts draw their own."""
    start: datetime
    part: int
    prev: tuple[int, bytes] | None  # leaves and root of the part before


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the recorded thing ended: exit status or signal of the command, and why the session closed (one word)."""

    reason: str
    status: int | None
    signal: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """What the audit log keeps of a sealed part."""

    rec: str
    part: int
    leaves: int
    root: bytes
    bytes: int
    duration_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCheckpoint:
    """(leaves, root) of a part so far, durable when this is handed out. `final`: the part is sealed."""

    rec: str
    part: int
    leaves: int
    root: bytes
    final: bool


def queued_cost(event: Event) -> int:
    """Bytes that a queued event counts for: its payload and what Python keeps around it, so tiny ones are bounded."""
    return len(event.payload) + _EVENT_COST


def header_of(meta: RecordingMeta, *, part: int, prev: tuple[int, bytes] | None, salt: bytes) -> Header:
    """The clear header of one part."""
    start = meta.start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return Header(
        rec=meta.rec, sid=meta.sid, ten=meta.ten, part=part, prev=prev, start=start, dek=meta.dek_id, salt=salt
    )


def opening(meta: RecordingMeta) -> PartCheckpoint:
    """What the first part will have committed to once it is open, before any file exists: its header alone.

    So the audit row of the opening can be durable, with its root, before the recording is made.
    """
    header = header_of(meta, part=meta.part, prev=meta.prev, salt=meta.salt)
    document = header.encode()
    first = leaf_hash(grec.preamble(document, derive_keys(meta.dek, document, meta.salt).commit))
    tree = CompactRange()
    tree.append(first)
    return PartCheckpoint(rec=meta.rec, part=meta.part, leaves=1, root=tree.root(), final=False)


class PartFile(Protocol):
    """One part on its medium. Every method raises OSError, and only that."""

    def reserve(self, offset: int, size: int) -> None:
        """Allocate room without growing the file."""

    def write(self, data: bytes, offset: int) -> None:
        """Write all of data at offset, or raise."""

    def sync(self) -> None:
        """Return once everything written is durable."""

    def truncate(self, size: int) -> None:
        """Cut off what a failed write left, and give back what was reserved."""

    def close(self) -> None:
        """Let go of the file."""


class Track:
    """The growing recording. Used by one thread; after an OSError only `end` or `abandon` may be called."""

    def __init__(self, meta: RecordingMeta, limits: Limits, open_part: Callable[[int], PartFile], now: float) -> None:
        self.meta = replace(meta, dek=b"")
        self._dek = bytearray(meta.dek)  # our own copy, zeroed at the end
        self._limits = limits
        self._open_part = open_part
        self._last_t = 0
        self._lost = 0
        self.dirty_since: float | None = None
        self._start_part(meta.part, meta.prev, now)

    def _start_part(self, part: int, prev: tuple[int, bytes] | None, now: float) -> None:
        salt = self.meta.salt if part == self.meta.part else secrets.token_bytes(grec.SALT_SIZE)
        sealer = Sealer(header_of(self.meta, part=part, prev=prev, salt=salt), self._dek)
        self._file = self._open_part(part)
        self._part, self._sealer = part, sealer
        self._size = 0
        self._unsynced = 0
        self._tree = CompactRange()
        self._buffer = bytearray()
        self._first_t = self._last_t
        self._counts: Counter[str] = Counter()
        self._index: list[Json] = []
        self._markers: list[Json] = []
        self._segment_t, self._segment_bytes = 0, SEGMENT_BYTES
        self._unwritten = self._ended = False
        self._part_since = self._checkpoint_since = now
        try:
            self._file.reserve(0, len(self._sealer.preamble) + RESERVE)
            self._append(self._sealer.preamble)
            self._file.sync()
        except OSError:
            self._file.close()
            raise
        self._checkpoint_leaves = 1

    def checkpoint(self, *, final: bool = False) -> PartCheckpoint:
        """The commitment so far."""
        return PartCheckpoint(
            rec=self.meta.rec, part=self._part, leaves=self._tree.size(), root=self._tree.root(), final=final
        )

    def take(self, event: Event, now: float) -> None:
        """Take over one event; writes a frame when 256 KiB have come together."""
        t_us = max(event.t_us, self._last_t)
        if not self._buffer:
            self._first_t = t_us
        after = self._last_t if self._buffer else t_us
        self._buffer += grec.encode_head(Event(t_us, event.kind, event.chan, event.payload), after)
        self._buffer += event.payload
        self._last_t = t_us
        self._count(event, t_us)
        if self.dirty_since is None:
            self.dirty_since = now
        if len(self._buffer) >= FRAME_BYTES:
            self.flush()

    def note(self, document: dict[str, Json], now: float) -> None:
        """Record something about the recording itself, at the time of its last event."""
        self.take(Event(self._last_t, Kind.META, 0, grec.json_payload(document)), now)

    def lose(self, event: Event) -> None:
        """Count an event that came after the failure and cannot be kept."""
        self._lost += len(event.payload)

    def _count(self, event: Event, t_us: int) -> None:
        self._counts[_NAMES.get(event.kind, "OTHER")] += 1
        if event.kind == Kind.MARK and len(self._markers) < _MAX_MARKERS:
            self._markers.append([t_us, str(json.loads(event.payload).get("label", ""))[:_MAX_LABEL]])

    def flush(self) -> None:
        """Seal and write what is buffered. Not yet durable."""
        if not self._buffer:
            return
        self._file.reserve(self._size, len(self._buffer) + _FRAME_SLACK + RESERVE)
        self._write_buffer()

    def _write_buffer(self) -> None:
        plain = self._buffer  # compressed where it stands
        segment = self._segment_bytes >= SEGMENT_BYTES or self._first_t - self._segment_t >= SEGMENT_US
        self._unwritten = True  # sealed, so its number is spent, whatever happens to the write
        frame = self._sealer.data(plain, self._first_t, segment=segment)
        leaves = self._tree.size()
        offset = self._size
        self._append(frame)
        self._unwritten = False
        if segment:
            self._segment_t, self._segment_bytes = self._first_t, 0
            self._note_segment(offset, leaves - 1)
        self._segment_bytes += len(plain)
        self._buffer.clear()

    def _note_segment(self, offset: int, seq: int) -> None:
        self._index.append([self._first_t, offset, seq])
        if len(self._index) > _MAX_INDEX:
            self._index = self._index[::2]  # the index only saves walking; half of it saves nearly as much

    def _append(self, data: bytes) -> None:
        self._file.write(data, self._size)
        self._tree.append(leaf_hash(data))
        self._size += len(data)
        self._unsynced += len(data)

    @property
    def sync_due(self) -> bool:
        """Whether so much is unsynced that one fdatasync could take too long."""
        return self._unsynced >= self._limits.sync_bytes

    def sync(self) -> None:
        """Flush, and return once everything taken so far is durable."""
        self.flush()
        if self._unsynced:
            self._file.sync()
            self._unsynced = 0
        self.dirty_since = None

    @property
    def due(self) -> float:
        """When `sync` (and then `progress`) wants to be called next, on the monotonic clock."""
        due = float("inf")
        if self.dirty_since is not None:
            due = self.dirty_since + self._limits.flush_after_s
        if self._tree.size() > self._checkpoint_leaves:
            due = min(due, self._checkpoint_since + self._limits.checkpoint_s)
        return due

    def progress(self, now: float) -> PartCheckpoint | None:
        """A checkpoint to audit, if one is due and there is progress. Call after `sync`."""
        if now - self._checkpoint_since < self._limits.checkpoint_s or self._tree.size() == self._checkpoint_leaves:
            return None
        self._checkpoint_since, self._checkpoint_leaves = now, self._tree.size()
        return self.checkpoint()

    def rotate_due(self, now: float) -> bool:
        """Whether this part is as long or as old as a part may become."""
        return self._size >= self._limits.part_bytes or now - self._part_since >= self._limits.part_s

    def rotate(self, now: float) -> tuple[PartCheckpoint, PartCheckpoint]:
        """Seal this part and go on in the next: (the sealed part, the new one)."""
        self._seal(Outcome(reason="rotated", status=None, signal=None))
        closed = self.checkpoint(final=True)
        self._start_part(self._part + 1, (closed.leaves, closed.root), now)
        return closed, self.checkpoint()

    def end(self, outcome: Outcome) -> Commitment:
        """Seal the recording for good. After a failure this uses the reserved room and says what was lost."""
        self._seal(outcome)
        self._forget()
        head = self.checkpoint()
        return Commitment(
            rec=head.rec,
            part=head.part,
            leaves=head.leaves,
            root=head.root,
            bytes=self._size,
            duration_us=self._last_t,
        )

    def finish_failed(self, error: BaseException) -> Commitment | None:
        """After `error`: seal with the reserved room when the disk is merely full, else leave the part as it is.

        None: the part stays without an end and reads as truncated.
        """
        slow = isinstance(error, RecorderFailed)  # the session gave up waiting; the disk may still answer
        full = isinstance(error, OSError) and error.errno in _FULL
        if self._ended or not (slow or full):
            self.abandon()
            return None
        try:
            self._salvage()
            return self.end(Outcome(reason="recorder_failed", status=None, signal=None))
        except OSError:
            self.abandon()
            return None

    def _salvage(self) -> None:
        """Put what is buffered into the reserved room. What does not fit is lost, and counted."""
        try:
            if not self._unwritten and self._buffer:
                self._write_buffer()
        except OSError:
            pass  # counted below; the end frame takes the spent number
        self._lost += len(self._buffer)
        self._buffer.clear()

    def _seal(self, outcome: Outcome) -> None:
        self.flush()
        frame = self._sealer.end(self._summary(outcome), self._last_t, instead_of_last=self._unwritten)
        self._append(frame)
        self._file.truncate(self._size)  # gives back the reserve, and cuts what a failed write left
        self._file.sync()
        self._ended = True
        self._file.close()

    def _summary(self, outcome: Outcome) -> bytes:
        return canonical.encode(
            {
                "dur": self._last_t,
                "events": self._counts.total(),
                "counts": dict(self._counts),
                "index": self._index,
                "markers": self._markers,
                "exit": {"reason": outcome.reason, "status": outcome.status, "signal": outcome.signal},
                "lost": self._lost,
                "leaves": self._tree.size(),
                "root": self._tree.root().hex(),
            }
        )

    def abandon(self) -> None:
        """Leave the part as it is: it will read as truncated."""
        if not self._ended:
            self._file.close()
        self._forget()

    def _forget(self) -> None:
        self._dek[:] = bytes(len(self._dek))
