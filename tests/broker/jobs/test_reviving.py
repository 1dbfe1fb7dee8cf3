"""The loop over the embedded signer: it starts another one, with patience, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from broker.core.errors import SignerFault
from broker.jobs import reviving
from broker.jobs.reviving import FIRST_PAUSE, LONGEST_PAUSE, STEADY_AFTER, Reviving
from tests.broker.service.by_hand import Counts, HandClock


class Child:
    """A process that a test ends."""

    def __init__(self) -> None:
        self.end, self.stopped = asyncio.Event(), False

    async def ended(self) -> int:
        await self.end.wait()
        return -9

    async def stop(self) -> None:
        self.stopped = True


class Nursery:
    """Starts children, except for as many as shall fail; remembers how long the loop paused before each start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.children = [Child()]
        self.failures = 0
        self.pauses: list[float] = []
        self.clock, self.meter = HandClock(), Counts()

        async def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            await asyncio.sleep(0)

        monkeypatch.setattr(reviving, "sleep", pause)
        self.job = Reviving(child=self.children[0], start=self.start, clock=self.clock, meter=self.meter)

    async def start(self) -> Child:
        if self.failures:
            self.failures -= 1
            raise SignerFault("the signer did not start")
        self.children.append(Child())
        return self.children[-1]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self.job.run())
        yield
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])

    async def end(self) -> None:
        """The present child dies; returns once there is another one."""
        count = len(self.children)
        self.children[-1].end.set()
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(self.children) == count + 1


@pytest.fixture
def nursery(monkeypatch: pytest.MonkeyPatch) -> Nursery:
    """One child that lives, and a loop that watches it."""
    return Nursery(monkeypatch)


async def test_a_signer_that_ended_is_replaced_said_and_counted(nursery: Nursery) -> None:
    """An operator sees it; nobody has to do anything."""
    with capture_logs() as logs:
        async with nursery.running():
            await nursery.end()
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("signer.ended", "error"), ("signer.restarted", "warning"),
    ]  # fmt: skip
    assert logs[0]["status"] == -9
    assert nursery.meter.counted == [("signer_restarts", {})]


async def test_a_start_that_fails_is_tried_again_with_growing_pauses(nursery: Nursery) -> None:
    """Never at once, never given up, never slower than the longest pause."""
    nursery.failures = 12
    with capture_logs() as logs:
        async with nursery.running():
            await nursery.end()
    assert nursery.pauses == [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(13)]
    assert [entry["event"] for entry in logs].count("signer.not_started") == 12


async def test_one_that_dies_again_and_again_is_not_restarted_in_a_loop(nursery: Nursery) -> None:
    """The pause grows over quick deaths, and starts anew after a steady life."""
    async with nursery.running():
        for _ in range(3):
            await nursery.end()
        assert nursery.pauses == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]
        nursery.clock.forward(STEADY_AFTER)
        await nursery.end()
        assert nursery.pauses[-1] == FIRST_PAUSE


async def test_stop_ends_the_present_one(nursery: Nursery) -> None:
    """Not the one that is long gone."""
    async with nursery.running():
        await nursery.end()
    await nursery.job.stop()
    assert [child.stopped for child in nursery.children] == [False, True]
