"""A real store, vault and log for tests, under a clock that tests move. Nothing in it is a stand-in for a database."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection

from broker.adapters.audit_log.health import LogHealth
from broker.adapters.audit_log.keeper import SqlAuditKeeper
from broker.adapters.audit_log.pins import Pins
from broker.adapters.audit_log.reading import SqlAuditLog
from broker.adapters.audit_log.signing import Keyring, LogNames
from broker.adapters.store.audit import AuditRowsSql
from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.migrations import migrate
from broker.adapters.store.store import SqlStore
from broker.adapters.store.tx import RowSource
from broker.adapters.vault import SealingKey, Vault
from broker.adapters.xaes import Key
from broker.core.clock import micros
from broker.core.events import AuditEvent, Personal
from broker.core.ids import SYSTEM_TENANT, AuditId, TenantId
from broker.jobs.sequencer import Sequencer
from broker.service.ports import AuditRecord, Tx

T1, T2 = TenantId("t1"), TenantId("t2")
AGENT = "ag_" + "a" * 26
OTHER = "ag_" + "b" * 26
GRANT = "gr_" + "c" * 26
NAMES = LogNames(domain="grantd.example", cluster="c1")
ROOT = bytes.fromhex(os.environ.get("GRANTD_TEST_ROOT", "")) or os.urandom(32)


@dataclass
class HandClock:
    """Both clocks, moved by hand."""

    wall: datetime = datetime(2026, 11, 22, tzinfo=UTC)
    mono: float = 1_000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def forward(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.mono += seconds


class SystemEntropy:
    """Entropy from the operating system."""

    def token(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def uuid7(self, now: datetime) -> AuditId:
        number = (micros(now) // 1000) << 80 | secrets.randbits(80)
        number = number & ~(0xF << 76) | 0x7 << 76
        return AuditId(f"{number & ~(0b11 << 62) | 0b10 << 62:032x}")


@dataclass
class SeenMeter:
    """Keeps the newest gauge and the sum of each counter."""

    gauges: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, **labels: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.gauges[name] = value

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self.gauges[name] = value


@dataclass
class Log:
    """One broker's audit log, put together as the daemon does it."""

    store: SqlStore
    keeper: SqlAuditKeeper
    reader: SqlAuditLog
    health: LogHealth
    job: Sequencer
    clock: HandClock
    meter: SeenMeter
    pins: Path

    async def tell(self, *events: AuditEvent) -> list[AuditId]:
        """Append each event in a unit of its own."""
        return [await self.store.run(one.tenant, partial(_append, one, self.clock.now())) for one in events]

    async def settle(self) -> None:
        """Everything in its place and under a head, a second later."""
        self.clock.forward(1)
        await self.job.drain()

    async def grow(self, count: int, tenant: TenantId = T1) -> None:
        """`count` events of one unit, each with one personal value, sequenced and signed."""
        told = [event(tenant=tenant, reason=f"reason {i}") for i in range(count)]
        now = self.clock.now()
        await self.store.run(tenant, lambda tx: [tx.audit.append(one, now) for one in told])
        await self.settle()

    async def all(self, tenant: TenantId = T1) -> list[AuditRecord]:
        """Every row of a log, page by page."""
        rows: list[AuditRecord] = []
        while page := await self.reader.entries(tenant, from_seq=len(rows), limit=100):
            rows += page
        return rows


def new_vault() -> Vault:
    """A vault under the test's root key."""
    return Vault(SealingKey("rk_1", Key(bytearray(ROOT))))


def _append(told: AuditEvent, now: datetime, tx: Tx) -> AuditId:
    return tx.audit.append(told, now)


@asynccontextmanager
async def open_log(url: str | URL, data: Path, clock: HandClock | None = None) -> AsyncIterator[Log]:
    """A started log over a migrated database; `data` holds heads and recordings."""
    clock, meter, vault = clock or HandClock(), SeenMeter(), new_vault()
    health, entropy, keyring, pins = (
        LogHealth(clock=clock, meter=meter),
        SystemEntropy(),
        Keyring(),
        data / "checkpoints",
    )

    def keys(conn: Connection, tenant: TenantId) -> KeyRowsSql:
        return KeyRowsSql(conn, tenant, vault)

    def audit(conn: Connection, tenant: TenantId) -> AuditRowsSql:
        return AuditRowsSql(
            connection=conn,
            tenant=tenant,
            broker="b1",
            entropy=entropy,
            sealer=keys(conn, tenant),
            noted=health.noted,
        )

    store = await SqlStore.open(url, source=RowSource(keys=keys, audit=audit))
    try:
        for tenant in (SYSTEM_TENANT, T1, T2):
            await store.create_tenant(tenant, clock.now())
        keeper = SqlAuditKeeper(
            store=store,
            names=NAMES,
            pins=Pins(pins),
            keyring=keyring,
            health=health,
            entropy=entropy,
            meter=meter,
        )
        await keeper.start(clock.now())
        reader = SqlAuditLog(store=store, openers=keys, keyring=keyring, recordings=data / "recordings")
        job = Sequencer(keeper=keeper, clock=clock, meter=meter)
        yield Log(store, keeper, reader, health, job, clock, meter, pins)
    finally:
        await store.close()


def sqlite_url(data: Path) -> URL:
    """A migrated database below `data`."""
    url = URL.create("sqlite", database=str(data / "grantd.db"))
    migrate(url)
    return url


def event(*, tenant: TenantId = T1, name: str = "grant.activated", reason: str = "", **facts: str | int) -> AuditEvent:
    """An event of an agent, with one personal value where `reason` is given."""
    personal = (Personal(subject=AGENT, name="reason", value=reason),) if reason else ()
    return AuditEvent(tenant=tenant, name=name, actor=AGENT, facts={"grant": GRANT, **facts}, personal=personal)


async def export(log: Log, into: Path, tenant: TenantId = T1, *, disclosures: bool = True) -> Path:
    """The log as a bundle on disk."""
    into.mkdir(parents=True)
    files = log.reader.export_bundle(tenant, recordings=True, disclosures=disclosures)
    async for path, data in files:
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        with (into / path).open("ab") as file:
            file.write(data)
    return into


def texts(records: Iterable[AuditRecord]) -> list[bytes]:
    """All disclosures of the records."""
    return [text for record in records for text in record.disclosures]
