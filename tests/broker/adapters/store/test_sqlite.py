"""What only the embedded database promises: group commit, durability, and how it fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection

from broker.adapters.store import group_commit
from broker.adapters.store.faults import DAMAGED, DISK_FULL, FAILED, GONE, LOCKED
from broker.adapters.store.group_commit import GroupCommit
from broker.adapters.store.migrations import migrate
from broker.adapters.store.sqlite import SqliteBackend
from broker.adapters.store.store import SqlStore
from broker.core.errors import StoreFault
from broker.service.ports import JoinToken, Tx
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import (
    NOW,
    TENANT,
    Database,
    open_sqlite,
    open_store,
    real_rows,
    sqlite_database,
)
from tests.contract.store.races import adds_team, race
from tests.pace import Since


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    """An open store on SQLite alone."""
    opened = await open_sqlite(tmp_path)
    yield opened
    await opened.close()


HOUR = timedelta(hours=1)


def raw(conn: Connection) -> sqlite3.Connection:
    """The driver's connection."""
    assert isinstance(conn.connection.driver_connection, sqlite3.Connection)
    return conn.connection.driver_connection


async def names(store: SqlStore) -> set[str]:
    """The teams that are there."""
    return {team.name for team in await store.read(TENANT, lambda tx: tx.teams.all())}


async def test_the_database_is_set_up_as_promised(store: SqlStore) -> None:
    """Durable, checked, wiped: on the connection that writes."""

    def look(conn: Connection) -> dict[str, object]:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout", "temp_store")
        return {pragma: conn.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() for pragma in pragmas}

    assert await store.run_sql(TENANT, look) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": 5000,
        "temp_store": 2,
    }


async def test_waiting_units_share_a_commit(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 units that wait together become durable by one commit or two, not 64."""
    monkeypatch.setattr(group_commit, "BATCH_SECONDS", 30.0)  # a busy machine ends a batch earlier
    commits: list[str] = []

    def listen(statement: str) -> None:
        if statement == "COMMIT":
            commits.append(statement)

    all_wait = threading.Event()

    async def let_go() -> None:
        all_wait.set()  # tasks begin in their order: by now every unit is handed over

    await store.run_sql(TENANT, lambda conn: raw(conn).set_trace_callback(listen))
    first = store.run_sql(TENANT, lambda _: all_wait.wait(5))
    await race([first, *(store.run(TENANT, adds_team(number)) for number in range(64)), let_go()])
    assert 1 <= len(commits) <= 2
    assert len(await names(store)) == 64


async def test_a_close_that_is_cancelled_closes_all_the_same(tmp_path: Path) -> None:
    """Cancelled while a long look is still on its thread: the writer ends too, and takes the log's files along."""
    path = tmp_path / "grantd.db"
    await asyncio.to_thread(migrate, f"sqlite:///{path}")
    backend, looking, enough = SqliteBackend(path), threading.Event(), threading.Event()

    def look(_: Connection) -> None:
        looking.set()
        enough.wait(20)

    async with asyncio.TaskGroup() as group:
        group.create_task(backend.read_aside(TENANT, look))
        assert await asyncio.to_thread(looking.wait, 20)
        closing = group.create_task(backend.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.sleep(0.05)
        enough.set()
    since = Since()
    while path.with_name("grantd.db-wal").exists():
        assert since.s() < 20, "the writer was left alone"
        await asyncio.sleep(0.01)


WRITER = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from sqlalchemy import URL
from broker.adapters.store.store import SqlStore
from tests.broker.adapters.store.fixtures import TENANT, real_rows
from tests.contract.store.races import adds_team

async def main():
    store = await SqlStore.open(URL.create("sqlite", database=sys.argv[1]), source=real_rows())
    async def write(number):
        while True:
            await store.run(TENANT, adds_team(number))
            print(number, flush=True)
            number += 16
    async with asyncio.TaskGroup() as group:
        for number in range(16):
            group.create_task(write(number))

asyncio.run(main())
"""


@pytest.mark.timeout(60)
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Every unit whose caller heard of its success is there after the process was killed in full run (I-31)."""
    database = sqlite_database(tmp_path)
    await (await open_store(database)).close()
    path = str(database.broker.database)
    child = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        heard = [int(child.stdout.readline()) for _ in range(200)]
    finally:
        child.send_signal(signal.SIGKILL)
        rest = child.communicate(timeout=10)[0]
    heard += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    reopened = await open_store(database)
    assert {f"team-{number}" for number in heard} <= await names(reopened)
    check = "PRAGMA integrity_check"
    assert await reopened.read_sql(TENANT, lambda conn: conn.exec_driver_sql(check).scalar_one()) == "ok"
    await reopened.close()


async def test_a_full_disk_takes_back_the_unit_alone(store: SqlStore) -> None:
    """Nothing of the unit is written, it is told apart from other faults, and with room again the store goes on."""
    pages = await store.run_sql(TENANT, lambda conn: conn.exec_driver_sql("PRAGMA page_count").scalar_one())
    await store.run_sql(TENANT, lambda conn: conn.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}").all())

    def large(number: int) -> Callable[[Tx], None]:
        return lambda tx: tx.teams.put(replace(samples.team(number), name=str(number) * 20_000))

    outcomes = await race([store.run(TENANT, large(number)) for number in range(5)])
    assert {outcome.what for outcome in outcomes if isinstance(outcome, StoreFault)} == {DISK_FULL}
    written = await names(store)
    assert len(written) == sum(outcome is None for outcome in outcomes) < 5
    await store.run_sql(TENANT, lambda conn: conn.exec_driver_sql("PRAGMA max_page_count=100000").all())
    await store.run(TENANT, adds_team(9))
    assert await names(store) == written | {"team-9"}


async def test_a_lost_transaction_fails_every_unit_of_it(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When SQLite gives up on the whole transaction nobody hears of success, and the next one works."""
    monkeypatch.setattr(group_commit, "BATCH_SECONDS", 60.0)
    hold = threading.Event()

    def lose(conn: Connection) -> None:
        raw(conn).rollback()
        raise sqlite3.OperationalError("disk I/O error")

    attempts = [
        store.run(TENANT, lambda _: hold.wait(10)),
        store.run(TENANT, adds_team(1)),
        store.run_sql(TENANT, lose),
    ]
    asyncio.get_running_loop().call_later(0.1, hold.set)
    outcomes = await race(attempts)
    assert [type(outcome) for outcome in outcomes] == [StoreFault] * 3
    await store.run(TENANT, adds_team(2))
    assert await names(store) == {"team-2"}


async def test_another_process_that_keeps_the_lock_is_a_fault(store: SqlStore, tmp_path: Path) -> None:
    """The wait for it is bounded, the phrase says what it is, and afterwards the store goes on."""
    await store.run_sql(TENANT, lambda conn: conn.exec_driver_sql("PRAGMA busy_timeout=50").all())
    other = sqlite3.connect(tmp_path / "grantd.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFault) as refused:
        await store.run(TENANT, adds_team(1))
    assert refused.value.what == LOCKED
    assert await names(store) == set()  # readers do not wait for a writer
    other.execute("ROLLBACK")
    other.close()
    await store.run(TENANT, adds_team(1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_dead_writer_hangs_nobody(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should its thread ever die, who waits and who comes later is told, and close still ends."""

    def die(*_: object) -> None:
        raise LookupError("a bug of ours")

    monkeypatch.setattr(GroupCommit, "_commit_together", die)
    async with asyncio.timeout(5):
        outcomes = await race([store.run(TENANT, adds_team(number)) for number in range(5)])
        assert [str(outcome) for outcome in outcomes] == [FAILED] * 5
        with pytest.raises(StoreFault):
            await store.run(TENANT, adds_team(6))
        await store.close()


@pytest.mark.parametrize("how", ["closed", "quiet"])
async def test_what_was_deleted_leaves_the_disk(tmp_path: Path, how: str) -> None:
    """A spent token's hash is in no file any more, a second later at the latest (threats.md M12)."""
    store = await open_sqlite(tmp_path)
    await store.run(TENANT, samples.Directory(tenant=TENANT))
    needle = os.urandom(32)
    token = JoinToken(tenant=TENANT, secret_sha256=needle, identity=samples.agent().id, expires_at=NOW + HOUR)
    await store.run(TENANT, lambda tx: tx.identities.put_join(token))
    assert needle in _everything(tmp_path)
    assert await store.run(TENANT, lambda tx: tx.identities.take_join(needle, NOW)) == samples.agent().id
    assert needle in _everything(tmp_path)  # the log still has it: what follows is what takes it away
    if how == "closed":
        await store.close()
    else:
        await asyncio.to_thread(_wait_until_gone, needle, tmp_path)
    assert needle not in _everything(tmp_path)
    await store.close()


async def test_what_could_not_leave_the_disk_is_not_said_to_have_left_it(tmp_path: Path) -> None:
    """M12: the log cannot be copied, since the disk is full: told so; and it leaves as soon as it can."""
    store = await open_sqlite(tmp_path)
    needle = os.urandom(32)
    await store.run_sql(TENANT, lambda conn: conn.exec_driver_sql("CREATE TABLE wide (it BLOB)"))
    await store.run_sql(TENANT, lambda conn: conn.exec_driver_sql("INSERT INTO wide VALUES (?)", (needle * 4096,)))
    await store.run_sql(TENANT, lambda conn: conn.exec_driver_sql("DELETE FROM wide"))
    with no_file_longer_than((tmp_path / "grantd.db").stat().st_size):
        with pytest.raises(StoreFault):
            await store.scrub()
        assert needle in _everything(tmp_path)
    await asyncio.to_thread(_wait_until_gone, needle, tmp_path)
    timeout = await store.run_sql(TENANT, lambda conn: conn.exec_driver_sql("PRAGMA busy_timeout").scalar_one())
    assert timeout == 5000
    await store.scrub()
    await store.close()


@contextlib.contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Nothing in this process makes a file longer: to SQLite a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_file_that_is_no_database_is_a_fault(tmp_path: Path) -> None:
    """Missing, damaged, empty or of another version: each is refused before anything is served."""
    good = sqlite_database(tmp_path)
    path = Path(str(good.broker.database))
    for spoil, phrase in (
        (path.unlink, GONE),
        (lambda: path.write_bytes(b"no database" * 1000), DAMAGED),
        (lambda: path.write_bytes(b""), "run its migration"),
        (lambda: _set_revision(sqlite_database(tmp_path), "9999"), "another version"),
    ):
        spoil()
        with pytest.raises(StoreFault, match=phrase):
            await SqlStore.open(good.broker, source=real_rows())


READ_ONLY_MOUNT = """
import asyncio, sys
from sqlalchemy import URL
from broker.adapters.store.store import SqlStore
from broker.core.errors import StoreFault
from tests.broker.adapters.store.fixtures import TENANT, real_rows
from tests.contract.store.races import adds_team

async def main():
    try:
        store = await SqlStore.open(URL.create("sqlite", database=sys.argv[1]), source=real_rows())
        await store.run(TENANT, adds_team(2))
    except StoreFault as fault:
        print(fault.what)

asyncio.run(main())
"""


def _in_own_mounts(script: str) -> str:
    """Runs a shell script in a mount namespace of its own; skips where the machine allows none."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    done = subprocess.run([unshare, "-rm", "sh", "-ec", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_read_only_mount_is_a_fault_and_loses_nothing(tmp_path: Path) -> None:
    """The broker is told that the database is read-only; when the mount is writable again everything is there."""
    store = await open_sqlite(tmp_path)
    await store.run(TENANT, adds_team(1))
    await store.close()
    (tmp_path / "child.py").write_text(READ_ONLY_MOUNT)
    said = await asyncio.to_thread(
        _in_own_mounts,
        f"mount --bind {tmp_path} {tmp_path}; mount -o remount,ro,bind {tmp_path};"
        f" PYTHONPATH={Path.cwd()} {sys.executable} {tmp_path}/child.py {tmp_path}/grantd.db",
    )
    assert said == "the database is read-only\n"
    reopened = await open_store(Database(owner=_url(tmp_path), broker=_url(tmp_path)))
    assert await names(reopened) == {"team-1"}
    await reopened.close()


FULL_TMPFS = """
import asyncio, os, sys
from datetime import timedelta
from pathlib import Path
from tests.broker.adapters.store.fixtures import TENANT, open_sqlite
from tests.broker.adapters.store import samples
from tests.contract.store.races import adds_team, race
from dataclasses import replace

async def main():
    folder = Path(sys.argv[1])
    store = await open_sqlite(folder)
    await store.run(TENANT, adds_team(1))
    ballast = folder / "ballast"
    room = os.statvfs(folder)
    ballast.write_bytes(b"x" * (room.f_bavail * room.f_bsize - 8192))
    wide = lambda n: lambda tx: tx.teams.put(replace(samples.team(n), name=str(n) * 9000))
    for outcome in set(map(str, await race([store.run(TENANT, wide(n)) for n in (2, 3)]))):
        print(outcome)
    ballast.unlink()
    await store.run(TENANT, adds_team(4))
    print(sorted(team.name[:9] for team in await store.read(TENANT, lambda tx: tx.teams.all())))
    await store.close()

asyncio.run(main())
"""


async def test_a_full_file_system_is_a_fault_and_loses_nothing(tmp_path: Path) -> None:
    """On a file system that is really full the units are refused; with room again the store goes on as it was."""
    child = tmp_path / "child.py"
    child.write_text(FULL_TMPFS)
    (tmp_path / "small").mkdir()
    said = await asyncio.to_thread(
        _in_own_mounts,
        f"mount -t tmpfs -o size=1m tmpfs {tmp_path}/small;"
        f" PYTHONPATH={Path.cwd()} {sys.executable} {child} {tmp_path}/small",
    )
    assert said == "the database's disk is full\n['team-1', 'team-4']\n"


def _everything(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.name.startswith("grantd.db"))


def _wait_until_gone(needle: bytes, folder: Path) -> None:
    """At most 20 s for one quiet second: the machine is shared."""
    until = time.monotonic() + 20
    while needle in _everything(folder) and time.monotonic() < until:
        time.sleep(0.1)


def _url(folder: Path) -> URL:
    return URL.create("sqlite", database=str(folder / "grantd.db"))


def _set_revision(database: Database, revision: str) -> None:
    with sqlite3.connect(str(database.owner.database)) as conn:
        conn.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    conn.close()


async def test_a_look_through_very_many_rows_holds_up_nobody(store: SqlStore) -> None:
    """P16: it sees what is committed and writes nothing, on a thread of its own; others read and write meanwhile."""
    await store.run(TENANT, adds_team(1))
    inside, goes_on = threading.Event(), threading.Event()

    def look(tx: Tx) -> set[str]:
        inside.set()
        assert goes_on.wait(10)
        return {team.name for team in tx.teams.all()}

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(store.read_aside(TENANT, look))
        assert await asyncio.to_thread(inside.wait, 10)
        assert len(await names(store)) == 1
        await store.run(TENANT, adds_team(2))
        goes_on.set()
    assert looking.result()
    assert await store.read_aside(TENANT, lambda tx: len(tx.teams.all())) == 2
    with pytest.raises(StoreFault):
        await store.read_aside(TENANT, adds_team(3))
    with pytest.raises(ZeroDivisionError):
        await store.read_aside(TENANT, lambda _tx: 1 // 0)
    await store.close()
    with pytest.raises(StoreFault):
        await store.read_aside(TENANT, lambda tx: tx.teams.all())
