"""Recordings of sessions that were cut are sealed in turn, and none is lost by waiting (I-01, I-30, P16)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import cast

import pytest

from broker.core.action import Outcome
from broker.service import sealing
from broker.service.closing import Ended, cut
from broker.service.sealing import AT_ONCE, Turns
from recorder.sink import RecordingSink
from recorder.track import Commitment
from recorder.track import Outcome as RecordedOutcome
from tests.broker.service.world import until

EXIT = Ended(outcome=Outcome(exit_status=0, signal="", reason=""), cut=False)
SEALED = Commitment(rec="r", part=0, leaves=1, root=bytes(32), bytes=1, duration_us=1)


class Disk:
    """What seals when it is let, and tells how many it seals."""

    rec = "r"

    def __init__(self) -> None:
        self.lets = asyncio.Event()
        self.now = self.most = 0
        self.reasons = Counter[str]()

    async def close(self, outcome: RecordedOutcome) -> Commitment:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.lets.wait()
        self.now -= 1
        self.reasons[outcome.reason] += 1
        return SEALED

    @property
    def sink(self) -> RecordingSink:
        """As the caller has it."""
        return cast("RecordingSink", self)


async def test_so_many_are_sealed_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds that are cut at once leave the loop to others; each is sealed all the same."""
    monkeypatch.setattr(sealing, "KEPT_S", 60.0)
    disk, turns = Disk(), Turns()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(turns.seal(disk.sink, cut("frozen"))) for _ in range(10 * AT_ONCE)]
        await until(lambda: disk.now == AT_ONCE)
        disk.lets.set()
    assert disk.most == AT_ONCE
    assert disk.reasons == {"frozen": 10 * AT_ONCE}
    assert {task.result() for task in tasks} == {SEALED}


async def test_what_came_to_its_own_end_waits_for_no_turn() -> None:
    """A command of every day is not behind those that are cut, nor behind ends that are about to come."""
    never = asyncio.Event()

    async def until_calm(_longest: float) -> None:
        await never.wait()

    disk, turns = Disk(), Turns(until_calm)
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(turns.seal(disk.sink, cut("expired"))) for _ in range(2 * AT_ONCE)]
        own = group.create_task(turns.seal(disk.sink, EXIT))
        await until(lambda: disk.now == 1)
        disk.lets.set()
        assert await own == SEALED
        assert disk.reasons == {"exit": 1}
        never.set()
    assert all(task.result() == SEALED for task in waiting)


@pytest.mark.parametrize("reason", ["revoked", "frozen", "broker_stopping", "caller_gone"])
async def test_what_somebody_took_away_is_not_behind_what_ran_out(reason: str) -> None:
    """I-61: whoever froze, revoked or stops the broker waits for its end; the clock's own ends wait in no place."""
    asked = list[float]()

    async def until_calm(longest: float) -> None:
        asked.append(longest)
        await asyncio.Event().wait()

    disk, turns = Disk(), Turns(until_calm)
    disk.lets.set()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(turns.seal(disk.sink, cut("expired"))) for _ in range(2 * AT_ONCE)]
        await until(lambda: len(asked) == 2 * AT_ONCE)
        assert await turns.seal(disk.sink, cut(reason)) == SEALED
        assert set(asked) == {sealing.LONGEST_S}
        for task in waiting:
            task.cancel()
    assert disk.reasons == {reason: 1}


async def test_a_disk_that_stalls_makes_all_wait_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one after another: each gives its place up after a while and goes on waiting for its own seal."""
    monkeypatch.setattr(sealing, "KEPT_S", 0.01)
    disk, turns = Disk(), Turns()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(turns.seal(disk.sink, cut("revoked"))) for _ in range(4 * AT_ONCE)]
        await until(lambda: disk.now == 4 * AT_ONCE)
        disk.lets.set()
    assert all(task.result() == SEALED for task in tasks)


async def test_one_that_is_given_up_leaves_its_place() -> None:
    """Whoever is cancelled while waiting, or while it is sealed, takes no place along."""
    disk, turns = Disk(), Turns()
    for _ in range(2):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(turns.seal(disk.sink, cut("revoked"))) for _ in range(3 * AT_ONCE)]
            await until(lambda: disk.now >= AT_ONCE)
            for task in tasks:
                task.cancel()
        disk.now = 0
    disk.lets.set()
    async with asyncio.timeout(5):
        assert await turns.seal(disk.sink, cut("revoked")) == SEALED
