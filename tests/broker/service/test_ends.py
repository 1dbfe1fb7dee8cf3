"""The heap of ends: whoever sleeps over it wakes at the next one, or as soon as a nearer one is said (I-01, I-05)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.clock import Instant
from broker.core.ids import GrantId, TenantId
from broker.service.ends import Ends
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT
from tests.broker.service.world import until

MOST = 10_000


def at(seconds: float) -> datetime:
    """Seconds from now on the wall clock."""
    return NOW + timedelta(seconds=seconds)


def reading(mono: float, wall: float | None = None) -> Instant:
    """Both clocks, that many seconds from now."""
    return Instant(wall=at(mono if wall is None else wall), mono=500.0 + mono)


def grants(ends: Ends, now: Instant, most: int = MOST) -> list[GrantId | None]:
    """What is due."""
    return [lapse.grant for lapse in ends.due(now, most)]


GRANTS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", "e", None]), st.integers(0, 20)), max_size=60)


@given(GRANTS, st.integers(0, 20))
def test_due_takes_out_exactly_what_has_come(said: list[tuple[str | None, int]], now: int) -> None:
    """Each grant once and by the last word about it, the soonest first; nothing early, nothing lost (I-01)."""
    ends, last = Ends(), {}
    for name, seconds in said:
        ends.expect(TENANT, at(seconds), None if name is None else GrantId(name))
        last[name] = seconds
    decisions = [seconds for name, seconds in said if name is None]
    first, rest = ends.due(reading(now), MOST), ends.due(reading(21), MOST)
    assert ends.due(reading(21), MOST) == []
    assert len(ends) == 0
    for found, came in ((first, range(now + 1)), (rest, range(now + 1, 22))):
        assert sorted(lapse.grant for lapse in found if lapse.grant) == sorted(
            name for name, seconds in last.items() if name and seconds in came
        )
        assert sum(lapse.grant is None for lapse in found) == sum(seconds in came for seconds in decisions)
        assert [lapse.late_s for lapse in found] == sorted((lapse.late_s for lapse in found), reverse=True)


def test_many_are_taken_out_in_slices() -> None:
    """So that a burst holds nobody up: what was not taken is there at the next look."""
    ends = Ends()
    ends.arm([(TENANT, GrantId(str(number)), at(1)) for number in range(1_000)], reading(0))
    assert len(ends) == 1_000
    found = [grants(ends, reading(2), 300) for _ in range(5)]
    assert [len(slice_) for slice_ in found] == [300, 300, 300, 100, 0]
    assert len({grant for slice_ in found for grant in slice_}) == 1_000


def test_an_end_that_came_otherwise_comes_no_more() -> None:
    """Revoked before its time: nobody looks for it again, and its entry does not stay for ever."""
    ends = Ends()
    for number in range(5_000):
        ends.expect(TENANT, at(3_600), GrantId(str(number)))
    assert grants(ends, reading(0)) == []
    for number in range(4_999):
        ends.forget(GrantId(str(number)))
    ends.expect(OTHER, at(3_600))
    assert grants(ends, reading(1)) == []
    assert len(ends._heap) == 2  # noqa: SLF001  the memory of it is what is looked at
    assert grants(ends, reading(3_600)) == [GrantId("4999"), None]


# ---- clocks (I-05)
def test_a_wall_clock_set_back_moves_no_end_away() -> None:
    """An hour back, a second after it was said: it ends when its seconds are over all the same."""
    ends = Ends()
    ends.expect(TENANT, at(60), GrantId("a"))
    assert grants(ends, reading(1)) == []
    assert grants(ends, reading(59, 59 - 3_600)) == []
    assert grants(ends, reading(61, 61 - 3_600)) == [GrantId("a")]


def test_a_wall_clock_set_ahead_ends_what_it_passed() -> None:
    """An hour ahead: what ends by then is over now; the rest is an hour nearer."""
    ends = Ends()
    for name, seconds in (("soon", 60), ("later", 3_700)):
        ends.expect(TENANT, at(seconds), GrantId(name))
    assert grants(ends, reading(1)) == []
    assert grants(ends, reading(2, 3_602)) == [GrantId("soon")]
    assert grants(ends, reading(99, 3_699)) == []
    assert grants(ends, reading(101, 3_701)) == [GrantId("later")]


@given(st.lists(st.tuples(st.floats(-86_400, 86_400), st.floats(0, 300)), max_size=20))
def test_no_walk_of_the_clocks_moves_an_end_away(steps: list[tuple[float, float]]) -> None:
    """It is due no later than after its seconds on the monotonic clock, nor than its moment on the wall clock."""
    ends, wall, mono = Ends(), 0.0, 0.0
    ends.expect(TENANT, at(600), GrantId("a"))
    assert grants(ends, reading(0)) == []
    for by_wall, by_mono in steps:
        wall, mono = wall + by_wall + by_mono, mono + by_mono
        if grants(ends, reading(mono, wall)):
            return
        assert mono < 600
        assert wall < 600 + 0.1


# ---- watching
async def test_it_looks_at_the_next_end() -> None:
    """At once, and then not at the one after it, nor only after the longest time that it may."""
    ends = Ends()
    ends.expect(OTHER, at(60), GrantId("a"))
    ends.expect(TENANT, at(0.05))
    first, second = await _looks(ends, 2)
    assert first < 0.5
    assert 0.04 <= second < 1.0


async def test_it_looks_when_a_nearer_end_is_said() -> None:
    """A short grant that is issued while nobody looks ends on time; a later one brings no look (I-01)."""
    ends, looks = Ends(), list[float]()
    ends.expect(TENANT, at(60))
    async with _watched(ends, looks):
        ends.expect(OTHER, at(70))
        await asyncio.sleep(0.05)
        assert len(looks) == 1
        ends.expect(OTHER, at(30), GrantId("a"))
        ends.expect(OTHER, at(29), GrantId("b"))
        await until(lambda: len(looks) == 2)
        await asyncio.sleep(0.05)
    assert len(looks) == 2


async def test_a_nearer_end_may_be_said_by_another_thread() -> None:
    """The store's own thread says it, before the commit; also where nobody watches yet, or any more."""
    ends, looks = Ends(), list[float]()
    async with _watched(ends, looks):
        await asyncio.to_thread(ends.expect, TENANT, at(30), GrantId("a"))
        await until(lambda: len(looks) == 2)
    await asyncio.to_thread(ends.expect, TENANT, at(1), GrantId("b"))
    assert len(await _looks(ends, 1)) == 1


@pytest.mark.parametrize("tenant", [TENANT, OTHER])
async def test_what_is_over_does_not_wait(tenant: TenantId) -> None:
    """What one look left behind is looked at again as soon as others had their turn."""
    ends = Ends()
    ends.expect(tenant, at(-5))
    assert (await _looks(ends, 10))[-1] < 0.5


async def test_it_looks_no_later_than_it_may() -> None:
    """The clocks are looked at again, whatever the heap says."""
    _, second = await _looks(Ends(), 2, longest=0.05)
    assert 0.04 <= second < 1.0


async def test_a_look_waits_for_nobody_who_waits_for_a_turn() -> None:
    """The loop's timer itself looks: of what a cut set going, nothing has a turn in between (P16)."""
    loop, order = asyncio.get_running_loop(), list[str]()

    async def woken() -> None:
        await asyncio.sleep(0.02)
        order.append("task")

    def look() -> None:
        order.append("look")

    ends = Ends()
    ends.expect(TENANT, at(0.02))
    async with asyncio.TaskGroup() as group:
        group.create_task(woken())
        watch = group.create_task(ends.watch(look, lambda: reading(0), 5.0))
        await asyncio.sleep(0)
        time.sleep(0.05)
        loop.call_soon(order.append, "ready")
        await until(lambda: "task" in order)
        watch.cancel()
    assert order.index("look", 1) < order.index("task")


async def test_an_end_that_has_come_goes_before_the_rest_of_the_loops_turn() -> None:
    """P16: a turn may read from hundreds of sockets, and the loop looks at its timers between two turns."""
    ends, looks = Ends(), list[float]()
    loop = asyncio.get_running_loop()
    ends.glance(loop.time() + 100)  # nobody watches yet: nothing to call
    async with _watched(ends, looks):
        await asyncio.sleep(0)
        assert len(looks) == 1
        ends.expect(TENANT, at(30), GrantId("gr_1"))
        await until(lambda: len(looks) == 2)
        ends.glance(loop.time())
        assert len(looks) == 2  # it has not come
        ends.glance(loop.time() + 31)
        assert len(looks) == 3
    before = len(looks)
    ends.glance(loop.time() + 100)
    assert len(looks) == before  # nobody watches any more


async def test_a_look_leads_to_no_look_inside_itself() -> None:
    """What it cuts may be read from in that moment."""
    ends, looks = Ends(), list[int]()
    loop = asyncio.get_running_loop()

    def look() -> None:
        looks.append(1)
        ends.glance(loop.time() + 100)

    async with asyncio.TaskGroup() as group:
        watch = group.create_task(ends.watch(look, lambda: reading(0), 5.0))
        await asyncio.sleep(0)
        ends.glance(loop.time() + 100)
        assert len(looks) == 2
        watch.cancel()


async def test_what_a_look_raises_ends_the_watch() -> None:
    """Nobody would cut any more: whoever runs it hears of it."""

    def look() -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError):
        async with asyncio.timeout(5):
            await Ends().watch(look, lambda: reading(0), 5.0)


# ---- calm
async def test_it_is_calm_while_nothing_is_about_to_end() -> None:
    """What can wait goes on between ends, and at once where nobody watches; never later than it may."""
    ends, looks, now = Ends(), list[float](), [0.0]
    assert ends.calm
    ends.expect(TENANT, at(0.04), GrantId("a"))
    ends.expect(TENANT, at(60), GrantId("b"))
    begun = time.monotonic()

    def calm() -> bool:
        return ends.calm

    def look() -> None:
        looks.append(time.monotonic() - begun)
        ends.due(reading(now[0]), MOST)

    async with asyncio.TaskGroup() as group:
        watch = group.create_task(ends.watch(look, lambda: reading(now[0]), 60.0))
        await asyncio.sleep(0)
        assert not calm()
        before = time.monotonic()
        await ends.until_calm(0.005)
        assert time.monotonic() - before >= 0.004
        assert not calm()
        now[0] = 0.05
        async with asyncio.timeout(5):
            await ends.until_calm(60)
        assert calm()
        ends.expect(TENANT, at(0.06), GrantId("c"))
        await until(lambda: not calm())
        watch.cancel()
    assert calm()  # nobody watches any more: nothing waits for an end that nobody would see


@asynccontextmanager
async def _watched(ends: Ends, looks: list[float], longest: float = 60.0) -> AsyncIterator[None]:
    """Notes each look, in seconds since the first could have been."""
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(
            ends.watch(lambda: looks.append(time.monotonic() - started), lambda: reading(0), longest)
        )
        await until(lambda: bool(looks))
        yield
        watch.cancel()


async def _looks(ends: Ends, most: int, longest: float = 5.0) -> list[float]:
    """When the first of them were, in seconds."""
    looks: list[float] = []
    async with _watched(ends, looks, longest):
        await until(lambda: len(looks) >= most)
    return looks[:most]
