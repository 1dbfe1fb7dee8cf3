"""The store that services see: units of work of one tenant, over the database that a URL names. Makes no tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import URL, Connection, make_url, select
from sqlalchemy.exc import ArgumentError

from broker.adapters.store.backend import Backend
from broker.adapters.store.postgres import PostgresBackend
from broker.adapters.store.readiness import must_be_ready
from broker.adapters.store.schema import tenants
from broker.adapters.store.sqlite import SqliteBackend
from broker.adapters.store.statements import add
from broker.adapters.store.tx import RowSource, SqlTx
from broker.core.clock import micros
from broker.core.errors import invalid
from broker.core.ids import SYSTEM_TENANT, TenantId, is_tenant
from broker.service.ports import Tx

T = TypeVar("T")


class SqlStore:
    """Store over SQLAlchemy Core. Made by `open`, ended by `close`."""

    def __init__(self, backend: Backend, source: RowSource) -> None:
        self._backend, self._source = backend, source

    @classmethod
    async def open(cls, url: str | URL, *, source: RowSource) -> Self:
        """The store at `url`, `sqlite:////absolute/path` or `postgresql://role:password@host/name`.

        Raises:
            Refusal: the URL names no database that grantd knows.
            StoreFault: it cannot be opened, is not migrated, or its row security does not hold for this role.
        """
        store = cls(_backend(parsed(url)), source)
        try:
            await store.read_sql(SYSTEM_TENANT, must_be_ready)
        except BaseException:
            await store.close()
            raise
        return store

    async def run(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        return await self.run_sql(tenant, lambda conn: unit(SqlTx(conn, tenant, self._source)))

    async def read(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        return await self.read_sql(tenant, lambda conn: unit(SqlTx(conn, tenant, self._source)))

    async def read_aside(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        look = partial(_carried, lambda conn: unit(SqlTx(conn, tenant, self._source)))
        return await self._backend.read_aside(tenant, look)

    async def run_sql(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        """As run, for adapters with statements of their own (the sequencer). The unit neither begins nor commits."""
        return await self._backend.write(tenant, partial(_carried, unit))

    async def read_sql(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        """As read, for adapters with statements of their own."""
        return await self._backend.read(tenant, partial(_carried, unit))

    async def tenants(self) -> Sequence[TenantId]:
        names = select(tenants.c.tenant).where(tenants.c.tenant != SYSTEM_TENANT).order_by(tenants.c.tenant)
        return await self.read_sql(
            SYSTEM_TENANT, lambda conn: [TenantId(name) for name in conn.execute(names).scalars()]
        )

    async def create_tenant(self, tenant: TenantId, now: datetime) -> bool:
        """Makes room for a tenant (or `_system`); False if it was there already.

        Raises:
            Refusal: `tenant` is no name for one.
        """
        if tenant != SYSTEM_TENANT and not is_tenant(tenant):
            raise invalid(
                "bad_tenant", "this cannot name a tenant", "a letter, then letters, digits and `-`, at most 31"
            )
        row = {"tenant": tenant, "created_at": micros(now)}
        return await self.run_sql(tenant, lambda conn: add(conn, tenants, row))

    async def scrub(self) -> None:
        """What was deleted leaves the files too, as far as this database can be told to (threats.md M12).

        Raises:
            StoreFault: somebody read for too long; it is done later, by whoever is the next to write.
        """
        await self._backend.scrub()

    async def close(self) -> None:
        """Finishes the units that were accepted; those that come later are refused."""
        await self._backend.close()


def parsed(url: str | URL) -> URL:
    """The URL, if it names a kind of database that grantd knows.

    Raises:
        Refusal: it does not. The message never repeats the URL: it may hold a password.
    """
    try:
        made = make_url(url)
    except ArgumentError:
        made = None
    if made is None or made.get_backend_name() not in ("sqlite", "postgresql"):
        raise invalid(
            "unknown_database", "this is no database that grantd knows", "sqlite:////path or postgresql://..."
        )
    if made.get_backend_name() == "sqlite" and made.database in (None, "", ":memory:"):
        raise invalid("no_database_file", "a SQLite database needs a file", "sqlite:////absolute/path/grantd.db")
    return made


def _carried(unit: Callable[[Connection], T], conn: Connection) -> T:
    """Runs the unit; what it raises must come over from another thread, and a future cannot carry StopIteration."""
    try:
        return unit(conn)
    except StopIteration as error:
        raise RuntimeError("a unit of work raised StopIteration") from error


def _backend(url: URL) -> Backend:
    if url.get_backend_name() == "sqlite":
        return SqliteBackend(Path(url.database or ""))
    return PostgresBackend(url)
