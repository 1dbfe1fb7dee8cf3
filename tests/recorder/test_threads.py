"""Several recorder threads: one that waits for its disk holds up nobody else's recording, and none may be missing."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from recorder.errors import RecorderFailed
from recorder.grec import Kind
from recorder.store.files import FileRecordingStore
from recorder.verify import verify_paths
from tests.recorder.recordings import DONE, meta, recorder


async def test_recordings_do_not_wait_for_one_anothers_disk(tmp_path: Path) -> None:
    """While one thread is stuck, the recordings of the other begin, take events and are sealed."""
    stuck = threading.Event()
    with recorder() as first, recorder() as second:
        store = FileRecordingStore(tmp_path, first, second, floor_bytes=0)
        first.call(lambda: _wait(stuck))
        async with asyncio.TaskGroup() as group:
            late = group.create_task(store.create(meta("rec_1")))
            await asyncio.sleep(0)  # it has taken the first thread
            sink = await store.create(meta("rec_2"))
            await sink.event(Kind.OUT, 0, b"seen")
            await sink.close(DONE)
            assert not late.done()
            stuck.set()
        await (await late).close(DONE)
    parts = sorted(tmp_path.rglob("*.grec"))
    assert len(parts) == 2
    assert all(report.ok for report in verify_paths(parts))


async def test_without_one_of_its_threads_nothing_is_recorded(tmp_path: Path) -> None:
    """Fail closed: a thread that ended is no reason to go on with the rest (I-30)."""
    with recorder() as first:
        with recorder() as second:
            store = FileRecordingStore(tmp_path, first, second, floor_bytes=0)
        for name in ("rec_1", "rec_2"):
            with pytest.raises(RecorderFailed):
                await store.create(meta(name))
    with pytest.raises(RecorderFailed):
        await FileRecordingStore(tmp_path, floor_bytes=0).create(meta())


async def test_the_first_of_a_folder_makes_it_durable_before_others_use_it(tmp_path: Path) -> None:
    """Two threads in a new folder: the second does not take it for durable while the first still makes it so."""
    with recorder() as first, recorder() as second:
        store = FileRecordingStore(tmp_path, first, second, floor_bytes=0)
        first_in_folder = store._first  # noqa: SLF001  nothing else can hold up a first opening
        first_in_folder.acquire()
        async with asyncio.TaskGroup() as group:
            opening = [group.create_task(store.create(meta(f"rec_{n}"))) for n in range(2)]
            await asyncio.sleep(0.1)
            assert not any(task.done() for task in opening)
            first_in_folder.release()
        for task in opening:
            await task.result().close(DONE)


def _wait(event: threading.Event) -> None:
    event.wait(20)
