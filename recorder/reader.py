"""Reads a recording back: keyless verification against audited commitments, and with the key its events.

Never repairs or truncates. A recording that ends early yields its whole frames and says so in `state`; one that was
altered yields nothing beyond the first frame that is wrong, and raises.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, Any

from recorder import grec
from recorder.errors import RecordingInvalid
from recorder.grec import Flag, Frame, FrameType, Kind, TornFrame
from recorder.merkle import CompactRange, leaf_hash
from recorder.scan import Scan, State, check_commitment, scan
from recorder.screen import LOOK_BACK_BYTES, Screen, screen_of
from recorder.sealing import Opener
from recorder.store.disk import is_live

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from recorder.grec import Event
    from recorder.track import PartCheckpoint

_FOREVER = grec.MAX_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Which recording the caller asked for. A file of another session under this name is refused."""

    rec: str
    sid: str
    ten: str


class RecordingReader:
    """One recording: its parts in order, and the data key if the caller may see inside.

    Blocks on the disk: call from a thread. `dek` None: `verify` works, `events` does not.
    """

    def __init__(self, parts: Sequence[Path], *, expected: Expected, dek: bytes | bytearray | None) -> None:
        if not parts:
            raise RecordingInvalid("the recording has no parts")
        self._parts = tuple(parts)
        self._expected = expected
        self._dek = dek

    @property
    def parts(self) -> Sequence[Path]:
        """Its files, in order."""
        return self._parts

    @property
    def expected(self) -> Expected:
        """Which recording was asked for."""
        return self._expected

    @property
    def state(self) -> State:
        """How the last part ends; `open` while a writer is at it."""
        state = scan_file(self._parts[-1]).state
        return State.OPEN if state is not State.FINAL and is_live(self._parts[-1]) else state

    def verify(self, commitments: Sequence[PartCheckpoint]) -> State:
        """Check every byte against the audited commitments, without the key.

        Raises:
            RecordingInvalid: naming the part and frames that are not what was audited, or no commitments at all.
        """
        if not commitments:
            raise RecordingInvalid("nothing was audited about this recording")
        sizes = {commitment.leaves for commitment in commitments}
        scans = [scan_file(path, sizes) for path in self._parts]
        check_parts(scans, self._expected)
        for commitment in commitments:
            check_part_commitment(scans, commitment)
        state = scans[-1].state
        return State.OPEN if state is not State.FINAL and is_live(self._parts[-1]) else state

    def events(self, from_us: int = 0, to_us: int = _FOREVER) -> Iterator[Event]:
        """Decrypted events with from_us <= t_us <= to_us, in order, ending where the whole frames end.

        Raises:
            RecordingInvalid: wrong key, other session, or the first frame that is not authentic.
        """
        for path in self._parts:
            with path.open("rb") as source:
                opener, offset = self._begin(source)
                *_, (offset, seq) = (offset, 0), *_segments(source, offset, from_us)
                source.seek(offset)
                wanted = takewhile(lambda frame: frame.header.t_us <= to_us, _whole(source, first=seq))
                yield from (event for event in _events(opener, wanted) if from_us <= event.t_us <= to_us)

    def screen(self, t_us: int) -> Screen:
        """The screen just before t_us, out of the last few segments before it: at most 5 MiB are decrypted.

        Raises:
            RecordingInvalid: as `events`.
        """
        places = [(path, *place) for path in self._parts for place in self._places(path, t_us)]
        latest: deque[Event] = deque()
        room = LOOK_BACK_BYTES
        while places and room > 0:
            found = self._segment(*places.pop(), t_us)
            latest.extendleft(reversed(found))
            room -= sum(len(event.payload) for event in found)
        size = self._segment(*places[0], t_us) if places else []  # the one that it began with
        return screen_of([*(event for event in size if event.kind == Kind.RESIZE), *latest])

    def _places(self, path: Path, t_us: int) -> list[tuple[int, int]]:
        with path.open("rb") as source:
            return list(_segments(source, self._begin(source)[1], t_us))

    def _segment(self, path: Path, offset: int, seq: int, t_us: int) -> list[Event]:
        """The events of one segment that come before t_us."""
        with path.open("rb") as source:
            opener, _ = self._begin(source)
            source.seek(offset)
            frames = _whole(source, first=seq)
            within = takewhile(lambda frame: Flag.SEGMENT not in frame.header.flags, frames)
            first = islice(frames, 1)
            return [event for event in _events(opener, chain(first, within)) if event.t_us < t_us]

    def _begin(self, source: grec.Source) -> tuple[Opener, int]:
        """Reads a part's preamble: what opens its frames, and where they begin."""
        header, start, _ = grec.read_preamble(source)
        require_expected(header, self._expected)
        return Opener(header, start, self.key()), len(start)

    def pieces(self, size: int) -> Iterator[tuple[int, bytes]]:
        """The sealed bytes as they lie: (part number, at most `size` bytes). Opens nothing, checks nothing."""
        for number, path in enumerate(self._parts):
            with path.open("rb") as source:
                while piece := source.read(size):
                    yield number, piece

    def summary(self) -> dict[str, Any]:
        """The last part's end frame: duration, counts, markers, exit, what was lost.

        Raises:
            RecordingInvalid: there is no end, or it does not agree with the frames before it.
        """
        with self._parts[-1].open("rb") as source:
            header, start, _ = grec.read_preamble(source)
            require_expected(header, self._expected)
            opener = Opener(header, start, self.key())
            tree = CompactRange()
            tree.append(leaf_hash(start))
            for frame in _whole(source):
                if frame.header.type is FrameType.END:
                    return _end_of(opener.open(frame), tree)
                tree.append(frame.leaf())
        raise RecordingInvalid("the recording has no end")

    def beside(self, name: str) -> Path:
        """A file of this name in the recording's folder."""
        return self._parts[0].with_name(name)

    def name(self) -> bytes:
        """The recording, its session and its tenant, for binding something to them."""
        return f"{self._expected.rec}\0{self._expected.sid}\0{self._expected.ten}".encode()

    def key(self) -> bytes | bytearray:
        """The data key. Raises RecordingInvalid where none was given."""
        if self._dek is None:
            raise RecordingInvalid("the recording is sealed and no key was given")
        return self._dek


def scan_file(path: Path, sizes: set[int] | frozenset[int] = frozenset()) -> Scan:
    """`scan` of a file."""
    with path.open("rb") as source:
        return scan(source, sizes)


def require_expected(header: grec.Header, expected: Expected) -> None:
    """Raise unless this header is of the recording, session and tenant that were asked for."""
    if (header.rec, header.sid, header.ten) != (expected.rec, expected.sid, expected.ten):
        raise RecordingInvalid(f"this is recording {header.rec} of session {header.sid}, tenant {header.ten}")


def check_parts(scans: Sequence[Scan], expected: Expected) -> None:
    """Each part sound and of this recording; each but the last final, and its successor built on its root."""
    before: Scan | None = None
    for number, part in enumerate(scans):
        part.require_sound()
        require_expected(part.header, expected)
        if part.header.part != number:
            raise RecordingInvalid(f"part {number} is missing")
        prev = None if before is None else (before.leaves, before.root)
        if part.header.prev != prev or (before is not None and before.state is not State.FINAL):
            raise RecordingInvalid(f"part {number} does not continue the part before it")
        before = part


def check_part_commitment(scans: Sequence[Scan], commitment: PartCheckpoint) -> None:
    """Raise unless the part has what was audited; a part audited as sealed must be final and no longer."""
    if commitment.part >= len(scans):
        raise RecordingInvalid(f"part {commitment.part} was audited and is not there")
    part = scans[commitment.part]
    check_commitment(part, commitment.leaves, commitment.root)
    if commitment.final and (part.leaves != commitment.leaves or part.state is not State.FINAL):
        raise RecordingInvalid(f"part {commitment.part}: audited as sealed, but it is {part.state}")


def _whole(source: grec.Source, *, first: int = 0) -> Iterator[Frame]:
    try:
        yield from grec.read_frames(source, first=first)
    except TornFrame:
        return


def _segments(source: grec.Seekable, offset: int, before_us: int) -> Iterator[tuple[int, int]]:
    """(offset, number) of every frame before a time where decompression can start. An hour is walked in 3 ms."""
    if not before_us:
        return
    for place, header in grec.walk_headers(source, offset):
        if header.t_us >= before_us:
            return
        if Flag.SEGMENT in header.flags:
            yield place, header.seq


def _events(opener: Opener, frames: Iterable[Frame]) -> Iterator[Event]:
    for frame in frames:
        plain = opener.open(frame)
        if frame.header.type is FrameType.DATA:
            yield from grec.decode_events(plain, frame.header.t_us, seq=frame.header.seq)


def _end_of(plain: bytes, tree: CompactRange) -> dict[str, Any]:
    try:
        end = json.loads(plain)
    except ValueError as error:
        raise RecordingInvalid("the end frame is not JSON") from error
    if not isinstance(end, dict) or (end.get("leaves"), end.get("root")) != (tree.size(), tree.root().hex()):
        raise RecordingInvalid("the end frame does not agree with the frames before it")
    return end
