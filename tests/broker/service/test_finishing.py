"""What an end has to undo: fairly among targets, each with a limit, and tried until it works (I-01, I-02)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from broker.core.action import ActionState
from broker.core.credential import CredentialState
from broker.core.grant import EndReason, Grant, GrantState
from broker.core.ids import CredentialId, GrantId, TenantId, render
from broker.service import finishing
from broker.service.ports import Credential
from recorder.codes import CODES
from recorder.entry import parse_entry
from recorder.sink import RecordingSink
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.test_let_go import held
from tests.broker.service.world import HANG, READ, House, until


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


async def _ending(house: House, several: int) -> list[Grant]:
    """Grants that were used and whose ends are written."""
    agent = await house.add("deployer")
    for _ in range(several):
        await house.started(agent, await house.granted(agent), READ)
    ended = await house.store.run(
        TENANT, lambda tx: house.cases.ending.end_all_in(tx, EndReason.REVOKED, by="", only=None)
    )
    assert {grant.state for grant in ended} == {GrantState.ENDING}
    return list(ended)


async def test_what_opened_nothing_is_finished_together(house: House) -> None:
    """One transaction for all of them, each with its entry; handed in twice it is finished once (I-31)."""
    ended = await _ending(house, 6)
    writes, work = house.store.writes, house.cases.ending.finishing
    work.hand_all(TENANT, ended)
    work.hand_all(TENANT, ended)
    work.hand(TENANT, ended[0].id, ended[0].target_id)
    await work.drain()
    assert house.store.writes == writes + 1
    assert sorted(house.targets.ended) == sorted(grant.id for grant in ended)
    assert {(await house.grant(grant.id)).state for grant in ended} == {GrantState.REVOKED}
    entries = await house.store.inner.read_sql(
        TENANT, lambda conn: conn.exec_driver_sql("SELECT entry FROM audit_pending").scalars().all()
    )
    told = [entry for entry in map(parse_entry, entries) if CODES[entry.code].name == "grant.revoked"]
    assert sorted(str(entry.fields["grant"]) for entry in told) == sorted(grant.id for grant in ended)
    assert await work.hand_due(TENANT) == 0


async def test_what_hangs_is_tried_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-01: one that does not close holds up the others for a moment, and is tried as ever."""
    monkeypatch.setattr(finishing, "CUT_WITHIN", 0.05)
    monkeypatch.setattr(finishing, "FINISH_WITHIN", 0.1)
    ended = await _ending(house, 4)
    house.targets.hanging.add(ended[0].id)
    work = house.cases.ending.finishing
    work.hand_all(TENANT, ended)
    await work.drain()
    states = [(await house.grant(grant.id)).state for grant in ended]
    assert states == [GrantState.ENDING, *[GrantState.REVOKED] * 3]
    (effect,) = await house.store.inner.read(TENANT, lambda tx: tx.outbox.of(finishing.END_GRANT, ended[0].id))
    assert (effect.attempts, effect.why) == (1, "it took too long")


async def test_what_still_runs_is_waited_for_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-01: a grant is not over while a session of it is open, whatever becomes of the others."""
    monkeypatch.setattr(finishing, "CUT_WITHIN", 0.05)
    agent = await house.add("builder")
    grant = await house.granted(agent)
    ticket = await house.started(agent, grant, HANG)
    release = held(monkeypatch, RecordingSink, "close")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.run(ticket))
        await until(lambda: bool(house.targets.running))
        ended = await _ending(house, 3)
        house.cases.ending.finishing.hand_all(TENANT, ended)
        await house.cases.ending.finishing.drain()
        assert {each.id: (await house.grant(each.id)).state for each in ended} == {
            each.id: GrantState.ENDING if each.id == grant else GrantState.REVOKED for each in ended
        }
        release.set()
    assert running.result().state is ActionState.CUT
    house.clock.forward(3)
    assert await house.cases.ending.retry_due(TENANT) == 1
    assert (await house.grant(grant)).state is GrantState.REVOKED


async def test_what_is_on_a_target_is_taken_away_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential of an issuer's: its grant is not over before it is gone."""
    ended = await _ending(house, 3)
    alone = list[GrantId]()
    finish = finishing.Finishing.finish

    async def noted(self: finishing.Finishing, tenant: TenantId, grant: GrantId) -> str:
        alone.append(grant)
        return await finish(self, tenant, grant)

    monkeypatch.setattr(finishing.Finishing, "finish", noted)
    now = house.clock.now()
    credential = Credential(
        tenant=TENANT, id=CredentialId(render("credential", bytes(16))), grant_id=ended[1].id, kind="postgres",
        serial="1", key=b"", state=CredentialState.ISSUED, issued_at=now, not_after=now, ended_at=None,
    )  # fmt: skip
    await house.store.run(TENANT, lambda tx: tx.credentials.add(credential))
    house.cases.ending.finishing.hand_all(TENANT, ended)
    await house.cases.ending.finishing.drain()
    assert alone == [ended[1].id]
    assert [(await house.grant(grant.id)).state for grant in ended] == [
        GrantState.REVOKED, GrantState.ENDING, GrantState.REVOKED,
    ]  # fmt: skip


async def test_together_they_are_left_to_the_sweep_as_well(house: House) -> None:
    """The store would not take any of it: all of them are found again."""
    ended = await _ending(house, 3)
    house.store.writes_fail = True
    house.cases.ending.finishing.hand_all(TENANT, ended)
    await house.cases.ending.finishing.drain()
    assert {(await house.grant(grant.id)).state for grant in ended} == {GrantState.ENDING}
    house.store.writes_fail = False
    assert await house.cases.ending.retry_due(TENANT) == 3
    assert {(await house.grant(grant.id)).state for grant in ended} == {GrantState.REVOKED}


async def test_the_sweep_leaves_alone_what_was_just_written(house: House) -> None:
    """I-01: it is handed over by whoever wrote it; hundreds of rows looked up twice would hold up the loop.

    What nobody finished is found all the same, a moment later.
    """
    agent = await house.add("builder")
    grant = await house.granted(agent, ttl=timedelta(seconds=60))
    await house.run(await house.started(agent, grant, READ))
    house.clock.forward(61)
    (ended,) = await house.cases.ending.write_lapsed(TENANT, [grant])
    assert ended.state is GrantState.ENDING
    assert await house.cases.ending.finishing.hand_due(TENANT) == 0
    house.clock.forward(finishing.FIRST_RETRY.total_seconds())
    assert await house.cases.ending.retry_due(TENANT) == 1
    assert (await house.grant(grant)).state is GrantState.EXPIRED
