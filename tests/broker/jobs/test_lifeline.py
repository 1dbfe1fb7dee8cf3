"""A broker that is cut off from its database (I-64)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from broker.core.action import ActionState
from broker.core.errors import StoreFault
from broker.core.ids import TenantId
from broker.jobs import lifeline
from broker.jobs.lifeline import Lifeline
from tests.broker.service.world import FLOOD, HANG, House, until


class Away:
    """A database that is there, refuses, or does not answer at all."""

    def __init__(self) -> None:
        self.fails = self.hangs = False

    async def tenants(self) -> Sequence[TenantId]:
        if self.fails:
            raise StoreFault("the database is gone")
        if self.hangs:
            await asyncio.Event().wait()
        return []


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_five_seconds_without_the_database_end_every_session(
    house: House, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, and not for one answer that is missed; all of them, busy or idle, with the reason."""
    monkeypatch.setattr(lifeline, "ANSWER_WITHIN", 0.05)
    agent, store = await house.add("deployer"), Away()
    grant = await house.granted(agent)
    job = Lifeline(store=store, live=house.world.live, clock=house.clock)  # type: ignore[arg-type]
    async with house.running(*[await house.started(agent, grant, line) for line in (HANG, FLOOD)]) as tasks:
        await until(lambda: house.world.live.count() == 2)
        setattr(store, how, True)
        for _ in range(5):
            house.clock.mono += 1
            await job.step()
        assert house.world.live.count() == 2
        setattr(store, how, False)
        await job.step()
        setattr(store, how, True)
        house.clock.mono += 5
        await job.step()
        assert house.world.live.count() == 2
        house.clock.mono += 0.1
        await job.step()
        assert house.world.live.count() == 0
    for task in tasks:
        done = task.result()
        assert (done.state, done.outcome and done.outcome.reason) == (ActionState.CUT, "cut_off")


async def test_a_broker_that_was_held_up_cuts_nothing(house: House) -> None:
    """SIGSTOP, or a machine that slept: the database answers at once afterwards, and that counts."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), HANG)
    job = Lifeline(store=house.store, live=house.world.live, clock=house.clock)
    async with house.running(ticket) as tasks:
        await until(lambda: house.world.live.count() == 1)
        house.clock.mono += 600
        await job.step()
        assert house.world.live.count() == 1
        for live in house.world.live.all():
            live.cut("test")
        await asyncio.wait(tasks)
