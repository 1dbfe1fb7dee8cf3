"""The hourly tidying: every tenant, again after a failure, and one tenant's failure is nobody else's."""

from __future__ import annotations

from datetime import timedelta

from structlog.testing import capture_logs

from broker.core.errors import StoreFault
from broker.core.ids import TenantId
from broker.jobs.tidying import Tidying
from broker.service.forgetting import Forgetting
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.world import House


class FailingForgetting(Forgetting):
    """Fails for one tenant."""

    def __init__(self, house: House, bad: TenantId) -> None:
        super().__init__(house.world)
        self._bad = bad

    async def run(self, tenant: TenantId) -> int:
        if tenant == self._bad:
            raise StoreFault("the row is locked")
        return await super().run(tenant)


async def _spend(house: House, tenant: TenantId, nonce: bytes) -> None:
    ends = house.clock.now() + timedelta(seconds=1)
    await house.store.run(tenant, lambda tx: tx.seen.first_time("change", nonce, ends))
    house.clock.forward(2)


async def test_it_tidies_every_tenant(house: House) -> None:
    """And says how much that was."""
    await _spend(house, TENANT, b"1")
    await _spend(house, OTHER, b"2")
    with capture_logs() as logs:
        await Tidying(store=house.store, forgetting=house.cases.forgetting).step()
    assert {(e["tenant"], e["rows"]) for e in logs if e["event"] == "rows.forgotten"} == {(TENANT, 1), (OTHER, 1)}


async def test_one_failing_tenant_holds_up_nobody(house: House) -> None:
    """Whichever comes first."""
    for number, (bad, good) in enumerate(((TENANT, OTHER), (OTHER, TENANT))):
        await _spend(house, good, bytes([number]))
        with capture_logs() as logs:
            await Tidying(store=house.store, forgetting=FailingForgetting(house, bad)).step()
        assert [(e["tenant"], e["rows"]) for e in logs if e["event"] == "rows.forgotten"] == [(good, 1)]
        assert [(e["tenant"], e["cause"]) for e in logs if e["event"] == "tidying.failed"] == [
            (bad, "the row is locked")
        ]


async def test_a_store_that_is_down_is_a_log_line() -> None:
    """The next hour comes."""

    class Down:
        async def tenants(self) -> list[TenantId]:
            raise StoreFault("the database is gone")

    with capture_logs() as logs:
        await Tidying(store=Down(), forgetting=None).step()  # type: ignore[arg-type]  # neither gets any further
    assert [entry["event"] for entry in logs] == ["tidying.failed"]
