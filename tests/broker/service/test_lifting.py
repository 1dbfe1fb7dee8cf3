"""Lifting a freeze never swallows another pull of the switch (I-61)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.adapters.freeze_spool import FreezeFiles
from broker.core.errors import Refusal
from broker.core.ids import TenantId
from broker.core.roles import Role
from broker.service.freeze import FreezeService
from broker.service.ports import FreezeOrder
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.world import House, refused


class SlowFiles(FreezeFiles):
    """A disk on which something happens while a file is taken away."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.meanwhile: Callable[[], object] = lambda: None

    def drop(self, tenant: TenantId | None) -> None:
        self.meanwhile()
        super().drop(tenant)


@pytest.mark.parametrize("unwritten", [False, True])
async def test_a_pull_while_it_is_lifted_stands(house: House, tmp_path: Path, *, unwritten: bool) -> None:
    """In memory, in the spool and, once that is written, in the store; also where the first pull was never written."""
    owner = await house.add("owner", Role.OWNER)
    files = SlowFiles(tmp_path / "spool")
    freeze = FreezeService(replace(house.world, freezes=files), house.cases.ending)
    order = FreezeOrder(tenant=TENANT, by=owner.id, name="owner", reason="one", at=house.clock.now())
    if unwritten:
        freeze.close(order)
    else:
        await freeze.freeze(owner.caller, "one")
    again = replace(order, reason="two")

    def pulled() -> None:
        # as the switch's own thread does it: closed and kept, the cut in the loop is to follow
        freeze.close(again)
        freeze.keep(again)

    files.meanwhile = pulled
    await freeze.unfreeze(owner.caller, "over", house.change("Unfreeze", b"x", owner))
    with pytest.raises(Refusal, match="frozen"):
        house.world.live.must_be_open(TENANT)
    assert [kept.tenant for kept in files.all()] == [TENANT]
    files.meanwhile = lambda: None
    await freeze.write_late()
    assert await refused(house.cases.access.request(owner.caller, house.wish())) == "frozen"
    assert (await house.events()).count("system.frozen") == (1 if unwritten else 2)
