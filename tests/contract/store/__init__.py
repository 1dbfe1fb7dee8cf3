"""What every Store promises, whichever database is under it. A test class inherits it and gives `store`."""

from __future__ import annotations

import pytest

from broker.adapters.store.store import SqlStore
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.contract.store.finding import FindingContract
from tests.contract.store.once import OnceContract
from tests.contract.store.rules import RuleContract
from tests.contract.store.tenants import TenantContract
from tests.contract.store.units import UnitContract
from tests.contract.store.values import ValueContract


class StoreContract(ValueContract, OnceContract, FindingContract, RuleContract, TenantContract, UnitContract):
    """Inherit, and give a fixture `store` with the tenants t1, t2 and _system."""

    @pytest.fixture(autouse=True)
    async def _directory(self, store: SqlStore) -> None:
        for tenant in (TENANT, OTHER):
            await store.run(tenant, samples.Directory(tenant=tenant))
