"""Recordings as files: <root>/<tenant>/<yyyy>/<mm>/<dd>/<recording>/p0000.grec. Holds no key and no index.

Never appends to a part that exists, never truncates one, never writes below the free-space floor.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import re
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recorder.errors import Invalid, RecorderFailed, RecordingInvalid
from recorder.reader import Expected, RecordingReader, scan_file
from recorder.scan import Scan, check_commitment
from recorder.sink import RecordingSink
from recorder.store.disk import create_part, free_bytes, is_live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from recorder.track import PartCheckpoint, PartFile, RecordingMeta
    from recorder.writer import RecorderThread, Recording

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DAY = "[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A recording whose last part has no end and no writer: its broker died.

    `scan` is None when not even the header can be read; `problem` then says why.
    """

    ten: str
    rec: str
    path: Path
    scan: Scan | None
    problem: str | None

    def require(self, checkpoint: PartCheckpoint) -> None:
        """Raise RecordingInvalid unless everything that was audited before the crash is still there, unchanged."""
        if self.scan is None or self.scan.header.part < checkpoint.part:
            raise RecordingInvalid(self.problem or f"part {checkpoint.part} was audited and is not there")
        path = self.path.with_name(part_name(checkpoint.part))
        check_commitment(scan_file(path, {checkpoint.leaves}), checkpoint.leaves, checkpoint.root)


class FileRecordingStore:
    """Recordings under one private directory.

    Args:
        root: an existing directory that only this user can write.
        threads: the process's recorder threads, started. Each recording stays with one; what several wait for the
            disk for at once, it does at once: recordings that begin and end together share its syncs.
        floor_bytes: with less free space than this no recording is opened, hence no session.
        monotonic: seconds that never step; event times count on it.
    """

    def __init__(
        self,
        root: Path,
        *threads: RecorderThread,
        floor_bytes: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._threads = threads
        self._turn = itertools.cycle(threads)
        self._first = threading.Lock()
        self._ready: set[tuple[str, ...]] = set()
        """Folders whose way from the root is durable."""
        self._floor_bytes = floor_bytes
        self._monotonic = monotonic

    def directory(self, ten: str, rec: str, start: datetime) -> Path:
        """Where a recording lives. Ids that are not plain are refused, so no id can lead elsewhere."""
        return self._root.joinpath(*_names(ten, rec, start))

    async def create(self, meta: RecordingMeta) -> RecordingSink:
        """Open a recording; its header is durable on return.

        Raises:
            RecorderFailed: no recording, so no session: disk full or below the floor, recorder gone or too slow.
            RecordingInvalid: ids, key or start that no recording can have.
        """
        names = _names(meta.ten, meta.rec, meta.start)
        if not self._threads or not all(thread.alive for thread in self._threads):
            raise RecorderFailed("the recorder is not running")
        thread = next(self._turn)
        sink = RecordingSink(meta.rec, thread, self._monotonic)
        recording = await self._open(thread, meta, names, sink)
        sink.begin(recording, recording.track.checkpoint())
        return sink

    async def _open(
        self, thread: RecorderThread, meta: RecordingMeta, names: tuple[str, ...], sink: RecordingSink
    ) -> Recording:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Recording | Exception] = loop.create_future()

        def deliver(answer: Recording | Exception) -> None:
            if not future.done():
                future.set_result(answer)
            elif not isinstance(answer, Exception):
                thread.call(lambda: thread.discard(answer))  # it came too late: nobody waits

        def operation() -> None:
            answer = self._try_open(thread, meta, names, sink)
            try:
                loop.call_soon_threadsafe(deliver, answer)
            except RuntimeError:  # the loop is closed
                if not isinstance(answer, Exception):
                    thread.discard(answer)

        thread.call(operation)
        try:
            async with asyncio.timeout(thread.limits.open_s):
                answer = await future
        except TimeoutError as error:
            raise RecorderFailed("the recorder does not answer") from error
        if isinstance(answer, OSError):
            raise RecorderFailed(f"cannot open a recording: {answer.strerror}") from answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _try_open(
        self, thread: RecorderThread, meta: RecordingMeta, names: tuple[str, ...], sink: RecordingSink
    ) -> Recording | Exception:
        """On a recorder thread."""
        folder = names[:-1]

        def open_part(part: int) -> PartFile:
            return create_part(self._root, (*names, part_name(part)))

        try:
            if free_bytes(self._root) < self._floor_bytes:
                raise OSError(errno.ENOSPC, "less free space than the floor")
            # the first in a folder makes its way durable; nobody may find the folder there before that is done
            with nullcontext() if folder in self._ready else self._first:
                recording = thread.open(meta, open_part, sink)
                self._ready.add(folder)
                return recording
        except (OSError, Invalid) as error:
            return error

    async def open(
        self, *, ten: str, rec: str, sid: str, start: datetime, dek: bytes | bytearray | None
    ) -> RecordingReader:
        """A reader over a recording's parts; RecordingInvalid when there are none."""
        directory = self.directory(ten, rec, start)
        parts = await asyncio.to_thread(lambda: sorted(directory.glob("p*.grec")))
        return RecordingReader(parts, expected=Expected(rec=rec, sid=sid, ten=ten), dek=dek)

    async def scan_unfinished(self, *, is_closed: Callable[[str, str], bool]) -> list[Unfinished]:
        """Recordings that broke off: not closed according to `is_closed(tenant, recording)`, and without a writer.

        A final recording that was never audited as closed is listed too: its broker died between the two.
        Truncates nothing; `is_closed` is called on another thread.
        """
        return await asyncio.to_thread(lambda: list(_unfinished(self._root, is_closed)))


def part_name(part: int) -> str:
    """File name of a part."""
    return f"p{part:04d}.grec"


def _names(ten: str, rec: str, start: datetime) -> tuple[str, ...]:
    if not _ID.fullmatch(ten) or not _ID.fullmatch(rec):
        raise RecordingInvalid("tenant and recording are opaque ids")
    if start.tzinfo is None:
        raise RecordingInvalid("the start has no time zone")
    day = start.astimezone(UTC)
    return (ten, f"{day:%Y}", f"{day:%m}", f"{day:%d}", rec)


def _unfinished(root: Path, is_closed: Callable[[str, str], bool]) -> Iterator[Unfinished]:
    for directory in sorted(root.glob(f"*/{_DAY}/*")):
        ten, rec = directory.relative_to(root).parts[0], directory.name
        parts: Sequence[Path] = sorted(directory.glob("p*.grec"))
        if not parts or is_closed(ten, rec) or is_live(parts[-1]):
            continue
        yield _examine(ten, rec, parts[-1])


def _examine(ten: str, rec: str, path: Path) -> Unfinished:
    try:
        found = scan_file(path)
    except RecordingInvalid as error:
        return Unfinished(ten=ten, rec=rec, path=path, scan=None, problem=str(error))
    problem = found.problem
    if (found.header.ten, found.header.rec) != (ten, rec):
        problem = f"this is recording {found.header.rec} of tenant {found.header.ten}"
    return Unfinished(ten=ten, rec=rec, path=path, scan=found, problem=problem)
