"""SQLite as the embedded database: one writer thread with group commit, reads beside it. Never two writers.

Units that wait together share one commit: each but the first runs in its own savepoint, one fsync makes all of them
durable, and only then do their callers hear of it. A unit that raises takes back what it wrote alone.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from broker.adapters.store.faults import CLOSED, READ_ONLY, fault_of
from broker.adapters.store.group_commit import GroupCommit
from broker.core.errors import StoreFault
from broker.core.ids import TenantId

T = TypeVar("T")

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
        self._writer = GroupCommit(*_connected(writing_engine(path), path))
        try:
            self._reading_engine = _engine(path, "ro", ("PRAGMA query_only=ON", *_PRAGMAS[2:]))
            self._reader, self._raw_reader = _connected(self._reading_engine, path)
        except BaseException:
            self._writer.close()
            raise
        self._reading = threading.Lock()
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._closed = False

    async def write(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        return await self._writer.run(unit)

    async def read(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        # In the caller's own thread on purpose: a look by key takes 0.13 ms here and 0.23 to 0.48 ms by way of a thread
        # (docs/adr/0005), and a writer never makes a reader wait. Pages are bounded, so the loop is not held for long.
        if self._closed:
            raise StoreFault(CLOSED)
        try:
            with self._reading, self._reader.begin():
                self._raw_reader.execute("BEGIN")  # one snapshot, taken at the first look
                return unit(self._reader)
        except (sqlite3.Error, SQLAlchemyError) as error:
            raise fault_of(error) from error

    async def read_aside(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        if self._closed:
            raise StoreFault(CLOSED)
        return await asyncio.get_running_loop().run_in_executor(self._beside, self._read_apart, unit)

    def _read_apart(self, unit: Callable[[Connection], T]) -> T:
        """On a thread, over a connection of its own: SQLite lets the loop go on while it looks."""
        try:
            with self._reading_engine.begin() as conn:
                conn.exec_driver_sql("BEGIN")
                return unit(conn)
        except (sqlite3.Error, SQLAlchemyError) as error:
            raise fault_of(error) from error

    async def scrub(self) -> None:
        await self._writer.empty_log()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._reader.close()
        await asyncio.to_thread(self._end_threads)

    def _end_threads(self) -> None:
        """To the end, even if whoever closes is cancelled meanwhile."""
        self._beside.shutdown()  # a cancelled caller's look may still be on its thread
        self._writer.close()  # the last connection: it takes the write-ahead log's files along


def writing_engine(path: Path, *, mode: str = "rw") -> Engine:
    """Connections that may write; each begins where its user says so, with BEGIN IMMEDIATE."""
    return _engine(path, mode, _PRAGMAS)


def _connected(engine: Engine, path: Path) -> tuple[Connection, sqlite3.Connection]:
    """A connection for good, and the driver's under it."""
    try:
        conn = engine.connect()
    except (sqlite3.Error, SQLAlchemyError) as error:
        # a database in WAL mode on a read-only mount cannot even be opened: say which of the two it is
        read_only = path.exists() and not os.access(path, os.W_OK)
        raise (StoreFault(READ_ONLY) if read_only else fault_of(error)) from error
    raw = conn.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101  tells the type checker what `_connect` made
    return conn, raw


def _engine(path: Path, mode: str, pragmas: tuple[str, ...]) -> Engine:
    connect = partial(_connect, f"file:{quote(str(path.absolute()))}?mode={mode}", pragmas)
    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _connect(uri: str, pragmas: tuple[str, ...]) -> sqlite3.Connection:
    # isolation_level=None: the driver begins nothing on its own; check_same_thread: made here, then the writer thread's
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        for pragma in pragmas:
            conn.execute(pragma)
    except BaseException:
        conn.close()
        raise
    return conn
