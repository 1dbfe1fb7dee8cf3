"""Stores for tests: the real ones, quickly. A test of a service takes `open_sqlite(tmp_path)`, 10 ms, and closes it."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import URL, create_engine, delete
from sqlalchemy.pool import NullPool

from broker.adapters.store.audit import AuditRowsSql
from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.migrations import migrate
from broker.adapters.store.schema import metadata
from broker.adapters.store.store import SqlStore
from broker.adapters.store.tx import RowSource
from broker.adapters.vault import SealingKey, Vault
from broker.adapters.xaes import Key
from broker.core.clock import micros
from broker.core.ids import SYSTEM_TENANT, AuditId, TenantId
from tests.peers_postgres import APP, PostgresCluster, PostgresDatabase

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
TENANT: Final = TenantId("t1")
OTHER: Final = TenantId("t2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A migrated database without tenants: where its owner and where a broker find it."""

    owner: URL
    broker: URL


class SystemEntropy:
    """ports.Entropy over the operating system's."""

    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def uuid7(self, now: datetime) -> AuditId:
        millis, rest = micros(now) // 1000, int.from_bytes(os.urandom(10), "big")
        number = millis << 80 | 0x7 << 76 | (rest >> 68 & 0xFFF) << 64 | 0b10 << 62 | rest & (1 << 62) - 1
        return AuditId(f"{number:032x}")


def real_rows() -> RowSource:
    """Keys and audit rows as the broker has them, under a root key of the test's own."""
    vault = Vault(SealingKey("rk_test", Key(bytearray(os.urandom(32)))))
    entropy = SystemEntropy()
    return RowSource(
        keys=lambda conn, tenant: KeyRowsSql(conn, tenant, vault),
        audit=lambda conn, tenant: AuditRowsSql(
            connection=conn,
            tenant=tenant,
            broker="b1",
            entropy=entropy,
            sealer=KeyRowsSql(conn, tenant, vault),
            noted=lambda _: None,
        ),
    )


def sqlite_database(folder: Path) -> Database:
    """A copy of a database that was migrated once in this process."""
    file = folder / "grantd.db"
    shutil.copy(_sqlite_template(), file)
    url = URL.create("sqlite", database=str(file))
    return Database(owner=url, broker=url)


async def open_sqlite(folder: Path, *, source: RowSource | None = None) -> SqlStore:
    """An open store with the tenants t1, t2 and _system, in a new file in `folder`. The caller closes it."""
    return await open_store(sqlite_database(folder), source=source)


async def open_store(database: Database, *, source: RowSource | None = None) -> SqlStore:
    """As open_sqlite, on any database."""
    store = await SqlStore.open(database.broker, source=source or real_rows())
    for tenant in (TENANT, OTHER, SYSTEM_TENANT):
        await store.create_tenant(tenant, NOW)
    return store


@functools.cache
def _sqlite_template() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="grantd-store-")
    _KEPT.append(folder)
    file = Path(folder.name) / "template.db"
    migrate(URL.create("sqlite", database=str(file)))
    return file


_KEPT: Final[list[tempfile.TemporaryDirectory[str]]] = []
"""Gone with the process, not before."""


@pytest.fixture(scope="session")
def postgres_shared(postgres_cluster: PostgresCluster) -> PostgresDatabase:
    """A database that is migrated once in a test session; for postgres_migrated alone."""
    database = postgres_cluster.create_database()
    migrate(database.owner, app_role=APP)
    return database


@pytest.fixture
def postgres_migrated(postgres_shared: PostgresDatabase) -> PostgresDatabase:
    """A migrated database without a row, as all its roles see it. Emptied before each test: quicker than a new one."""
    engine = create_engine(postgres_shared.admin, poolclass=NullPool)
    with engine.begin() as conn:
        conn.exec_driver_sql("SET LOCAL session_replication_role = replica")  # in any order, whatever refers to what
        for table in metadata.sorted_tables:
            conn.execute(delete(table))
    return postgres_shared


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Each kind of database, migrated and empty."""
    if request.param == "sqlite":
        return sqlite_database(tmp_path)
    made: PostgresDatabase = request.getfixturevalue("postgres_migrated")
    return Database(owner=made.owner, broker=made.app)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[SqlStore]:
    """An open store on each kind of database, with the tenants t1, t2 and _system."""
    opened = await open_store(database)
    yield opened
    await opened.close()
