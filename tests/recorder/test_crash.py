"""kill -9 at any time: at most one second is lost, what is left is whole frames, and it is found again (I-30)."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from recorder.errors import RecordingInvalid
from recorder.grec import Kind
from recorder.reader import scan_file
from recorder.scan import State, scan
from recorder.track import PartCheckpoint
from tests.recorder.recordings import DONE, QUICK, START, meta, reader, store

if TYPE_CHECKING:
    from pathlib import Path

VICTIM = """
    import asyncio, sys, time
    from pathlib import Path
    from recorder.grec import Kind
    from recorder.track import Limits
    from tests.recorder.recordings import meta, store

    async def main():
        with store(Path(sys.argv[1]), Limits()) as files:
            sink = await files.create(meta())
            print("open", sink.opened.root.hex(), flush=True)
            while True:
                now = time.monotonic_ns() // 1000
                await sink.event(Kind.OUT, 0, b"%d\\n" % now)
                await asyncio.sleep(0.005)

    asyncio.run(main())
"""
MOST_LOST_US = 1_000_000


@pytest.mark.parametrize("life_s", [0.0, 0.3, 0.95, 1.7, 2.4])
def test_kill_9(tmp_path: Path, life_s: float) -> None:
    """The recording of a killed process reads, verifies as not final, and lacks at most its last second."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(VICTIM), tmp_path], stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout is not None
        _, root = victim.stdout.readline().split()
        time.sleep(life_s + random.Random(life_s).random() / 10)
        killed_us = time.monotonic_ns() // 1000
        victim.send_signal(signal.SIGKILL)
    opened = PartCheckpoint(rec="rec_1", part=0, leaves=1, root=bytes.fromhex(root), final=False)
    path = next(tmp_path.rglob("*.grec"))
    found = reader(path.parent)
    assert found.verify([opened]) in {State.TRUNCATED, State.TORN}
    stamps = [int(event.payload) for event in found.events()]
    assert stamps == sorted(stamps)
    assert killed_us - (stamps[-1] if stamps else killed_us) <= MOST_LOST_US
    if life_s > MOST_LOST_US / 1_000_000:
        assert stamps


async def test_unfinished_recordings_are_found(tmp_path: Path) -> None:
    """After a crash the store lists what broke off, and only that: not the closed, not the living."""
    with store(tmp_path) as files:
        await (await files.create(meta("rec_closed"))).close(DONE)
        for rec in ("rec_cut", "rec_known"):
            sink = await files.create(meta(rec))
            await sink.event(Kind.OUT, 0, b"x" * 100)
            await sink.sync()
    with store(tmp_path) as files:
        await files.create(meta("rec_live"))
        found = await files.scan_unfinished(is_closed=lambda ten, rec: (ten, rec) == ("t1", "rec_known"))
    assert [(each.ten, each.rec) for each in found] == [("t1", "rec_closed"), ("t1", "rec_cut")]
    closed, cut = (each.scan for each in found)
    assert closed is not None
    assert cut is not None
    assert (closed.state, cut.state) == (State.FINAL, State.TRUNCATED)
    assert cut.leaves == 2


async def test_recovery_demands_what_was_audited(tmp_path: Path) -> None:
    """A recovered recording must still hold its last audited checkpoint; rolled back or altered, it is refused."""
    with store(tmp_path, replace(QUICK, checkpoint_s=0.0)) as files:
        sink = await files.create(meta())
        for number in range(3):
            await sink.event(Kind.OUT, 0, b"%d" % number)
            await sink.sync()
        marks = [sink.opened, *[await sink.checkpoints.get() for _ in range(3)]]
        path = files.directory("t1", "rec_1", START) / "p0000.grec"
    whole = path.read_bytes()

    async def unfinished() -> object:
        with store(tmp_path) as files:
            (found,) = await files.scan_unfinished(is_closed=lambda _ten, _rec: False)
        for mark in marks:
            found.require(mark)
        return found

    await unfinished()
    path.write_bytes(whole + b"torn")
    await unfinished()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:40] + b"x" + whole[41:], b"", b"\x89GREC1\r\n"):
        path.write_bytes(damaged)
        with pytest.raises(RecordingInvalid):
            await unfinished()
    path.write_bytes(whole)
    with pytest.raises(RecordingInvalid, match="part 1"):
        (await unfinished()).require(replace(marks[-1], part=1))  # type: ignore[attr-defined]


async def test_a_file_that_was_moved_is_named(tmp_path: Path) -> None:
    """A recording under another tenant's or recording's name is listed with that as its problem."""
    with store(tmp_path) as files:
        await (await files.create(meta())).close(DONE)
        old = files.directory("t1", "rec_1", START)
        new = files.directory("t2", "rec_1", START)
        new.parent.mkdir(parents=True)
        old.rename(new)
        (new / "p0000.grec").with_name("empty").mkdir()
        (new.parent / "rec_empty").mkdir()
        (found,) = await files.scan_unfinished(is_closed=lambda _ten, _rec: False)
    assert found.problem == "this is recording rec_1 of tenant t1"


async def test_reading_at_random_cuts(tmp_path: Path) -> None:
    """A recording with many compressed frames, cut anywhere, yields exactly a prefix of its events."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        for number in range(200):
            await sink.event(Kind.OUT, 0, b"line %d\n" % number * 20)
            if number % 5 == 0:
                await sink.sync()
        await sink.close(DONE)
        path = files.directory("t1", "rec_1", START) / "p0000.grec"
    whole = path.read_bytes()
    events = list(reader(path.parent).events())
    start = scan_file(path).header.encode()
    source = random.Random(5)
    for _ in range(60):
        cut = source.randrange(len(start) + 50, len(whole))
        path.write_bytes(whole[:cut])
        found = reader(path.parent)
        kept = list(found.events())
        assert kept == events[: len(kept)]
        assert found.state in {State.TRUNCATED, State.TORN}
        assert scan(io.BytesIO(whole[:cut])).problem is None
