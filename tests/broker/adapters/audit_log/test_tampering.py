"""Whoever can write to the database cannot change the log unseen: every attack of I-32, carried out and named."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from broker.adapters.audit_log.errors import LogDamaged
from broker.core.errors import Refusal
from broker.core.ids import SYSTEM_TENANT
from recorder.merkle import CompactRange, leaf_hash
from recorder.verify import verify_bundle
from tests.broker.adapters.audit_log.world import T1, T2, Log, event, export, open_log, sqlite_url

ROWS = 300


async def made(data: Path, rows: int = ROWS) -> None:
    """A signed log of `rows` rows below `data`, its broker stopped again."""
    async with open_log(sqlite_url(data), data) as log:
        await log.grow(rows)
        await log.grow(3, T2)


def change(data: Path, *statements: str) -> None:
    """What somebody with the database file does to it."""
    with closing(sqlite3.connect(data / "grantd.db")) as raw, raw:
        for statement in statements:
            assert raw.execute(statement).rowcount != 0, statement


async def reopened(data: Path) -> tuple[Log, list[str], list[str]]:
    """The log after a restart, which logs it calls broken, and what an offline verifier finds, with the pinned key."""
    pinned = (data / "checkpoints" / "t1" / "vkey").read_text().strip()
    async with open_log(f"sqlite:///{data / 'grantd.db'}", data) as log:
        broken = [name for name in (SYSTEM_TENANT, T1, T2) if log.health.broken(name)]
        bundle = await export(log, data / "bundle")
        return log, [str(name) for name in broken], list(verify_bundle(bundle, vkeys=[pinned]).problems)


async def test_an_untouched_log_verifies(tmp_path: Path) -> None:
    """The other tests can tell: without an attack nothing is found, after a restart as before."""
    await made(tmp_path)
    _, broken, problems = await reopened(tmp_path)
    assert (broken, problems) == ([], [])


SHIFT = (
    "update audit_disclosure set seq = -seq - 1 where tenant = 't1' and seq >= 100",
    "update audit_entry set seq = -seq - 1 where tenant = 't1' and seq >= 100",
    "update audit_entry set seq = -seq where tenant = 't1' and seq < 0",
    "update audit_disclosure set seq = -seq where tenant = 't1' and seq < 0",
    "insert into audit_entry select tenant, 100, entry from audit_entry where tenant = 't1' and seq = 5",
)
SWAP = (
    "update audit_entry set seq = -1 where tenant = 't1' and seq = 3",
    "update audit_entry set seq = 3 where tenant = 't1' and seq = 4",
    "update audit_entry set seq = 4 where tenant = 't1' and seq = -1",
)


@pytest.mark.parametrize(
    ("attack", "named"),
    [
        pytest.param(
            ("update audit_entry set entry = cast(replace(entry, 'GR2001I', 'GR2002I') as blob) where seq = 7",),
            "row 7: ",
            id="edit",
        ),
        pytest.param(SHIFT, "row 100: ", id="insert"),
        pytest.param(
            (
                "delete from audit_disclosure where tenant = 't1' and seq = 5",
                "delete from audit_entry where tenant = 't1' and seq = 5",
            ),
            "row 5: ",
            id="delete",
        ),
        pytest.param(SWAP, "row 3: ", id="swap"),
        pytest.param(
            (
                "delete from audit_disclosure where tenant = 't1' and seq >= 290",
                "delete from audit_entry where tenant = 't1' and seq >= 290",
            ),
            "row 290: ",
            id="cut the tail",
        ),
        pytest.param(
            (
                "delete from audit_disclosure where tenant = 't1'",
                "delete from audit_entry where tenant = 't1'",
                "delete from audit_tile where tenant = 't1'",
            ),
            "rows 0 to 255: ",
            id="delete all rows",
        ),
        pytest.param(
            ("update audit_entry as e set entry = o.entry from audit_entry o where o.tenant = 't2' and o.seq = e.seq",),
            "row 1: belongs to tenant t2",
            id="copy from another tenant",
        ),
        pytest.param(
            ("update audit_entry set entry = cast(entry as text) || ' ' where tenant = 't1' and seq = 9",),
            "row 9: ",
            id="change a row's type",
        ),
        pytest.param(
            ("delete from audit_disclosure where tenant = 't1' and seq = 8",),
            "row 8: a disclosure is missing",
            id="forget without a word",
        ),
        pytest.param(
            ("update audit_tile set data = zeroblob(length(data)) where tenant = 't1' and level = 0 and idx = 0",),
            "row 0: not what hash tile 0 says",
            id="rewrite a tile",
        ),
    ],
)
async def test_the_offline_verifier_names_the_row(tmp_path: Path, attack: tuple[str, ...], named: str) -> None:
    """Edit, insert, delete, swap, cut, wipe, copy: an export shows each to whoever holds the public key (I-32)."""
    await made(tmp_path)
    with closing(sqlite3.connect(tmp_path / "grantd.db")) as raw:
        raw.execute("pragma foreign_keys = off")
    change(tmp_path, *attack)
    _, _, problems = await reopened(tmp_path)
    assert any(problem.startswith(named) for problem in problems), problems


def rewind(size: int) -> Callable[[Path], None]:
    """An attack by somebody who knows the format: the log cut to `size` rows, head, tiles and heads made to fit."""

    def attack(data: Path) -> None:
        with closing(sqlite3.connect(data / "grantd.db")) as raw, raw:
            leaves = raw.execute(
                "select entry from audit_entry where tenant = 't1' and seq < ? order by seq", (size,)
            ).fetchall()
            tree = CompactRange()
            for (entry,) in leaves:
                tree.append(leaf_hash(entry))
            for table in ("audit_disclosure", "audit_entry"):
                raw.execute(f"delete from {table} where tenant = 't1' and seq >= ?", (size,))  # noqa: S608
            raw.execute("delete from audit_checkpoint where tenant = 't1'")
            raw.execute("delete from audit_tile where tenant = 't1'")
            raw.execute("delete from audit_head where tenant = 't1'")
            if size:
                data_ = b"".join(leaf_hash(entry) for (entry,) in leaves)
                raw.execute("insert into audit_tile values ('t1', 0, 0, ?, ?)", (size, data_))
                head = (size, tree.encode(), tree.root())
                raw.execute("insert into audit_head (tenant, size, frontier, root) values ('t1', ?, ?, ?)", head)

    return attack


def restore(data: Path) -> None:
    """The database of some time ago comes back; what lies outside it does not."""
    for suffix in ("-wal", "-shm"):
        (data / f"grantd.db{suffix}").unlink(missing_ok=True)
    shutil.copy(data / "older.db", data / "grantd.db")


def other_tenant(data: Path) -> None:
    """One tenant's log in the place of another's, whole."""
    with closing(sqlite3.connect(data / "grantd.db")) as raw, raw:
        for table in ("audit_disclosure", "audit_entry", "audit_head", "audit_tile", "audit_checkpoint"):
            raw.execute(f"delete from {table} where tenant = 't1'")  # noqa: S608
        for table in ("audit_entry", "audit_head", "audit_tile", "audit_checkpoint"):
            raw.execute(f"update {table} set tenant = 't1' where tenant = 't2'")  # noqa: S608


def forge_head(data: Path) -> None:
    """A kept head that somebody else signed."""
    latest = data / "checkpoints" / "t1" / "latest"
    latest.write_bytes(latest.read_bytes().replace(b"\n250\n", b"\n251\n"))


def lose_heads(data: Path) -> None:
    """The folder outside the database is gone."""
    shutil.rmtree(data / "checkpoints" / "t1")


@pytest.mark.parametrize(
    ("attack", "broken"),
    [
        pytest.param(rewind(240), {"t1"}, id="cut the tail"),
        pytest.param(rewind(0), {"t1"}, id="delete all"),
        pytest.param(restore, {"t1", "_system"}, id="roll back to an older copy"),
        pytest.param(other_tenant, {"t1", "t2"}, id="copy from another tenant"),
        pytest.param(forge_head, {"t1"}, id="forge the kept head"),
        pytest.param(lose_heads, {"t1"}, id="lose the kept heads"),
    ],
)
async def test_the_guard_signs_nothing_that_does_not_continue(
    tmp_path: Path, attack: Callable[[Path], None], broken: set[str]
) -> None:
    """A log that was cut, wiped, restored or swapped is never signed again, and grants are refused (I-32, M11)."""
    clock = None
    async with open_log(sqlite_url(tmp_path), tmp_path) as log:
        await log.grow(200)
        await log.grow(3, T2)
        await log.store.close()
        shutil.copy(tmp_path / "grantd.db", tmp_path / "older.db")
    async with open_log(f"sqlite:///{tmp_path / 'grantd.db'}", tmp_path) as log:
        await log.grow(50)
        clock = log.clock
    attack(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    async with open_log(f"sqlite:///{tmp_path / 'grantd.db'}", tmp_path, clock) as log:
        assert {str(name) for name in (SYSTEM_TENANT, T1, T2) if log.health.broken(name)} == broken
        with pytest.raises(Refusal) as refused:
            log.health.refuse_if_broken(T1)
        assert refused.value.code == "audit_log_forked"
        assert log.meter.gauges["audit_broken_logs"] == len(broken)
        await log.tell(event())
        await log.settle()
        assert await log.keeper.sign_head(T1, log.clock.now()) is False
    after = {path: path.read_bytes() for path in before}
    assert {path for path in before if "t1" in path.parts and after[path] != before[path]} == set()


async def test_a_fork_while_running_is_seen_before_the_next_signature(tmp_path: Path) -> None:
    """The guard is asked each time, not only at the start: history rewritten under a live broker stops it (I-32)."""
    async with open_log(sqlite_url(tmp_path), tmp_path) as log:
        await log.grow(20)
        log.health.refuse_if_broken(T1)
        rewind(12)(tmp_path)
        await log.tell(*(event() for _ in range(30)))
        await log.settle()
        assert log.health.broken(T1)
        assert log.meter.counts["audit_failures"] >= 1
        with pytest.raises(Refusal):
            log.health.refuse_if_broken(T1)
        log.health.refuse_if_broken(T2)  # another tenant's log still holds


async def test_readers_refuse_a_row_that_was_edited(tmp_path: Path) -> None:
    """An edited row is not handed out as if it were the log's (I-32)."""
    await made(tmp_path, rows=10)
    change(
        tmp_path,
        "update audit_entry set entry = cast(replace(entry, 'b1', 'b2') as blob) where tenant = 't1' and seq = 4",
    )
    async with open_log(f"sqlite:///{tmp_path / 'grantd.db'}", tmp_path) as log:
        assert len(await log.reader.entries(T1, from_seq=0, limit=4)) == 4
        with pytest.raises(LogDamaged, match="row 4 of the audit log is not what was written"):
            await log.reader.entries(T1, from_seq=0, limit=5)
