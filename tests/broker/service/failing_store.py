"""The real store and its audit rows, until a test makes them fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from broker.adapters.store.store import SqlStore
from broker.core.errors import StoreFault, VaultFault
from broker.core.events import AuditEvent
from broker.core.ids import AuditId, TenantId
from broker.service.ports import AuditRows, Tx

T = TypeVar("T")


class FailingStore:
    """The real store, until it is told otherwise. A unit that fails at its end has written nothing."""

    def __init__(self, inner: SqlStore) -> None:
        self.inner = inner
        self.writes_fail = self.reads_fail = self.commits_fail = self.fails_once = False
        self.writes = self.refused = 0
        self.spoiled: set[TenantId] = set()
        """Tenants whose keys somebody damaged: nothing can be written there."""

    async def run(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        if self.writes_fail or self.fails_once:
            self.fails_once = False
            self.refused += 1
            raise StoreFault("the disk is full")
        if tenant in self.spoiled:
            raise VaultFault("a sealed value does not open")
        self.writes += 1
        return await self.inner.run(tenant, self._doomed(unit) if self.commits_fail else unit)

    async def read(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        if self.reads_fail:
            raise StoreFault("the database is gone")
        return await self.inner.read(tenant, unit)

    async def read_aside(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        if self.reads_fail:
            raise StoreFault("the database is gone")
        return await self.inner.read_aside(tenant, unit)

    async def tenants(self) -> Sequence[TenantId]:
        return await self.inner.tenants()

    def down(self, *, down: bool) -> None:
        """Nothing works any more, or all of it again."""
        self.writes_fail = self.reads_fail = down

    @staticmethod
    def _doomed(unit: Callable[[Tx], T]) -> Callable[[Tx], T]:
        def fails(tx: Tx) -> T:
            unit(tx)
            raise StoreFault("the commit failed")

        return fails


class SwitchedAudit:
    """Audit rows that a test can make fail."""

    def __init__(self, fail: Callable[[], bool], inner: AuditRows) -> None:
        self._fail, self._inner = fail, inner

    def append(self, event: AuditEvent, now: datetime) -> AuditId:
        if self._fail():
            raise StoreFault("no room for audit")
        return self._inner.append(event, now)
