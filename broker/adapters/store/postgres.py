"""PostgreSQL, for more than one broker: SERIALIZABLE units, run again after a conflict, their tenant announced.

The broker's role owns nothing and bypasses nothing: row security shows it the rows of the tenant that the transaction
announced, and no others (I-40). The announcement ends with the transaction, so a pooled connection carries none along.
Units run on threads, each with a connection of its own: to a unit it is the same world as on SQLite.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from broker.adapters.store.backend import MAX_WAITING
from broker.adapters.store.faults import BUSY, CLOSED, FAILED, GONE, UNKNOWN, fault_of, sqlstate
from broker.core.errors import StoreFault
from broker.core.ids import TenantId

T = TypeVar("T")

CONNECTIONS: Final = 10
ATTEMPTS: Final = 12
"""How often a unit is run while others get in its way."""
_FIRST_PAUSE_SECONDS: Final = 0.002
_LONGEST_PAUSE_SECONDS: Final = 0.2
_CONFLICTS: Final = frozenset({"40001", "40P01", "23505"})
"""A unique violation among them: in a race it is how a serialisation failure shows (PostgreSQL manual, 13.5)."""
_SESSION: Final = (
    "-c lock_timeout=5s -c statement_timeout=30s -c idle_in_transaction_session_timeout=30s -c timezone=UTC"
)
_ANNOUNCE: Final = text("SELECT set_config('grantd.tenant', :tenant, true)")
_ANNOUNCE_AND_NUMBER: Final = text(
    "SELECT set_config('grantd.tenant', :tenant, true), CAST(pg_current_xact_id() AS text) AS number"
)
_FATE: Final = text("SELECT pg_xact_status(CAST(:number AS xid8))")


class _CommitLost(Exception):
    """The connection broke while committing: PostgreSQL has to be asked what became of the transaction."""


class _Write(Generic[T]):
    """One attempt at a unit, with what is needed to find out whether its commit arrived."""

    def __init__(self, tenant: TenantId, unit: Callable[[Connection], T]) -> None:
        self._tenant, self._unit = tenant, unit
        self.number = ""
        self.result: T

    def __call__(self, conn: Connection) -> T:
        self.number = conn.execute(_ANNOUNCE_AND_NUMBER, {"tenant": self._tenant}).one().number
        self.result = self._unit(conn)
        _must_be_whole(conn)
        try:
            conn.commit()
        except DBAPIError as error:
            if error.connection_invalidated or not sqlstate(error):
                raise _CommitLost from error
            raise
        return self.result


class PostgresBackend:
    """Backend over a pool of connections of the broker's role."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=CONNECTIONS,
            max_overflow=0,  # a connection for each thread, so nobody waits for one
            connect_args={"connect_timeout": 5, "options": _SESSION, "application_name": "grantd"},
        )
        self._writing = self._engine.execution_options(isolation_level="SERIALIZABLE")
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="store")
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False

    async def write(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        attempt = _Write(tenant, unit)
        with self._place():
            try:
                return await self._until_no_conflict(self._writing, attempt)
            except _CommitLost as lost:
                await self._must_be_committed(attempt.number, lost)
                return attempt.result

    async def read(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        def view(conn: Connection) -> T:
            conn.execute(_ANNOUNCE, {"tenant": tenant})
            return unit(conn)

        with self._place():
            return await self._until_no_conflict(self._reading, view)

    async def read_aside(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        return await self.read(tenant, unit)  # never in the loop's own thread

    async def scrub(self) -> None:
        # the server vacuums by itself, and only the owner of the tables may tell it when (docs/vault.md)
        return

    async def close(self) -> None:
        self._closed = True
        await self._empty.wait()
        await asyncio.to_thread(self._threads.shutdown)  # a cancelled caller's unit may still be on its thread
        self._engine.dispose()

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A unit's place among those that may wait, kept over all its attempts."""
        if self._closed:
            raise StoreFault(CLOSED)
        if self._inside >= MAX_WAITING:
            raise StoreFault(BUSY)
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    async def _until_no_conflict(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        pause = _FIRST_PAUSE_SECONDS
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._once(engine, work)
            except DBAPIError as error:
                if sqlstate(error) not in _CONFLICTS:
                    raise fault_of(error) from error
            await asyncio.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))  # so that they do not meet again
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        try:
            return await self._once(engine, work)
        except DBAPIError as error:
            raise fault_of(error) from error

    async def _once(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _connected, engine, work)

    async def _must_be_committed(self, number: str, lost: _CommitLost) -> None:
        """Asks over another connection. Only a server that stays away leaves the question open."""
        pause = _FIRST_PAUSE_SECONDS
        for _ in range(ATTEMPTS):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            try:
                fate = await self._once(self._reading, lambda conn: conn.execute(_FATE, {"number": number}).scalar())
            except (SQLAlchemyError, StoreFault):
                continue
            if fate == "committed":
                return
            if fate == "aborted":
                raise StoreFault(GONE) from lost
        raise StoreFault(UNKNOWN) from lost


def _connected(engine: Engine, work: Callable[[Connection], T]) -> T:
    """On a thread. Whatever `work` did not commit is rolled back when the connection returns to the pool."""
    try:
        with engine.connect() as conn:
            return work(conn)
    except DBAPIError:
        raise
    except (SQLAlchemyError, psycopg.Error) as error:
        raise fault_of(error) from error


def _must_be_whole(conn: Connection) -> None:
    """PostgreSQL answers COMMIT of a failed transaction with a silent rollback: a unit that hid an error is undone."""
    raw = conn.connection.driver_connection
    if isinstance(raw, psycopg.Connection) and raw.info.transaction_status is TransactionStatus.INERROR:
        raise StoreFault(FAILED)
