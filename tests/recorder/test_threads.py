"""Several recorder threads: one that waits for its disk holds up nobody else's recording, and none may be missing."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from recorder import writer
from recorder.errors import RecorderFailed
from recorder.grec import Kind
from recorder.store.files import FileRecordingStore
from recorder.verify import verify_paths
from recorder.writer import RecorderThread
from tests.recorder.recordings import DONE, START, eventually, meta, reader, recorder


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


async def test_a_thread_at_rest_is_there_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events gather for a while; what somebody waits for (an opening, a sync, a seal, room for more) does not."""
    monkeypatch.setattr(writer, "_REST_S", 600.0)
    async with asyncio.timeout(60):
        with recorder() as only:
            store = FileRecordingStore(tmp_path, only, floor_bytes=0)
            sink = await store.create(meta())
            await sink.event(Kind.OUT, 0, b"seen")
            await sink.sync()
            for _ in range(200):
                await sink.event(Kind.OUT, 0, bytes(60_000))
            await sink.close(DONE)
    assert all(report.ok for report in verify_paths(sorted(tmp_path.rglob("*.grec"))))


async def test_little_events_wake_the_thread_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keystrokes in a row are taken together, in order, and none is forgotten while nobody waits for it."""
    turns = 0
    really = RecorderThread._turn  # noqa: SLF001  how often it wakes is what is promised

    def counted(self: RecorderThread) -> None:
        nonlocal turns
        turns += 1
        really(self)

    monkeypatch.setattr(RecorderThread, "_turn", counted)
    monkeypatch.setattr(writer, "_REST_S", 0.5)
    with recorder() as only:
        store = FileRecordingStore(tmp_path, only, floor_bytes=0)
        sink = await store.create(meta())
        before = turns
        for number in range(100):
            await sink.event(Kind.OUT, 0, b"%d " % number)
            await asyncio.sleep(0.001)
        assert turns - before < 50
        await eventually(lambda: sink.lag_s() == 0.0, within_s=30)  # nobody hurried it
        await sink.close(DONE)
    kept = b"".join(
        event.payload for event in reader(store.directory("t1", "rec_1", START)).events() if event.kind == Kind.OUT
    )
    assert kept == b"".join(b"%d " % number for number in range(100))
