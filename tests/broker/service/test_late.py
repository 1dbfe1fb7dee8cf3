"""What one tenant's damaged rows refuse is no other's: ends and freezes are written all the same (I-02, I-40, I-61)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select, update
from structlog.testing import capture_logs

from broker.adapters.store.schema import subject_key
from broker.core.action import Action, ActionState
from broker.core.errors import StoreFault, VaultFault
from broker.core.grant import EndReason, GrantState
from broker.core.ids import GrantId, TenantId, render
from broker.core.roles import Role
from broker.service.ports import FreezeOrder
from broker.service.stepup import Change
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.test_issue_outside import fake, granted, issue
from tests.broker.service.world import WRITE, House


async def test_an_end_that_cannot_be_written_keeps_no_other(house: House) -> None:
    """The first one waits for a tenant whose keys do not open; the next one is written."""
    grant = await house.granted(await house.add("deployer"))
    theirs = GrantId(render("grant", bytes(16)))
    house.cases.ending.hold(OTHER, [theirs], EndReason.REVOKED, by="", words="")
    house.cases.ending.hold(TENANT, [grant], EndReason.REVOKED, by="", words="")
    house.store.spoiled.add(OTHER)
    with pytest.raises(VaultFault):
        await house.cases.ending.write_late()
    assert (await house.grant(grant)).state is GrantState.REVOKED
    assert house.cases.ending.is_ended(theirs)


@pytest.mark.parametrize("pulled", [(OTHER, TENANT), (None,)])
async def test_a_freeze_that_cannot_be_written_keeps_no_other(
    house: House, pulled: tuple[TenantId | None, ...]
) -> None:
    """Pulled for two tenants, or for all: where it can be written, grants end; where not, it still holds."""
    grant = await house.granted(await house.add("deployer"))
    freeze = house.cases.freeze
    house.store.writes_fail = True
    for tenant in pulled:
        freeze.close(FreezeOrder(tenant=tenant, by="host:0", name="", reason="incident", at=house.clock.now()))
    with pytest.raises(StoreFault):
        await freeze.write_late()
    house.store.writes_fail = False
    house.store.spoiled.add(OTHER)
    with pytest.raises(VaultFault):
        await freeze.write_late()
    assert (await house.grant(grant)).end_reason is EndReason.FROZEN
    assert house.world.live.is_closed(OTHER)


@pytest.mark.parametrize("late", ["end", "freeze"])
async def test_nothing_late_waits_for_a_target_that_hangs(house: House, late: str) -> None:
    """I-60: it is written and handed on: what others wait to have written comes next, and not ten seconds later."""
    agent = await house.add("deployer")
    grant = await granted(house, agent)
    await issue(house, agent, grant)
    fake(house).hangs = True
    if late == "end":
        house.cases.ending.hold(TENANT, [grant], EndReason.REVOKED, by="", words="")
        await asyncio.wait_for(house.cases.ending.write_late(), 5)
    else:
        order = FreezeOrder(tenant=TENANT, by="host:0", name="", reason="incident", at=house.clock.now())
        house.cases.freeze.close(order)
        await asyncio.wait_for(house.cases.freeze.write_late(), 5)
    assert (await house.grant(grant)).state is GrantState.ENDING
    fake(house).hangs = False
    await house.cases.ending.finishing.drain()
    assert (await house.grant(grant)).state is GrantState.REVOKED
    assert fake(house).there == {}


async def damage(house: House, subject: str) -> None:
    """One bit of the key under which the words about somebody are sealed."""

    def unit(connection: Connection) -> None:
        own = (subject_key.c.tenant == TENANT) & (subject_key.c.subject == subject)
        blob = bytearray(connection.execute(select(subject_key.c.blob).where(own)).scalar_one())
        blob[-1] ^= 1
        connection.execute(update(subject_key).where(own).values(blob=bytes(blob)))

    await house.store.inner.run_sql(TENANT, unit)


async def waiting(house: House, name: str) -> tuple[Somebody, GrantId, Action]:
    """An agent, its grant of five minutes, and what it asked for under it."""
    agent = await house.add(name)
    grant = await house.granted(agent, ttl=timedelta(minutes=5))
    return agent, grant, (await house.propose(agent, grant, WRITE)).action


async def test_a_damaged_key_keeps_no_end(house: House) -> None:
    """I-02: of ten ends in one transaction ten are written; the one without its words is named in an alarm."""
    made = [await waiting(house, f"a{number}") for number in range(10)]
    await damage(house, made[3][0].id)
    house.clock.forward(601)
    with capture_logs() as logs:
        due = await house.cases.ending.sweep(TENANT)
    assert {one.id for one in due.grants} == {grant for _, grant, _ in made}
    assert {(await house.action(action)).state for _, _, action in made} == {ActionState.CANCELLED}
    (alarm,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (alarm["event"], alarm["entry"]) == ("audit.words_unsealed", "action.cancelled")
    assert (alarm["subjects"], alarm["grant"]) == ([made[3][0].id], made[3][1])


async def test_whose_key_is_damaged_is_suspended_all_the_same(house: House) -> None:
    """Nor does it keep anybody in: the suspension, the grants and what waits are one transaction."""
    agent, grant, action = await waiting(house, "deployer")
    manager = await house.add("m", Role.MANAGER)
    await damage(house, agent.id)
    unsigned = Change(method="SuspendIdentity", payload=b"x", step_ups=[])
    await house.cases.people.suspend(manager.caller, agent.id, "leaked key", unsigned)
    assert (await house.grant(grant)).state is GrantState.REVOKED
    assert (await house.action(action)).state is ActionState.CANCELLED


async def test_what_takes_nothing_away_is_refused_without_its_words(house: House) -> None:
    """I-35: a command whose text the log could not keep is not proposed."""
    agent, grant, _ = await waiting(house, "deployer")
    await damage(house, agent.id)
    with pytest.raises(VaultFault):
        await house.propose(agent, grant, b"touch /srv/app/other")
