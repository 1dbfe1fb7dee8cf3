"""SQLite as the embedded database: one writer thread with group commit, and readers of their own. Never two writers.

Units that wait together share one commit: each runs in its own savepoint, one fsync makes all of them durable, and only
then do their callers hear of it. A unit that raises takes back its savepoint alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from broker.adapters.store.backend import MAX_WAITING
from broker.adapters.store.faults import BUSY, CLOSED, fault_of
from broker.adapters.store.group_commit import GroupCommit
from broker.core.errors import StoreFault
from broker.core.ids import TenantId

T = TypeVar("T")

READERS: Final = 2
_BUSY_MILLISECONDS: Final = 5_000
_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # a commit is durable, not only consistent
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}",
    "PRAGMA secure_delete=ON",  # with the truncated WAL of group_commit: deleted values leave the disk (threats.md M12)
    "PRAGMA temp_store=MEMORY",  # sorting leaves no copy of a row in a temporary file
)


class SqliteBackend:
    """Backend over one database file, which `migrate` has made."""

    def __init__(self, path: Path) -> None:
        """Opens the file. Raises StoreFault where it is missing, damaged or cannot be written."""
        self._writing = writing_engine(path)
        self._reading = _engine(path, "ro", ("PRAGMA query_only=ON", *_PRAGMAS[2:]), readers=READERS)
        self._writer = GroupCommit(*_connected(self._writing))
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._reads_waiting = 0
        self._closed = False

    async def write(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        return await self._writer.run(unit)

    async def read(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        if self._closed:
            raise StoreFault(CLOSED)
        if self._reads_waiting >= MAX_WAITING:
            raise StoreFault(BUSY)
        self._reads_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, _read, self._reading, unit)
        finally:
            self._reads_waiting -= 1

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._readers.shutdown)
        self._reading.dispose()
        await asyncio.to_thread(self._writer.close)  # the last connection: it takes the write-ahead log's files along
        self._writing.dispose()


def writing_engine(path: Path, *, mode: str = "rw") -> Engine:
    """Connections that may write; each begins where its user says so, with BEGIN IMMEDIATE."""
    return _engine(path, mode, _PRAGMAS, readers=0)


def _connected(engine: Engine) -> tuple[Connection, sqlite3.Connection]:
    """A connection for good, and the driver's under it."""
    try:
        conn = engine.connect()
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise fault_of(error) from error
    raw = conn.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101  tells the type checker what `_connect` made
    return conn, raw


def _engine(path: Path, mode: str, pragmas: tuple[str, ...], *, readers: int) -> Engine:
    connect = partial(_connect, f"file:{quote(str(path.absolute()))}?mode={mode}", pragmas)
    if readers:
        return create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=readers, max_overflow=0)
    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _connect(uri: str, pragmas: tuple[str, ...]) -> sqlite3.Connection:
    # isolation_level=None: the driver begins nothing on its own; check_same_thread: the pool hands over, never shares
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        for pragma in pragmas:
            conn.execute(pragma)
    except BaseException:
        conn.close()
        raise
    return conn


def _read(engine: Engine, unit: Callable[[Connection], T]) -> T:
    """One snapshot: SQLite takes it at the first read after BEGIN."""
    try:
        with engine.connect() as conn, conn.begin():
            conn.exec_driver_sql("BEGIN")
            return unit(conn)
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise fault_of(error) from error
