"""The heap of ends: whoever sleeps over it wakes at the next one, or as soon as a nearer one is said."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from broker.core.ids import TenantId
from broker.service.ends import Ends
from tests.broker.adapters.store.fixtures import NOW, OTHER, TENANT


def at(seconds: float) -> datetime:
    """Seconds from now."""
    return NOW + timedelta(seconds=seconds)


@given(st.lists(st.tuples(st.sampled_from([TENANT, OTHER]), st.integers(0, 20)), max_size=40), st.integers(0, 20))
def test_due_takes_out_exactly_what_has_come(said: list[tuple[TenantId, int]], now: int) -> None:
    """Each tenant once, nothing early, nothing lost (I-01)."""
    ends = Ends()
    for tenant, seconds in said:
        ends.expect(tenant, at(seconds))
    due = ends.due(at(now))
    assert len(due) == len(set(due))
    assert set(due) == {tenant for tenant, seconds in said if seconds <= now}
    assert ends.due(at(now)) == []
    assert set(ends.due(at(21))) == {tenant for tenant, seconds in said if seconds > now}


async def test_it_sleeps_until_the_next_end() -> None:
    """Not until the one after it, and not for the longest time that it may."""
    ends = Ends()
    ends.expect(OTHER, at(60))
    ends.expect(TENANT, at(0.05))
    assert 0.04 <= await _slept(ends) < 1.0


async def test_a_nearer_end_wakes_it() -> None:
    """A short grant that is issued while the loop sleeps ends on time; a later one leaves it asleep."""
    ends = Ends()
    ends.expect(TENANT, at(60))
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(_slept(ends))
        await asyncio.sleep(0.02)
        ends.expect(OTHER, at(70))
        await asyncio.sleep(0.05)
        assert not sleeper.done()
        ends.expect(OTHER, at(30))
    assert sleeper.result() < 1.0


async def test_what_is_over_does_not_wait() -> None:
    """An end in the past, or one said while nobody slept, is looked at now."""
    ends = Ends()
    ends.expect(TENANT, at(-5))
    assert await _slept(ends) < 0.5


async def test_it_sleeps_no_longer_than_it_may() -> None:
    """The sweep comes, whatever the heap says."""
    assert 0.04 <= await _slept(Ends(), longest=0.05) < 1.0


async def _slept(ends: Ends, longest: float = 5.0) -> float:
    started = time.monotonic()
    await ends.sleep(NOW, longest)
    return time.monotonic() - started
