"""Makes recordings for tests: a store on a temporary directory, with bounds short enough to wait for."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from recorder.reader import Expected, RecordingReader
from recorder.store.files import FileRecordingStore
from recorder.track import Limits, Outcome, RecordingMeta
from recorder.writer import RecorderThread
from tests.pace import Since

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEK = bytes(range(32))
START = datetime(2026, 11, 22, tzinfo=UTC)
DONE = Outcome(reason="closed", status=0, signal=None)
QUICK = Limits(flush_after_s=0.05, lag_s=5.0)


def meta(rec: str = "rec_1", *, ten: str = "t1", sid: str = "ses_1", dek: bytes = DEK) -> RecordingMeta:
    """The first part of a recording."""
    return RecordingMeta(
        rec=rec, sid=sid, ten=ten, dek_id="dek_1", dek=dek, salt=os.urandom(24), start=START, part=0, prev=None
    )


@contextmanager
def recorder(limits: Limits = QUICK) -> Iterator[RecorderThread]:
    """A running recorder thread."""
    thread = RecorderThread(limits=limits)
    thread.start()
    try:
        yield thread
    finally:
        thread.close()


@contextmanager
def store(root: Path, limits: Limits = QUICK, *, floor_bytes: int = 0) -> Iterator[FileRecordingStore]:
    """A store with its own running thread."""
    with recorder(limits) as thread:
        yield FileRecordingStore(root, thread, floor_bytes=floor_bytes)


async def eventually(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Wait until condition holds; AssertionError when it does not in time."""
    since = Since()
    while not condition():
        assert since.s() < within_s, "it never came to that"
        await asyncio.sleep(0.01)


def reader(directory: Path, *, rec: str = "rec_1", dek: bytes | None = DEK) -> RecordingReader:
    """A reader over everything in a recording's directory."""
    parts = sorted(directory.glob("p*.grec"))
    return RecordingReader(parts, expected=Expected(rec=rec, sid="ses_1", ten="t1"), dek=dek)
