"""What keeps a tenant's log growing and signed. Called by one job; serves nobody.

Order of a head, so that a crash between any two steps is harmless: proved against the kept one, signed, kept outside
the database, told to `_system`, published. A head that is kept and not published is published at the next try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog
from sqlalchemy import Connection

from broker.adapters.audit_log import tree
from broker.adapters.audit_log.errors import LogDamaged, LogForked
from broker.adapters.audit_log.guard import continued, newest_of, published_size
from broker.adapters.audit_log.health import LogHealth
from broker.adapters.audit_log.pins import Pins
from broker.adapters.audit_log.sequence import BATCH, sequence, waiting
from broker.adapters.audit_log.signing import Keyring, LogNames, open_head_key
from broker.adapters.store.schema import audit_checkpoint
from broker.adapters.store.statements import add
from broker.core.clock import from_micros, micros
from broker.core.errors import StoreFault
from broker.core.events import AuditEvent
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.service.ports import Entropy, Meter, Store
from recorder.checkpoint import Checkpoint

HEARTBEAT: Final = timedelta(hours=1)

T = TypeVar("T")
_log = structlog.get_logger()


class SqlUnits(Store, Protocol):
    """The store, and its units over a bare connection for statements that belong to the log alone."""

    async def run_sql(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T: ...
    async def read_sql(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T: ...


class SqlAuditKeeper:
    """`AuditKeeper` over the store."""

    def __init__(
        self,
        *,
        store: SqlUnits,
        names: LogNames,
        pins: Pins,
        keyring: Keyring,
        health: LogHealth,
        entropy: Entropy,
        meter: Meter,
    ) -> None:
        self._store, self._names, self._pins, self._keyring = store, names, pins, keyring
        self._health, self._entropy, self._meter = health, entropy, meter
        self._kept: dict[TenantId, Checkpoint] = {}
        self._unpublished: dict[TenantId, bytes] = {}
        self._beaten: dict[TenantId, datetime] = {}
        self._started: datetime | None = None

    # ---- starting
    async def start(self, now: datetime) -> None:
        """As AuditKeeper. A log that does not continue its kept head is broken, and the rest is served."""
        self._started = now
        held = await asyncio.to_thread(self._pins.tenants)
        try:
            key = await open_head_key(self._store, self._names, self._entropy, now, first=not held)
        except LogForked as fork:
            self._health.break_log(SYSTEM_TENANT, fork.what)
            return
        self._keyring.put(key)
        for tenant in sorted({*held, *await self._logs()}):
            key.enter(tenant, await asyncio.to_thread(self._pins.epoch, tenant))
            try:
                await self._hold_against_kept(tenant)
            except (LogForked, LogDamaged) as wrong:
                self._health.break_log(tenant, wrong.what)
        await self.waiting(sweep=True)

    async def begin_epoch(self, tenant: TenantId, now: datetime, *, by: str) -> None:
        """Goes on with a broken log as it stands: said in the log with both heads, then its kept heads are laid aside.

        The next start signs it under the name of a new epoch. `by`: the Owner who acknowledged that rows are gone.
        """
        kept = newest_of(await asyncio.to_thread(self._pins.newest, tenant), self._keyring.get().vkey(tenant))
        stands = await self._store.read_sql(tenant, lambda conn: tree.head(conn, tenant))
        facts: dict[str, str | int] = {"size": stands.size, "root": stands.root.hex()}
        facts |= {"size_before": kept.size, "root_before": kept.root.hex()} if kept else {}
        await self._tell(AuditEvent(tenant=tenant, name="audit.epoch_started", actor=by, facts=facts), now)
        await asyncio.to_thread(self._pins.begin_epoch, tenant)

    async def _hold_against_kept(self, tenant: TenantId) -> None:
        notes = await asyncio.to_thread(self._pins.newest, tenant)
        vkey = self._keyring.get().vkey(tenant)
        kept = newest_of(notes, vkey)
        await self._store.read_sql(tenant, lambda conn: continued(conn, tenant, kept, vkey))
        if kept is None:
            return
        self._kept[tenant] = kept
        published = await self._store.read_sql(tenant, lambda conn: published_size(conn, tenant))
        if published is None or published < kept.size:
            self._unpublished[tenant] = next(note for note in notes if note.startswith(kept.text()))
            self._health.unsigned.note(tenant)

    # ---- growing
    async def waiting(self, *, sweep: bool) -> Sequence[TenantId]:
        """As AuditKeeper."""
        if sweep:
            for tenant in await self._logs():
                if await self._store.read_sql(tenant, partial(waiting, tenant=tenant)):
                    self._health.noted(tenant)
        return self._health.waiting.names()

    async def sequence(self, tenant: TenantId) -> int:
        """As AuditKeeper."""
        if self._health.broken(tenant):
            return 0  # nothing more is put upon a broken log; what waits stays, and makes the lag that refuses
        began = self._health.waiting.begin()
        try:
            moved = await self._store.run_sql(tenant, lambda conn: sequence(conn, tenant, most=BATCH))
        except LogDamaged as damage:
            self._health.break_log(tenant, damage.what)
            raise
        if moved < BATCH:
            self._health.waiting.settle(tenant, began)
        if moved:
            self._health.unsigned.note(tenant)
            self._meter.count("audit_batches")
            self._meter.observe("audit_batch_entries", float(moved))
        return moved

    # ---- signing
    async def sign_head(self, tenant: TenantId, now: datetime) -> bool:
        """As AuditKeeper."""
        if self._health.broken(tenant):
            return False
        began = self._health.unsigned.begin()
        try:
            await self._publish_late(tenant, now)
            signed = await self._sign_new(tenant, now)
        except (LogForked, LogDamaged) as wrong:
            self._health.break_log(tenant, wrong.what)
            raise
        self._health.unsigned.settle(tenant, began)
        return signed

    async def _sign_new(self, tenant: TenantId, now: datetime) -> bool:
        kept = self._kept.get(tenant)
        key = self._keyring.get()
        vkey = key.vkey(tenant)
        head = await self._store.read_sql(tenant, lambda conn: continued(conn, tenant, kept, vkey))
        if head.size == (kept.size if kept else 0):
            return False
        checkpoint, note = key.sign(tenant, head, now)
        try:
            await asyncio.to_thread(self._keep, tenant, checkpoint, note, vkey)
        except OSError as error:
            raise StoreFault("the folder of signed heads cannot be written") from error
        self._kept[tenant], self._unpublished[tenant] = checkpoint, note
        await self._publish_late(tenant, now)
        return True

    def _keep(self, tenant: TenantId, checkpoint: Checkpoint, note: bytes, vkey: str) -> None:
        self._pins.keep(tenant, note, size=checkpoint.size, at_s=checkpoint.time_s or 0)
        self._pins.keep_vkey(tenant, vkey)

    async def _publish_late(self, tenant: TenantId, now: datetime) -> None:
        """Tell `_system`, then publish, whatever head is kept and not yet published."""
        note = self._unpublished.get(tenant)
        if note is None:
            return
        kept = self._kept[tenant]
        if tenant != SYSTEM_TENANT:
            event = AuditEvent(
                tenant=SYSTEM_TENANT,
                name="audit.head_recorded",
                facts={"log": tenant, "size": kept.size, "root": kept.root.hex()},
            )
            await self._tell(event, now)
        row = {"tenant": tenant, "size": kept.size, "note": note, "at": micros(now)}
        await self._store.run_sql(tenant, lambda conn: add(conn, audit_checkpoint, row))
        del self._unpublished[tenant]

    # ---- being seen
    async def beat(self, now: datetime) -> Sequence[TenantId]:
        """As AuditKeeper."""
        beaten: list[TenantId] = []
        for tenant in await self._logs():
            if now - self._last_sign_of_life(tenant, now) >= HEARTBEAT and not self._health.broken(tenant):
                await self._tell(AuditEvent(tenant=tenant, name="system.heartbeat"), now)
                self._beaten[tenant] = now
                beaten.append(tenant)
        return beaten

    def _last_sign_of_life(self, tenant: TenantId, now: datetime) -> datetime:
        kept = self._kept.get(tenant)
        signed = from_micros((kept.time_s or 0) * 1_000_000) if kept else self._started or now
        return max(signed, self._beaten.get(tenant, signed))

    def unsigned(self) -> Sequence[TenantId]:
        """As AuditKeeper."""
        return self._health.unsigned.names()

    def report(self) -> None:
        """As AuditKeeper."""
        self._health.report()

    async def _tell(self, event: AuditEvent, now: datetime) -> None:
        await self._store.run(event.tenant, lambda tx: tx.audit.append(event, now))

    async def _logs(self) -> list[TenantId]:
        return [SYSTEM_TENANT, *await self._store.tenants()]
