"""The loop that moves what older keys seal: every tenant, again after a failure, and it looks for new root keys."""

from __future__ import annotations

from structlog.testing import capture_logs

from broker.core.errors import StoreFault
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.core.secret import Secret
from broker.jobs.rekeying import Rekeying
from broker.service.ports import Purpose, Tx
from broker.service.vault import VaultService
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.world import House


class FailingVault(VaultService):
    """Fails for one tenant."""

    def __init__(self, house: House, bad: TenantId) -> None:
        super().__init__(house.world)
        self._bad = bad

    async def tend(self, tenant: TenantId) -> int:
        if tenant == self._bad:
            raise StoreFault("the row is locked")
        return await super().tend(tenant)


async def rotated(house: House, tenant: TenantId) -> None:
    """A secret under a key that was just replaced."""

    def unit(tx: Tx) -> None:
        tx.keys.put_secret("a", Secret(b"value"))
        tx.keys.rekeying.rotate(Purpose.VAULT)

    await house.store.run(tenant, unit)


async def behind(house: House, tenant: TenantId) -> bool:
    """Whether an older key is still there."""
    return bool(await house.store.read(tenant, lambda tx: tx.keys.rekeying.behind()))


async def test_it_tends_every_tenant_and_the_systems_own(house: House) -> None:
    """And looks at the root keys first."""
    looked = []
    for tenant in (TENANT, OTHER, SYSTEM_TENANT):
        await rotated(house, tenant)
    vault = VaultService(house.world)
    job = Rekeying(look_again=lambda: looked.append(1), store=house.store, vault=vault, meter=house.meter)
    await job.step()
    assert looked
    assert not any([await behind(house, tenant) for tenant in (TENANT, OTHER, SYSTEM_TENANT)])


async def test_one_failing_tenant_holds_up_nobody(house: House) -> None:
    """It is a log line and a number that does not go down to zero."""
    for tenant in (TENANT, OTHER):
        await rotated(house, tenant)
    job = Rekeying(look_again=lambda: None, store=house.store, vault=FailingVault(house, TENANT), meter=house.meter)
    with capture_logs() as logs:
        await job.step()
    assert [(e["tenant"], e["cause"]) for e in logs if e["event"] == "rekeying.failed"] == [
        (TENANT, "the row is locked")
    ]
    assert await behind(house, TENANT)
    assert not await behind(house, OTHER)
