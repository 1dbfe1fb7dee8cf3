"""The recorder's promises while it works: what is accepted is kept, and what cannot be kept is refused (I-30)."""

from __future__ import annotations

import asyncio
import json
import os
import random
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recorder.errors import RecorderFailed, RecordingInvalid
from recorder.grec import Kind
from recorder.scan import State
from recorder.store.disk import create_part
from recorder.store.files import FileRecordingStore
from recorder.track import RESERVE, PartCheckpoint, Track
from recorder.writer import RecorderThread
from tests.recorder.recordings import DONE, QUICK, START, eventually, meta, reader, recorder, store

if TYPE_CHECKING:
    from collections.abc import Callable

    from recorder.track import Commitment


def final(commitment: Commitment) -> PartCheckpoint:
    """The audited form of a commitment."""
    return PartCheckpoint(
        rec=commitment.rec, part=commitment.part, leaves=commitment.leaves, root=commitment.root, final=True
    )


async def test_a_recording_reads_back(tmp_path: Path) -> None:
    """Everything that was accepted comes back in order, verified without the key and decrypted with it."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        await sink.event(Kind.EXEC, 0, b'{"argv":"uname -a"}', t_us=0)
        await sink.event(Kind.OUT, 0, b"Linux\n", t_us=1000)
        await sink.event(Kind.ERR, 0, b"oops\n", t_us=900)
        await sink.marker("allowed \x1b]0;x", "SE2002I", "0" * 32)
        await sink.sync()
        commitment = await sink.close(DONE)
        directory = files.directory("t1", "rec_1", START)
    found = reader(directory)
    assert found.verify([sink.opened, final(commitment)]) is State.FINAL
    events = list(found.events())
    assert [(event.kind, event.t_us) for event in events[:3]] == [(Kind.EXEC, 0), (Kind.OUT, 1000), (Kind.ERR, 1000)]
    assert json.loads(events[3].payload)["label"] == "allowed \x1b]0;x"
    assert found.summary()["exit"] == {"reason": "closed", "status": 0, "signal": None}
    assert commitment.bytes == (directory / "p0000.grec").stat().st_size
    assert commitment.duration_us == events[-1].t_us


async def test_files_are_private_and_new(tmp_path: Path) -> None:
    """0600 in 0700, at the documented path; an existing part or a link in the way is never written to."""
    with store(tmp_path) as files:
        await (await files.create(meta())).close(DONE)
        path = tmp_path / "t1" / "2026" / "11" / "22" / "rec_1" / "p0000.grec"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert {stat.S_IMODE(parent.stat().st_mode) for parent in list(path.parents)[:5]} == {0o700}
        before = path.read_bytes()
        with pytest.raises(RecorderFailed):
            await files.create(meta())
        assert path.read_bytes() == before
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "t2").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(RecorderFailed):
            await files.create(meta(ten="t2"))
        assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("bad", ["..", "a/b", "", "a" * 65, "a\n"])
async def test_no_id_leads_elsewhere(tmp_path: Path, bad: str) -> None:
    """A tenant or recording id that is not plain is refused before any path is made."""
    with store(tmp_path) as files:
        with pytest.raises(RecordingInvalid):
            await files.create(meta(bad))
        with pytest.raises(RecordingInvalid):
            await files.create(meta(ten=bad))
        with pytest.raises(RecordingInvalid):
            await files.create(replace(meta(), start=START.replace(tzinfo=None)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [{"dek": b"short"}, {"sid": "with space"}, {"dek_id": ""}])
async def test_a_recording_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """A bad key or id is the caller's error, and no file is left behind."""
    with store(tmp_path) as files, pytest.raises(RecordingInvalid):
        await files.create(replace(meta(), **change))  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*.grec"))


async def test_header_is_on_disk_at_open(tmp_path: Path) -> None:
    """A session killed in its first instant leaves a readable header, never an empty file."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        found = reader(files.directory("t1", "rec_1", START))
        assert found.verify([sink.opened]) is State.OPEN
        assert sink.opened.leaves == 1
        assert not sink.opened.final


async def test_frames_are_written_by_timer(tmp_path: Path) -> None:
    """One lonely event reaches the disk without a second one pushing it."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, b"alone")
        found = reader(files.directory("t1", "rec_1", START))
        await eventually(lambda: [event.payload for event in found.events()] == [b"alone"])
        assert found.state is State.OPEN


async def test_long_output_is_split_and_compressed(tmp_path: Path) -> None:
    """Megabytes in one call come back whole, over many frames and several zstd segments; seeking agrees."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        for second in range(8):
            await sink.event(Kind.OUT, 0, b"%07d\n" % second * 65536, t_us=second * 1_000_000)
        await sink.event(Kind.OUT, 0, b"late", t_us=200_000_000)
        commitment = await sink.close(DONE)
        found = reader(files.directory("t1", "rec_1", START))
    events = list(found.events())
    assert b"".join(event.payload for event in events) == b"".join(b"%07d\n" % n * 65536 for n in range(8)) + b"late"
    assert commitment.bytes < 200_000
    assert len(found.summary()["index"]) >= 4
    for start in (0, 1, 2_500_000, 7_000_000, 100_000_000, 300_000_000):
        assert list(found.events(start)) == [event for event in events if event.t_us >= start]
    assert list(found.events(1_000_000, 2_000_000)) == [e for e in events if 1_000_000 <= e.t_us <= 2_000_000]


async def test_times_never_run_backwards(tmp_path: Path) -> None:
    """An explicit time before the last event is moved up to it."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        for t_us in (5, 3, 9):
            await sink.event(Kind.OUT, 0, b"x", t_us=t_us)
        await sink.close(DONE)
        assert [event.t_us for event in reader(files.directory("t1", "rec_1", START)).events()] == [5, 5, 9]


async def test_checkpoints_come_with_progress(tmp_path: Path) -> None:
    """While there is progress, (leaves, root) is handed out to be audited; the file then proves it."""
    with store(tmp_path, replace(QUICK, checkpoint_s=0.05)) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, b"one")
        async with asyncio.timeout(5):
            first = await sink.checkpoints.get()
        await asyncio.sleep(0.2)
        assert sink.checkpoints.empty()
        await sink.event(Kind.OUT, 0, b"two")
        commitment = await sink.close(DONE)
        found = reader(files.directory("t1", "rec_1", START))
    assert first.leaves == 2
    assert found.verify([sink.opened, first, final(commitment)]) is State.FINAL
    with pytest.raises(RecordingInvalid, match="first 1 frames"):
        found.verify([replace(first, root=bytes(32))])


async def test_parts_rotate(tmp_path: Path) -> None:
    """A part that is long enough is sealed and the next continues from its root; the whole verifies and reads."""
    with store(tmp_path, replace(QUICK, part_bytes=20_000)) as files:
        sink = await files.create(meta())
        noise = random.Random(7)
        data = [noise.randbytes(30_000) for _ in range(4)]
        for piece in data:
            await sink.event(Kind.OUT, 0, piece)
            await sink.sync()
        commitment = await sink.close(DONE)
        audited = [sink.opened, final(commitment)]
        while not sink.checkpoints.empty():
            audited.append(sink.checkpoints.get_nowait())
        directory = files.directory("t1", "rec_1", START)
    found = reader(directory)
    assert commitment.part >= 1
    assert found.verify(audited) is State.FINAL
    assert b"".join(event.payload for event in found.events()) == b"".join(data)
    (directory / "p0000.grec").unlink()
    with pytest.raises(RecordingInvalid, match="part 0 is missing"):
        reader(directory).verify(audited)


async def test_malformed_events_are_the_callers_error(tmp_path: Path) -> None:
    """A JSON kind without an object, or an oversize one, is refused and the recording goes on."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        for data in (b"[]", b"not json"):
            with pytest.raises(ValueError, match=r".+"):
                await sink.event(Kind.EXIT, 0, data)
        with pytest.raises(ValueError, match="longer than"):
            await sink.event(Kind.META, 0, json.dumps({"x": "y" * 300_000}).encode())
        await sink.event(Kind.OUT, 0, b"still here")
        await sink.close(DONE)
        assert [event.payload for event in reader(files.directory("t1", "rec_1", START)).events()] == [b"still here"]


async def test_closing_is_final_and_repeatable(tmp_path: Path) -> None:
    """A second close gives the same commitment; nothing is accepted afterwards; a cancelled close still seals."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, b"x")
        task = asyncio.get_running_loop().create_task(sink.close(DONE))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        first = await sink.close(DONE)
        assert await sink.close(DONE) == first
        with pytest.raises(RecorderFailed):
            await sink.event(Kind.OUT, 0, b"late")
        assert reader(files.directory("t1", "rec_1", START)).verify([final(first)]) is State.FINAL


async def test_below_the_floor_nothing_opens(tmp_path: Path) -> None:
    """With less free space than the floor there is no recording, hence no session."""
    with store(tmp_path, floor_bytes=2**62) as files, pytest.raises(RecorderFailed, match="floor"):
        await files.create(meta())
    assert not list(tmp_path.iterdir())


async def test_a_stopped_recorder_refuses_everything(tmp_path: Path) -> None:
    """When the thread is gone, open recordings fail at once, new ones do not open, and the cut one reads as such."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, b"kept")
    async with asyncio.timeout(5):
        await sink.failed.wait()
    assert isinstance(sink.failure, RecorderFailed)
    with pytest.raises(RecorderFailed):
        await sink.event(Kind.OUT, 0, b"x")
    with pytest.raises(RecorderFailed):
        await sink.sync()
    with pytest.raises(RecorderFailed):
        await sink.close(DONE)
    with pytest.raises(RecorderFailed):
        await files.create(meta("rec_2"))
    found = reader(files.directory("t1", "rec_1", START))
    assert found.verify([sink.opened]) is State.TRUNCATED
    assert [event.payload for event in found.events()] == [b"kept"]


async def test_an_unforeseen_error_ends_every_session(tmp_path: Path) -> None:
    """Whatever kills the thread, all its recordings fail rather than go on unrecorded."""
    with store(tmp_path) as files:
        sinks = [await files.create(meta(f"rec_{n}")) for n in range(2)]

        def explode() -> None:
            raise ZeroDivisionError

        files._threads[0].call(explode)  # noqa: SLF001 - there is no honest way to make it break
        async with asyncio.timeout(5):
            for sink in sinks:
                await sink.failed.wait()
                with pytest.raises(RecorderFailed):
                    await sink.event(Kind.OUT, 0, b"x")


async def test_many_recordings_share_the_thread(tmp_path: Path) -> None:
    """Recordings made at the same time neither mix nor wait for one another's end."""
    with store(tmp_path) as files:

        async def one(number: int) -> None:
            sink = await files.create(meta(f"rec_{number}"))
            for step in range(20):
                await sink.event(Kind.OUT, 0, b"%d/%d\n" % (number, step))
                await asyncio.sleep(0)
            await sink.close(DONE)

        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(one(number))
    for number in range(30):
        found = reader(files.directory("t1", f"rec_{number}", START), rec=f"rec_{number}")
        assert [event.payload for event in found.events()] == [b"%d/%d\n" % (number, step) for step in range(20)]


async def test_reserved_room_is_given_back(tmp_path: Path) -> None:
    """A sealed recording occupies what it is long, not the reserve."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        path = files.directory("t1", "rec_1", START) / "p0000.grec"
        assert path.stat().st_blocks * 512 >= 256 * 1024
        await sink.close(DONE)
        assert path.stat().st_blocks * 512 <= 8192


async def test_wall_clock_steps_are_recorded(tmp_path: Path) -> None:
    """When somebody sets the clock, the recording says so and by how much."""
    step = [0.0]
    thread = RecorderThread(limits=QUICK, wall=lambda: time.monotonic() + step[0])
    thread.start()
    files = FileRecordingStore(tmp_path, thread, floor_bytes=0)
    sink = await files.create(meta())
    step[0] = 60.0
    await sink.event(Kind.OUT, 0, b"x")
    found = reader(files.directory("t1", "rec_1", START))
    await eventually(lambda: Kind.META in [event.kind for event in found.events()])
    notes = [json.loads(event.payload) for event in found.events() if event.kind is Kind.META]
    await sink.close(DONE)
    thread.close()
    assert len(notes) == 1
    assert abs(notes[0]["clock_step_us"] - 60_000_000) < 100_000


def test_two_writers_never_share_a_part(tmp_path: Path) -> None:
    """The second creator of the same part gets an error, whoever is first."""
    with recorder():
        create_part(tmp_path, ("a", "p0000.grec")).close()
        with pytest.raises(FileExistsError):
            create_part(tmp_path, ("a", "p0000.grec"))


async def test_the_end_fits_into_the_reserve(tmp_path: Path) -> None:
    """However long the recording, its end frame stays far below the room that is reserved for it."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        for minute in range(1100):
            await sink.event(Kind.OUT, 0, b"x", t_us=minute * 61_000_000)
            await sink.marker("\u202e" * 500, "SE2002I", "0" * 32)
            await sink.sync()
        before = (files.directory("t1", "rec_1", START) / "p0000.grec").stat().st_size
        commitment = await sink.close(DONE)
    summary = reader(files.directory("t1", "rec_1", START)).summary()
    assert commitment.bytes - before <= RESERVE // 2
    assert 512 <= len(summary["index"]) <= 1024
    assert len(summary["markers"]) == 64
    assert summary["counts"] == {"OUT": 1100, "MARK": 1100}


async def test_durable_means_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening syncs the file and every directory with a new entry; `sync` and `close` sync the file again."""
    synced: list[str] = []
    real_sync, real_data = os.fsync, os.fdatasync

    def note(fd: int, then: Callable[[int], None]) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        then(fd)

    monkeypatch.setattr(os, "fsync", lambda fd: note(fd, real_sync))
    monkeypatch.setattr(os, "fdatasync", lambda fd: note(fd, real_data))
    with store(tmp_path) as files:
        sink = await files.create(meta())
        assert synced[0] == "p0000.grec"
        assert set(synced[1:]) == {"rec_1", "22", "11", "2026", "t1", tmp_path.name}
        synced.clear()
        await sink.event(Kind.OUT, 0, b"x")
        await sink.sync()
        assert synced == ["p0000.grec"]
        await sink.close(DONE)
        assert synced == ["p0000.grec"] * 2
        synced.clear()
        await files.create(meta("rec_2"))
        assert synced == ["p0000.grec", "rec_2", "22"]


def test_the_recorders_copy_of_the_key_is_zeroed(tmp_path: Path) -> None:
    """Sealed or abandoned, a recording's own copy of its data key is overwritten, and it never shows in a repr."""
    for name in ("sealed", "abandoned"):
        track = Track(meta(), QUICK, lambda _: create_part(tmp_path, (name,)), 0.0)  # noqa: B023 - called at once
        assert bytes(track._dek) == meta().dek  # noqa: SLF001 - the copy is nobody else's business
        if name == "sealed":
            track.end(DONE)
        else:
            track.abandon()
        assert bytes(track._dek) == bytes(32)  # noqa: SLF001
        assert track.meta.dek == b""
    assert "dek=" not in repr(meta())
