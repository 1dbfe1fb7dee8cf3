"""Endings that fail are listed with what an operator needs to know, and can be tried at once (I-02)."""

from __future__ import annotations

from datetime import timedelta

from broker.core.grant import EndReason, GrantState
from broker.core.ids import GrantId
from broker.core.roles import Role
from broker.service.stuck import failing, retry
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.world import READ, House, refused


async def test_what_fails_is_listed_and_can_be_tried_at_once(house: House) -> None:
    """Why, since when, how often, when next; nothing of grants that end as they should."""
    agent = await house.add("deployer")
    fine, bad = await house.granted(agent), await house.granted(agent)
    for grant in (fine, bad):
        await house.started(agent, grant, READ)
    await house.cases.ending.end(TENANT, fine, EndReason.REVOKED, by="")
    house.targets.end_fails, begun = True, house.clock.now()
    await house.cases.ending.end(TENANT, bad, EndReason.REVOKED, by="")
    for _ in range(3):
        house.clock.forward(60)
        await house.cases.ending.retry_due(TENANT)
    [one] = await failing(house.store, TENANT)
    assert (one.grant.id, one.grant.state, one.target) == (bad, GrantState.STUCK, "web1")
    assert (one.effect.why, one.effect.attempts) == ("the connection does not close", 4)
    assert one.effect.failing_since == begun
    assert one.effect.due_at >= house.clock.now() + timedelta(seconds=16)
    house.targets.end_fails = False
    assert await house.cases.ending.retry_due(TENANT) == 0
    await retry(house.store, TENANT, bad, house.clock.now())
    assert await house.cases.ending.retry_due(TENANT) == 1
    assert (await house.grant(bad)).state is GrantState.REVOKED
    assert await failing(house.store, TENANT) == []
    for grant in (fine, bad, GrantId("gr_x")):
        assert await refused(retry(house.store, TENANT, grant, house.clock.now())) == "not_found"


async def test_who_is_not_at_the_host_has_it_tried_too_and_the_log_says_who(house: House) -> None:
    """I-02, I-31: only with a reason, only what fails; the try and its entry are one transaction."""
    agent, admin = await house.add("deployer"), await house.add("admin", Role.ADMIN)
    bad, stuck = await house.granted(agent), house.cases.stuck
    await house.started(agent, bad, READ)
    assert await stuck.list(admin.caller) == []
    house.targets.end_fails = True
    await house.cases.ending.end(TENANT, bad, EndReason.REVOKED, by="")
    for _ in range(3):
        house.clock.forward(60)
        await house.cases.ending.retry_due(TENANT)
    assert [one.grant.id for one in await stuck.list(admin.caller)] == [bad]
    before = await house.events()
    assert await refused(stuck.retry(admin.caller, bad, " ")) == "reason_needed"
    assert await refused(stuck.retry(admin.caller, GrantId("gr_x"), "again")) == "not_found"
    assert await house.events() == before
    house.targets.end_fails = False
    assert await house.cases.ending.retry_due(TENANT) == 0
    assert (await stuck.retry(admin.caller, bad, "the host is back")).grant.state is GrantState.STUCK
    assert (await house.events())[len(before) :] == ["grant.retried"]
    assert await house.cases.ending.retry_due(TENANT) == 1
    assert (await house.grant(bad)).state is GrantState.REVOKED
