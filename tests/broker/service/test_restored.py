"""Who may say that a database is meant to be older: an Owner, of their own log or deciding for all (I-40)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.core.roles import Role
from broker.service.restored import METHOD, acknowledge
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import House, refused


@dataclass(slots=True)
class Begun:
    """Epochs that were begun."""

    logs: list[TenantId] = field(default_factory=list)

    async def begin_epoch(self, tenant: TenantId, now: datetime, *, by: str) -> None:
        self.logs.append(tenant)


async def say(house: House, begun: Begun, owner: Somebody, broken: Sequence[TenantId], operators: TenantId) -> None:
    """`owner` of TENANT acknowledges."""
    await acknowledge(
        house.store, begun, broken, owner=(TENANT, owner.id), change=house.change(METHOD, b"logs", owner),
        now=house.clock.now(), operators=operators,
    )  # fmt: skip


@pytest.mark.parametrize("others", [OTHER, SYSTEM_TENANT])
async def test_another_tenants_log_is_not_an_owners_to_begin(house: House, others: TenantId) -> None:
    """Their own log is; what else is broken is decided by the Owners of the tenant that decides for all."""
    owner, begun = await house.add("owner", Role.OWNER), Begun()
    assert await refused(say(house, begun, owner, [others, TENANT], OTHER)) == "not_permitted"
    assert begun.logs == []
    await say(house, begun, owner, [TENANT], OTHER)
    await say(house, begun, owner, [others, TENANT], TENANT)
    assert begun.logs == [TENANT, others, TENANT]
