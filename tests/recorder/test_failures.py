"""What the recorder does when the disk does not: fail at once, seal what it can, never go on without (I-30)."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recorder.errors import RecorderFailed
from recorder.grec import Kind
from recorder.reader import scan_file
from recorder.scan import State
from recorder.sink import RecordingSink
from recorder.store import files as files_module
from recorder.store.disk import DiskPart, create_part, is_live
from recorder.track import Limits, RecordingMeta
from recorder.writer import RecorderThread
from tests.recorder.recordings import DONE, QUICK, START, meta, reader, store
from tests.recorder.trouble import NOISE, fails, pour, troubled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS])
@pytest.mark.parametrize("where", ["write", "sync"])
async def test_a_broken_disk_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int
) -> None:
    """An I/O error fails the recording within a second; it stays without an end, its whole frames readable."""
    broken = threading.Event()

    def trouble(step: str) -> None:
        if broken.is_set() and step == where:
            raise OSError(code, os.strerror(code))

    with troubled(monkeypatch, trouble), store(tmp_path) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, b"before")
        await sink.sync()
        broken.set()
        await sink.event(Kind.OUT, 0, b"accepted")
        await fails(sink)
        with pytest.raises(RecorderFailed):
            await sink.close(DONE)
    found = reader(files.directory("t1", "rec_1", START))
    assert found.state in {State.TRUNCATED, State.TORN}
    assert next(found.events()).payload == b"before"


async def test_an_error_while_sealing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A close that cannot write the end raises; it is never taken for a sealed recording."""
    broken = threading.Event()

    def trouble(step: str) -> None:
        if broken.is_set() and step == "write":
            raise OSError(errno.EIO, "input/output error")

    with troubled(monkeypatch, trouble), store(tmp_path) as files:
        sink = await files.create(meta())
        broken.set()
        with pytest.raises(RecorderFailed):
            await sink.close(DONE)
        assert reader(files.directory("t1", "rec_1", START)).verify([sink.opened]) is State.TRUNCATED


async def test_a_full_disk_seals_with_what_was_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no more room can be had, what was accepted and an orderly end still fit into the reserve."""
    full = threading.Event()

    def trouble(step: str) -> None:
        if full.is_set() and step == "reserve":
            raise OSError(errno.ENOSPC, "no space left on device")

    with troubled(monkeypatch, trouble), store(tmp_path) as files:
        sink = await files.create(meta())
        full.set()
        await sink.event(Kind.OUT, 0, b"accepted")
        await fails(sink)
        commitment = await sink.close(DONE)
        with pytest.raises(RecorderFailed):
            await files.create(meta("rec_2"))
    found = reader(files.directory("t1", "rec_1", START))
    assert found.state is State.FINAL
    assert [event.payload for event in found.events()] == [b"accepted"]
    assert found.summary()["exit"]["reason"] == "recorder_failed"
    assert found.summary()["lost"] == 0
    assert commitment.leaves == 3


async def test_what_is_lost_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If even the reserve cannot be written once, the end takes the spent number and says how much was lost."""
    steps: list[str] = []
    full = threading.Event()

    def trouble(step: str) -> None:
        steps.append(step)
        if full.is_set() and step in {"reserve", "write"} and steps.count("write") < 3:
            raise OSError(errno.ENOSPC, "no space left on device")

    with troubled(monkeypatch, trouble), store(tmp_path) as files:
        sink = await files.create(meta())
        full.set()
        await sink.event(Kind.OUT, 0, b"0123456789")
        await fails(sink)
        await sink.close(DONE)
    found = reader(files.directory("t1", "rec_1", START))
    assert found.state is State.FINAL
    assert list(found.events()) == []
    assert found.summary()["lost"] >= 10


async def test_waiting_sessions_hear_of_the_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that waits for room is woken by the failure, not left waiting."""
    stop = threading.Event()

    def trouble(step: str) -> None:
        if stop.is_set() and step == "write":
            time.sleep(0.2)
            raise OSError(errno.EIO, "input/output error")

    with troubled(monkeypatch, trouble), store(tmp_path, replace(QUICK, queue_bytes=1024)) as files:
        sink = await files.create(meta())
        stop.set()
        async with asyncio.timeout(5):
            with pytest.raises(RecorderFailed):
                await pour(sink, 1024)


async def test_a_failed_rotation_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the next part cannot be opened the sealed one stays good and the session ends."""
    opened: list[int] = []

    def create(root: Path, names: Sequence[str]) -> DiskPart:
        opened.append(1)
        if len(opened) > 1:
            raise OSError(errno.ENOSPC, "no space left on device")
        return create_part(root, names)

    monkeypatch.setattr(files_module, "create_part", create)
    with store(tmp_path, replace(QUICK, part_bytes=1000)) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, NOISE.randbytes(2000))
        await sink.sync()
        await sink.event(Kind.OUT, 0, b"rotates")
        await fails(sink)
        with pytest.raises(RecorderFailed):
            await sink.close(DONE)
    found = reader(files.directory("t1", "rec_1", START))
    assert found.state is State.FINAL
    assert [event.payload for event in found.events()][-1] == b"rotates"


async def test_a_full_disk_that_then_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When even the reserve turns out to be unwritable there is no end, and close says so."""
    full = threading.Event()

    def trouble(step: str) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC if step == "reserve" else errno.EIO, "trouble")

    with troubled(monkeypatch, trouble), store(tmp_path) as files:
        sink = await files.create(meta())
        full.set()
        for _ in range(3):  # the later ones are queued behind the failure
            await sink.event(Kind.OUT, 0, b"accepted")
        with pytest.raises(RecorderFailed):
            await sink.sync()
        with pytest.raises(RecorderFailed):
            await sink.close(DONE)
    assert reader(files.directory("t1", "rec_1", START)).state is State.TRUNCATED


async def test_events_behind_the_failure_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events accepted before the session heard of the failure are counted as lost in the end frame."""
    full, release = threading.Event(), threading.Event()

    def trouble(step: str) -> None:
        if full.is_set() and step == "reserve":
            release.wait(20)
            raise OSError(errno.ENOSPC, "no space left on device")

    with troubled(monkeypatch, trouble), store(tmp_path) as files:
        sink = await files.create(meta())
        full.set()
        await sink.event(Kind.OUT, 0, b"kept")
        await asyncio.sleep(0.2)  # the timer's flush hangs in reserve
        for _ in range(3):
            await sink.event(Kind.OUT, 0, b"0123456789")
        release.set()
        await fails(sink)
        await sink.close(DONE)
    found = reader(files.directory("t1", "rec_1", START))
    assert [event.payload for event in found.events()] == [b"kept"]
    assert found.summary()["lost"] == 30


async def test_bulk_output_is_synced_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two timers no more than the bound stays unsynced."""
    steps: list[str] = []
    limits = replace(QUICK, flush_after_s=60.0, hold_s=120.0, lag_s=120.0, sync_bytes=512 * 1024)
    with troubled(monkeypatch, steps.append), store(tmp_path, limits) as files:
        sink = await files.create(meta())
        steps.clear()
        for _ in range(64):
            await sink.event(Kind.OUT, 0, NOISE.randbytes(64 * 1024))
        await sink.close(DONE)
    assert steps.count("sync") >= 4 * 1024 * 1024 // (512 * 1024 + 256 * 1024)


async def test_a_recorder_that_stops_is_noticed_at_once(tmp_path: Path) -> None:
    """Even before the loop has heard of it, nothing is accepted by a recorder that is not there."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
    with pytest.raises(RecorderFailed, match="stopped"):
        await sink.event(Kind.OUT, 0, b"x")


def test_nobody_left_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that opens after its whole loop is gone is let go, not kept open for ever."""
    release = threading.Event()

    def trouble(step: str) -> None:
        if step == "sync":
            release.wait(20)

    with troubled(monkeypatch, trouble), store(tmp_path) as files:
        loop = asyncio.new_event_loop()
        task = loop.create_task(files.create(meta()))
        loop.run_until_complete(asyncio.sleep(0.1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()
        release.set()
        path = files.directory("t1", "rec_1", START) / "p0000.grec"
        deadline = time.monotonic() + 5
        while is_live(path) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_live(path)


async def test_a_directory_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part whose name is not durable is not a recording."""

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    with store(tmp_path) as files:
        await (await files.create(meta())).close(DONE)
        (files.directory("t1", "rec_2", START)).mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(RecorderFailed, match="cannot open"):
                await files.create(meta("rec_2"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB. Needs root."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", where], check=False, capture_output=True
    )
    if mount.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


async def test_a_really_full_disk(small_disk: Path) -> None:
    """Noise until a real disk is full: the session fails at once, every accepted frame and an end are there."""
    with store(small_disk) as files:
        sink = await files.create(meta())
        async with asyncio.timeout(10):
            with pytest.raises(RecorderFailed):
                await pour(sink, 4096)
        await fails(sink)
        commitment = await sink.close(DONE)
        directory = files.directory("t1", "rec_1", START)
        found = reader(directory)
        assert found.state is State.FINAL
        assert found.summary()["leaves"] == commitment.leaves - 1
        (small_disk / "filler").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
        with pytest.raises(RecorderFailed, match="cannot open"):
            await files.create(meta("rec_2"))
        assert files.directory("t1", "rec_1", START) == directory


LIMITED = """
    import asyncio, resource, sys
    from pathlib import Path
    from recorder.errors import RecorderFailed
    from recorder.grec import Kind
    from tests.recorder.recordings import DONE, meta, store

    async def main():
        with store(Path(sys.argv[1])) as files:
            sink = await files.create(meta())
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            noise = open("/dev/urandom", "rb")
            try:
                while True:
                    await sink.event(Kind.OUT, 0, noise.read(4096))
                    await asyncio.sleep(0.001)
            except RecorderFailed:
                pass
            try:
                await sink.close(DONE)
            except RecorderFailed:
                print("no end")

    asyncio.run(main())
"""


def test_a_file_size_limit(tmp_path: Path) -> None:
    """Where not even the reserve can be written the recording has no end, and says so by having none."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), tmp_path],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    path = next(tmp_path.rglob("*.grec"))
    if done.stdout == "no end\n":
        assert scan_file(path).state in {State.TRUNCATED, State.TORN}
    else:
        assert scan_file(path).state is State.FINAL
    assert path.stat().st_size <= 100_000


async def test_a_late_opening_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that opens after its session gave up has no writer left, so it is found as unfinished."""
    release = threading.Event()

    def trouble(step: str) -> None:
        if step == "sync":
            release.wait(20)

    with troubled(monkeypatch, trouble), store(tmp_path, replace(QUICK, open_s=0.2)) as files:
        with pytest.raises(RecorderFailed, match="does not answer"):
            await files.create(meta())
        release.set()
        for _ in range(500):
            found = await files.scan_unfinished(is_closed=lambda _ten, _rec: False)
            if found:
                break
            await asyncio.sleep(0.01)
        assert [(each.ten, each.rec) for each in found] == [("t1", "rec_1")]


def test_a_file_system_without_reserves(tmp_path: Path) -> None:
    """Where room cannot be reserved the error says so; there is no going on without it."""
    fd = os.open(tmp_path, os.O_RDONLY)
    part = DiskPart(fd, [])
    with pytest.raises(OSError, match="cannot reserve"):
        part.reserve(0, 4096)
    part.close()


def test_nobody_can_switch_it_off() -> None:
    """No bound and no argument of the recorder is a switch: there is nothing to turn it off with (F18)."""
    for callable_ in (Limits, RecorderThread, files_module.FileRecordingStore, RecordingSink.event, RecordingMeta):
        for parameter in inspect.signature(callable_).parameters.values():
            assert "bool" not in str(parameter.annotation)
            assert not isinstance(parameter.default, bool)
