"""What one tenant's damaged rows refuse is no other's: ends and freezes are written all the same (I-02, I-40, I-61)."""

from __future__ import annotations

import asyncio

import pytest

from broker.core.errors import StoreFault, VaultFault
from broker.core.grant import EndReason, GrantState
from broker.core.ids import GrantId, TenantId, render
from broker.service.ports import FreezeOrder
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.test_issue_outside import fake, granted, issue
from tests.broker.service.world import House


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
