"""Garbage is collected where nobody waits for it (I-01, P16)."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from broker.core.clock import Instant
from broker.jobs import collecting
from broker.jobs.collecting import AHEAD, ENOUGH, GROWN, GROWN_FAR, LONGEST, SHORTLY, Collecting
from broker.service.ends import Ends
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.world import House, until


class Heap:
    """Garbage that says what was asked of it."""

    def __init__(self) -> None:
        self.made, self.bytes, self.done = 0, 1_000, list[str]()
        self.unknown = False

    @contextmanager
    def by_hand(self) -> Iterator[None]:
        self.done.append("by hand")
        try:
            yield
        finally:
            self.done.append("by itself")

    def waiting(self) -> int:
        return self.made

    def collect_young(self) -> None:
        self.made = 0
        self.done.append("young")

    def collect_all(self) -> None:
        self.done.append("all")

    def resident(self) -> int:
        if self.unknown:
            raise OSError(errno.EMFILE, "no descriptor is free")
        return self.bytes


class Coming:
    """Ends of which the next comes in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def left(self, _: Instant, longest: float) -> float:
        return min(longest, self.seconds)


def _job(house: House, heap: Heap, coming: Coming) -> Collecting:
    return Collecting(garbage=heap, ends=coming, leases=house.world.leases, clock=house.clock)  # type: ignore[arg-type]


async def test_a_little_is_left_alone(house: House) -> None:
    """A look ten times a second costs nothing where nothing was made."""
    heap = Heap()
    heap.made = ENOUGH - 1
    _job(house, heap, Coming(60)).step()
    assert heap.done == []


async def test_an_end_that_is_about_to_come_goes_first(house: House) -> None:
    """The collection comes once it is calm, or after LONGEST: a stream of ends that never stops makes no leak."""
    heap, coming = Heap(), Coming(0.02)
    job = _job(house, heap, coming)
    for passed, done in ((0, []), (LONGEST / 2, []), (LONGEST / 2, ["young"])):
        heap.made = ENOUGH
        house.clock.mono += passed
        job.step()
        assert heap.done == done
    heap.made = ENOUGH
    job.step()
    assert heap.done == ["young"]  # it waits anew
    coming.seconds = 60
    job.step()
    assert heap.done == ["young", "young"]


async def test_it_looks_when_the_next_end_comes_by_itself(house: House) -> None:
    """What the last look of those who cut found is as old as that look."""
    heap, ends = Heap(), Ends()
    job = Collecting(garbage=heap, ends=ends, leases=house.world.leases, clock=house.clock)
    ends.expect(TENANT, house.clock.now() + timedelta(seconds=SHORTLY / 2))
    heap.made = ENOUGH
    job.step()
    assert ends.calm
    assert heap.done == []


async def test_what_waited_once_and_went_by_itself_makes_no_later_end_wait(house: House) -> None:
    """LONGEST is counted from when there was enough this time, however long ago there was the last time."""
    heap, coming = Heap(), Coming(0.02)
    job = _job(house, heap, coming)
    for made in (ENOUGH, 0, ENOUGH):
        heap.made = made
        job.step()
        house.clock.mono += LONGEST
    assert heap.done == []
    job.step()
    assert heap.done == ["young"]


@pytest.mark.parametrize(
    ("grown", "seconds", "collected"),
    [
        (GROWN - 0.01, 60, ["young"]),
        (GROWN, 60, ["young", "all"]),
        (GROWN, AHEAD, ["young", "all"]),
        (GROWN, AHEAD - 0.01, ["young"]),
        (GROWN_FAR, AHEAD - 0.01, ["young", "all"]),
    ],
)
async def test_everything_is_looked_at_where_no_end_is_near(
    house: House, grown: float, seconds: float, collected: list[str]
) -> None:
    """By what memory grew; a broker whose ends never stop does it too, before it has grown by half."""
    heap = Heap()
    job = _job(house, heap, Coming(seconds))
    heap.made = ENOUGH
    house.clock.mono += LONGEST
    job.step()  # the first look says what it grows from
    heap.made, heap.bytes, heap.done = ENOUGH, round(heap.bytes * grown), []
    job.step()
    assert heap.done == collected
    heap.made, heap.done = ENOUGH, []
    job.step()  # by how much it grew since the last time, where there was one
    assert heap.done == ["young"] if "all" in collected else collected


async def test_the_loop_looks_again_and_again_and_gives_it_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that ends leaves a process that collects by itself."""
    monkeypatch.setattr(collecting, "EVERY", 0.001)
    heap = Heap()
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(_job(house, heap, Coming(60)).run())
        for _ in range(2):
            heap.made = ENOUGH
            await until(lambda: heap.made == 0)
        loop.cancel()
    assert heap.done == ["by hand", "young", "young", "by itself"]


@pytest.mark.parametrize("at_start", [True, False])
async def test_a_process_that_cannot_tell_its_size_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch, *, at_start: bool
) -> None:
    """A job that ends ends the broker, and for want of a descriptor none must. Meanwhile Python collects by itself."""
    monkeypatch.setattr(collecting, "EVERY", 0.001)
    monkeypatch.setattr(collecting, "AGAIN", 0.001)
    heap = Heap()
    heap.unknown = at_start
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(_job(house, heap, Coming(60)).run())
        if not at_start:
            heap.made = ENOUGH
            await until(lambda: heap.made == 0)
            heap.unknown = True
        heap.made = ENOUGH
        await until(lambda: "by itself" in heap.done)
        heap.unknown, heap.made = False, ENOUGH
        await until(lambda: heap.made == 0)
        assert heap.done[-4:] == ["young", "by itself", "by hand", "young"]
        loop.cancel()
    assert heap.done[-1] == "by itself"


def test_by_hand_python_collects_nothing_by_itself() -> None:
    """What 30,000 cycles leave waits; asked for it is freed, and afterwards everything is as it was."""
    words = """
import gc
from broker.adapters.system import SystemGarbage
garbage, before, seen = SystemGarbage(), gc.get_threshold(), []
gc.callbacks.append(lambda phase, info: seen.append(info["generation"]) if phase == "start" else None)
def make(many):
    for _ in range(many):
        cycle = []
        cycle.append(cycle)
with garbage.by_hand():
    make(30_000)
    print(len(seen), garbage.waiting() >= 30_000, garbage.resident() > 1_000_000)
    garbage.collect_young()
    print(seen, garbage.waiting() < 1_000)
    for _ in range(20):
        garbage.collect_young()
    print(sorted(set(seen)), len(seen))
    make(600_000)
    print(len(seen))
print(gc.get_threshold() == before)
"""
    told = subprocess.run([sys.executable, "-c", words], check=True, capture_output=True, text=True, timeout=120)
    assert told.stdout.split("\n")[:-1] == ["0 True True", "[0] True", "[0, 1] 21", "22", "True"]
