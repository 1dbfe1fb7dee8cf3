"""What the recorder does while the disk stalls: hold the session, lose no more than ever, end it at last (I-30)."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recorder.errors import RecorderFailed
from recorder.grec import Kind
from recorder.scan import State
from recorder.track import Limits
from tests.recorder.recordings import DONE, QUICK, START, eventually, meta, reader, store
from tests.recorder.trouble import NOISE, fails, pour, troubled

HOLD_S = 0.2


class Stall:
    """A disk whose syncs hang from `begin` to `over`."""

    def __init__(self) -> None:
        self._hangs, self.over = threading.Event(), threading.Event()
        self.met = threading.Event()

    def begin(self) -> None:
        self._hangs.set()

    def __call__(self, step: str) -> None:
        if step == "sync" and self._hangs.is_set() and not self.over.is_set():
            self.met.set()
            self.over.wait(60)


async def test_a_disk_that_stalls_holds_the_session_and_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is accepted, so nothing sent on, while an event waits longer than the bound; then it all goes on."""
    stall, limits = Stall(), replace(QUICK, hold_s=HOLD_S, lag_s=60.0)
    ages: list[float] = []
    with troubled(monkeypatch, stall), store(tmp_path, limits) as files:
        sink = await files.create(meta())
        sink.tap = lambda _: ages.append(sink.lag_s())
        stall.begin()
        async with asyncio.TaskGroup() as group:
            pouring = group.create_task(pour(sink, 64))
            await eventually(lambda: stall.met.is_set() and sink.lag_s() > 2 * HOLD_S, within_s=30)
            held = len(ages)
            await asyncio.sleep(2 * HOLD_S)
            assert (len(ages), sink.failed.is_set()) == (held, False)
            stall.over.set()
            await eventually(lambda: len(ages) > held, within_s=30)
            pouring.cancel()
        await sink.close(DONE)
    assert max(ages) < HOLD_S + 0.1, "nothing is accepted behind what is older"
    found = reader(files.directory("t1", "rec_1", START))
    assert (found.state, len(list(found.events()))) == (State.FINAL, len(ages))


async def test_a_session_that_ends_while_the_disk_stalls_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealing waits for the disk as long as a session does, which is longer than a new one waits for its beginning."""
    stall, limits = Stall(), replace(QUICK, open_s=0.1, lag_s=60.0)
    with troubled(monkeypatch, stall), store(tmp_path, limits) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, b"said")
        stall.begin()
        async with asyncio.TaskGroup() as group:
            sealing = group.create_task(sink.close(DONE))
            with pytest.raises(RecorderFailed, match="does not answer"):
                await files.create(meta("rec_2"))
            stall.over.set()
        assert sealing.result().leaves > 1
    assert reader(files.directory("t1", "rec_1", START)).state is State.FINAL


def test_a_quiet_disk_is_never_too_late() -> None:
    """What waits for its timer alone holds nothing up: the bound leaves time for the sync."""
    assert Limits().flush_after_s < Limits().hold_s < Limits().lag_s


async def test_a_disk_that_hangs_fails_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error, only silence: the lag bound ends the session although the recorder thread is stuck."""
    hang, release = threading.Event(), threading.Event()

    def trouble(step: str) -> None:
        if hang.is_set() and step == "sync":
            release.wait(20)

    limits = replace(QUICK, lag_s=0.3, open_s=0.5)
    with troubled(monkeypatch, trouble), store(tmp_path, limits) as files:
        sink = await files.create(meta())
        hang.set()
        began = time.monotonic()
        await sink.event(Kind.OUT, 0, b"accepted")
        await fails(sink)
        assert time.monotonic() - began >= 0.3
        with pytest.raises(RecorderFailed, match="does not answer"):
            await sink.close(DONE)
        with pytest.raises(RecorderFailed, match="does not answer"):
            await files.create(meta("rec_2"))
        release.set()
    found = reader(files.directory("t1", "rec_1", START))
    assert [event.payload for event in found.events()] == [b"accepted"]
    assert found.state is State.FINAL


async def test_an_idle_recording_is_not_late(tmp_path: Path) -> None:
    """The lag bound counts unsaved events, not silence."""
    with store(tmp_path, replace(QUICK, flush_after_s=0.02, lag_s=0.2)) as files:
        sink = await files.create(meta())
        for _ in range(8):
            await sink.event(Kind.OUT, 0, b"x")
            await asyncio.sleep(0.08)
        await asyncio.sleep(0.3)
        assert not sink.failed.is_set()
        await sink.close(DONE)


async def test_a_slow_disk_slows_the_session_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 4 MiB unwritten, `event` waits: nothing is dropped and memory stays bounded."""
    stop, release = threading.Event(), threading.Event()

    def trouble(step: str) -> None:
        if stop.is_set() and step == "write":
            release.wait(20)

    limits = replace(QUICK, queue_bytes=256 * 1024)
    sent = 0
    with troubled(monkeypatch, trouble), store(tmp_path, limits) as files:
        sink = await files.create(meta())
        stop.set()
        chunk = NOISE.randbytes(64 * 1024)

        async def pump() -> None:
            nonlocal sent
            for _ in range(64):
                await sink.event(Kind.OUT, 0, chunk)
                sent += len(chunk)

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(pump())
            await asyncio.sleep(0.3)
            assert sent <= 2 * 256 * 1024 + 2 * 512 * 1024
            held = sent
            release.set()
        assert held < sent == 64 * len(chunk)
        await sink.close(DONE)
    found = reader(files.directory("t1", "rec_1", START))
    assert sum(len(event.payload) for event in found.events()) == sent


async def test_a_waiting_sync_hears_of_the_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that waits for durability is woken by the lag bound."""
    hang, release = threading.Event(), threading.Event()

    def trouble(step: str) -> None:
        if hang.is_set() and step == "sync":
            release.wait(20)

    with troubled(monkeypatch, trouble), store(tmp_path, replace(QUICK, lag_s=0.2)) as files:
        sink = await files.create(meta())
        await sink.sync()  # nothing to wait for
        hang.set()
        await sink.event(Kind.OUT, 0, b"x")
        with pytest.raises(RecorderFailed, match="not durable after"):
            await sink.sync()
        release.set()
        await sink.close(DONE)
