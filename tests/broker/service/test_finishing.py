"""What an end has to undo: fairly among targets, each with a limit, and tried until it works (I-01, I-02)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from broker.core.grant import EndReason, GrantState
from broker.service import finishing
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.world import READ, House, until


async def test_a_target_that_hangs_holds_up_no_other(house: House) -> None:
    """Fifty endings of a dead target wait for it; those of another are finished meanwhile."""
    agent = await house.add("deployer")
    await house.put_target("web2")
    dead = [await house.granted(agent) for _ in range(50)]
    alive = [await house.granted(agent, target="web2") for _ in range(5)]
    for grant in (*dead, *alive):
        await house.started(agent, grant, READ)
    house.targets.hanging.update(dead)
    work = house.cases.ending.finishing
    ended = await house.store.run(
        TENANT, lambda tx: house.cases.ending.end_all_in(tx, EndReason.REVOKED, by="", only=None)
    )
    for one in sorted(ended, key=lambda each: each.id not in dead):
        work.hand(TENANT, one.id, one.target_id)
    async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
        task = group.create_task(work.run())
        stack.callback(task.cancel)
        await until(lambda: set(house.targets.ended) == set(alive))
        house.targets.hanging.clear()
        await work.drain()
        assert len(house.targets.ended) == 55
    assert {(await house.grant(grant)).state for grant in (*dead, *alive)} == {GrantState.REVOKED}


async def test_what_waits_for_its_turn_is_not_looked_up_again(house: House) -> None:
    """I-01: the sweep of a busy second reads no rows of grants that are in a lane already: the loop waits for reads."""
    agent = await house.add("deployer")
    for _ in range(3):
        await house.started(agent, await house.granted(agent), READ)
    await house.store.run(TENANT, lambda tx: house.cases.ending.end_all_in(tx, EndReason.REVOKED, by="", only=None))
    work = house.cases.ending.finishing
    assert [await work.hand_due(TENANT) for _ in range(2)] == [3, 0]
    await work.drain()
    assert await work.hand_due(TENANT) == 0


async def test_a_try_that_hangs_is_a_failure(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its seconds it is one more failed try, with its cause, and its place is free."""
    monkeypatch.setattr(finishing, "FINISH_WITHIN", 0.1)
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    await house.started(agent, grant, READ)
    house.targets.hangs = True
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by="")
    [effect] = await house.store.read(TENANT, lambda tx: tx.outbox.of(finishing.END_GRANT, grant))
    assert (effect.attempts, effect.why, effect.failing_since) == (1, "it took too long", house.clock.now())
    house.targets.hangs = False
    house.clock.forward(3)
    assert await house.cases.ending.retry_due(TENANT) == 1
    assert (await house.grant(grant)).state is GrantState.REVOKED


async def test_a_store_that_fails_leaves_the_end_to_the_sweep(house: House) -> None:
    """What was taken away but not written is taken away again, which is harmless, and written."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    await house.started(agent, grant, READ)
    house.targets.end_fails = True
    await house.cases.ending.end(TENANT, grant, EndReason.REVOKED, by="")
    house.targets.end_fails = False
    house.clock.forward(3)
    assert await house.cases.ending.finishing.hand_due(TENANT) == 1
    house.store.writes_fail = True
    await house.cases.ending.finishing.drain()
    assert (await house.grant(grant)).state is GrantState.ENDING
    house.store.writes_fail = False
    assert await house.cases.ending.retry_due(TENANT) == 1
    assert (await house.grant(grant)).state is GrantState.REVOKED
