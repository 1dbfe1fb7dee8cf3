"""The real recordings, whose journal says what was recorded before what was sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from recorder.grec import Event, Kind
from recorder.reader import RecordingReader
from recorder.sink import RecordingSink
from recorder.store.files import FileRecordingStore, Unfinished
from recorder.track import Commitment, Outcome, RecordingMeta


class WatchedSink(RecordingSink):
    """A real sink that tells the journal what it has accepted."""

    def __init__(self, inner: RecordingSink, journal: list[tuple[str, bytes]]) -> None:  # the real one is inside
        self._inner, self._journal = inner, journal
        inner.tap = self._tapped
        self.tap = None
        self.rec, self.failed, self.checkpoints = inner.rec, inner.failed, inner.checkpoints

    def _tapped(self, event: Event) -> None:
        if self.tap is not None:
            self.tap(event)

    async def event(self, kind: Kind, chan: int, data: bytes, *, t_us: int | None = None) -> None:
        await self._inner.event(kind, chan, data, t_us=t_us)
        self._journal.append((f"recorded {kind.name.lower()}", data))

    async def sync(self) -> None:
        await self._inner.sync()

    async def close(self, outcome: Outcome) -> Commitment:
        return await self._inner.close(outcome)

    def failed_with(self, error: BaseException) -> None:
        self._inner.failed_with(error)


class WatchedRecordings:
    """ports.Recordings: the real store of files, whose sinks a test can reach."""

    def __init__(self, inner: FileRecordingStore, journal: list[tuple[str, bytes]]) -> None:
        self._inner, self._journal = inner, journal
        self.sinks: list[WatchedSink] = []

    async def create(self, meta: RecordingMeta) -> RecordingSink:
        self.sinks.append(WatchedSink(await self._inner.create(meta), self._journal))
        return self.sinks[-1]

    async def open(
        self, *, ten: str, rec: str, sid: str, start: datetime, dek: bytes | bytearray | None
    ) -> RecordingReader:
        return await self._inner.open(ten=ten, rec=rec, sid=sid, start=start, dek=dek)

    async def scan_unfinished(self, *, is_closed: Callable[[str, str], bool]) -> Sequence[Unfinished]:
        return await self._inner.scan_unfinished(is_closed=is_closed)
