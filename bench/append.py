"""What the audit log costs the store alone: entries made durable, against a bare SQLite commit on the same disk."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final

import uvloop
from sqlalchemy import Connection

from bench.machine import raw_log
from broker.adapters.audit_log.sequence import sequence
from broker.adapters.store.audit import AuditRowsSql
from broker.adapters.store.hot import driver_of
from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.migrations import migrate
from broker.adapters.store.store import SqlStore
from broker.adapters.store.tx import RowSource
from broker.adapters.system import SystemClock, SystemEntropy
from broker.adapters.vault import SealingKey, Vault
from broker.adapters.xaes import Key
from broker.core.events import AuditEvent
from broker.core.ids import TenantId, render
from broker.core.keymaterial import KEY_BYTES
from broker.service.ports import Tx

AT_ONCE: Final = 64
_TENANT: Final = TenantId("main")
_ROW: Final = b"r" * 300
_ALONE: Final = 40
"""Single appends a round."""
_EACH: Final = 8
"""Appends of one of the 64 in a round."""
_LOG: Final = "CREATE TABLE bench_log (n INTEGER PRIMARY KEY, entry BLOB NOT NULL)"
_EVENT: Final = AuditEvent(
    tenant=_TENANT, name="access.requested", facts={"request": render("request", b"b" * 16), "ttl_s": 600}
)


def measure(folder: Path, *, rounds: int) -> dict[str, list[float]]:
    """Seconds of one append and entries a second, of the store and of SQLite bare; one warm-up round."""
    return uvloop.run(_measure(folder, rounds))  # the loop that the broker runs


async def _measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    url = f"sqlite:///{folder / 'append.db'}"
    await asyncio.to_thread(migrate, url)
    store = await SqlStore.open(url, source=_rows())
    samples: dict[str, list[float]] = {}
    try:
        await store.create_tenant(_TENANT, SystemClock().now())
        await store.run_sql(_TENANT, lambda conn: conn.exec_driver_sql(_LOG).close())
        with ExitStack() as stack:
            raw = raw_log(folder / "append.raw")
            stack.callback(raw.close)
            for number in range(rounds + 1):
                round_of = {**_bare(raw), **await _through(store)}
                for name, value in round_of.items() if number else ():
                    samples.setdefault(name, []).append(value)
    finally:
        await store.close()
    return samples


def _bare(raw: sqlite3.Connection) -> dict[str, float]:
    # all that is timed by the commit begins with an empty write-ahead log: one that is long already costs half as much
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    began = time.perf_counter()
    for _ in range(_ALONE):
        raw.execute("INSERT INTO log (entry) VALUES (?)", (_ROW,))
    took = (time.perf_counter() - began) / _ALONE
    return {"raw commit": took, "raw commits rate": 1 / took}


async def _through(store: SqlStore) -> dict[str, float]:
    now = SystemClock().now()
    await store.scrub()
    began = time.perf_counter()
    for _ in range(_ALONE):
        await store.run_sql(_TENANT, _finished_row)
    finished = (time.perf_counter() - began) / _ALONE
    await store.scrub()
    began = time.perf_counter()
    for _ in range(_ALONE):
        await _append(store, now)
    alone = (time.perf_counter() - began) / _ALONE
    await store.scrub()
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(_appends(store, now))
    units = AT_ONCE * _EACH / (time.perf_counter() - began)
    began = time.perf_counter()
    moved = await store.run_sql(_TENANT, lambda conn: sequence(conn, _TENANT, most=10_000))
    placed = moved / (time.perf_counter() - began)
    if moved != _ALONE + AT_ONCE * _EACH:
        raise RuntimeError(f"{moved} entries were sequenced, not those that were appended")
    return {"append": alone, "finished row": finished, "append units rate": units, "sequenced rate": placed}


def _finished_row(conn: Connection) -> None:
    """What the bare commit writes, by way of the store's thread and its commit."""
    raw = driver_of(conn)
    if raw is None:
        raise RuntimeError("the store is no SQLite")
    raw.execute("INSERT INTO bench_log (entry) VALUES (?)", (_ROW,))


async def _appends(store: SqlStore, now: datetime) -> None:
    for _ in range(_EACH):
        await _append(store, now)


async def _append(store: SqlStore, now: datetime) -> None:
    await store.run(_TENANT, lambda tx: _one(tx, now))


def _one(tx: Tx, now: datetime) -> None:
    tx.audit.append(_EVENT, now)


def _rows() -> RowSource:
    vault = Vault(SealingKey("rk_1", Key(bytearray(b"k" * KEY_BYTES))))

    def keys(conn: Connection, tenant: TenantId) -> KeyRowsSql:
        return KeyRowsSql(conn, tenant, vault)

    def audit(conn: Connection, tenant: TenantId) -> AuditRowsSql:
        return AuditRowsSql(
            connection=conn,
            tenant=tenant,
            broker="b1",
            entropy=SystemEntropy(),
            sealer=keys(conn, tenant),
            noted=lambda _: None,
        )

    return RowSource(keys=keys, audit=audit)
