"""What units of one batch are to each other: nobody's error takes back or keeps what is another's."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection

from broker.adapters.store import group_commit
from broker.adapters.store.hot import driver_of
from broker.adapters.store.store import SqlStore
from broker.core.errors import StoreFault
from tests.broker.adapters.store.fixtures import TENANT, open_sqlite
from tests.contract.store.races import race

Unit = Callable[[Connection], object]
_TABLE = "CREATE TABLE noted (number INTEGER PRIMARY KEY)"


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqlStore]:
    """An open store whose batches take in all that waits, on a busy machine too."""
    monkeypatch.setattr(group_commit, "BATCH_SECONDS", 60.0)
    opened = await open_sqlite(tmp_path)
    await opened.run_sql(TENANT, lambda conn: conn.exec_driver_sql(_TABLE).close())
    yield opened
    await opened.close()


def raw(conn: Connection) -> sqlite3.Connection:
    """The driver's connection."""
    driver = driver_of(conn)
    assert driver is not None
    return driver


def by_driver(conn: Connection, number: int) -> None:
    """Writes a row past SQLAlchemy, as hot statements do."""
    raw(conn).execute("INSERT INTO noted VALUES (?)", (number,))


def by_sqlalchemy(conn: Connection, number: int) -> None:
    """Writes a row through SQLAlchemy, which begins a transaction of its own making with it."""
    conn.exec_driver_sql("INSERT INTO noted VALUES (?)", (number,)).close()


WRITERS = pytest.mark.parametrize("write", [by_driver, by_sqlalchemy])
OTHERS = pytest.mark.parametrize("other", [by_driver, by_sqlalchemy])


async def numbers(store: SqlStore) -> list[int]:
    """What is committed, as a reader beside the writer sees it."""
    found = await store.read_sql(TENANT, lambda conn: conn.exec_driver_sql("SELECT number FROM noted").scalars().all())
    return sorted(found)


async def together(store: SqlStore, first: Unit, *others: Unit) -> list[object]:
    """What each of the units said, where the others waited already when the first one ran."""
    all_wait = threading.Event()

    def held(conn: Connection) -> object:
        assert all_wait.wait(20)
        return first(conn)

    async def let_go() -> None:
        all_wait.set()  # tasks begin in their order: by now every unit is handed over

    told = await race([*(store.run_sql(TENANT, unit) for unit in (held, *others)), let_go()])
    return list(told[:-1])


@WRITERS
@OTHERS
async def test_a_first_unit_that_fails_leaves_nothing_and_holds_up_nobody(
    store: SqlStore, write: Callable[[Connection, int], None], other: Callable[[Connection, int], None]
) -> None:
    """It hears its own error, nothing of it is written, and who waited behind it is written all the same."""

    def fails(conn: Connection) -> None:
        write(conn, 1)
        raise LookupError("its own")

    told = await together(store, fails, lambda conn: other(conn, 2), lambda conn: write(conn, 3))
    assert [str(one) for one in told] == ["its own", "None", "None"]
    assert await numbers(store) == [2, 3]


@WRITERS
@OTHERS
async def test_a_later_unit_that_fails_takes_back_its_own_alone(
    store: SqlStore, write: Callable[[Connection, int], None], other: Callable[[Connection, int], None]
) -> None:
    """What came before it in the batch and what comes after it are written."""

    def fails(conn: Connection) -> None:
        write(conn, 2)
        raise LookupError("its own")

    told = await together(store, lambda conn: other(conn, 1), fails, lambda conn: other(conn, 3))
    assert [str(one) for one in told] == ["None", "its own", "None"]
    assert await numbers(store) == [1, 3]


@WRITERS
async def test_many_that_fail_one_after_another_hear_their_own_errors(
    store: SqlStore, write: Callable[[Connection, int], None]
) -> None:
    """Every second unit fails, the first among them: the others are written, each once."""

    def unit(number: int) -> Unit:
        def run(conn: Connection) -> int:
            write(conn, number)
            if number % 2 == 0:
                raise LookupError(number)
            return number

        return run

    told = await together(store, unit(0), *(unit(number) for number in range(1, 20)))
    assert [str(one) for one in told] == [str(number) for number in range(20)]
    assert await numbers(store) == list(range(1, 20, 2))


@pytest.mark.parametrize("then", [None, sqlite3.OperationalError("disk I/O error"), LookupError("its own")])
@pytest.mark.parametrize("place", [0, 1])
async def test_a_transaction_that_sqlite_gave_up_is_success_to_nobody(
    store: SqlStore, place: int, then: Exception | None
) -> None:
    """Whichever unit it happened to, and whatever that unit made of it; what comes later is written."""

    def lose(conn: Connection) -> None:
        by_driver(conn, 1)
        raw(conn).rollback()  # as SQLite does by itself on a failing disk
        if then is not None:
            raise then

    units: list[Unit] = [lambda conn: by_driver(conn, 2), lambda conn: by_sqlalchemy(conn, 3)]
    units.insert(place, lose)
    told = await together(store, *units)
    lost = place + 1  # a batch goes no further than the unit that it was lost by
    assert [type(one) for one in told[:lost]] == [StoreFault] * lost
    assert told[lost:] == [None] * (3 - lost)
    assert await numbers(store) == [2, 3][place:]


async def test_a_first_unit_that_fails_lets_go_of_the_database(store: SqlStore, tmp_path: Path) -> None:
    """Another process can write as soon as the unit's caller has heard of the error."""
    await store.run_sql(TENANT, lambda conn: conn.exec_driver_sql("PRAGMA busy_timeout=0").all())

    def fails(conn: Connection) -> None:
        by_driver(conn, 1)
        raise LookupError("its own")

    assert [str(one) for one in await together(store, fails)] == ["its own"]
    with contextlib.closing(sqlite3.connect(tmp_path / "grantd.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (after,) = await together(store, lambda conn: by_driver(conn, 2))
        assert isinstance(after, StoreFault)


async def test_a_unit_alone_costs_no_savepoint(store: SqlStore) -> None:
    """Begin, what it does, commit: nothing else goes to the database for it."""
    said: list[str] = []

    def listen(conn: Connection) -> None:
        raw(conn).set_trace_callback(said.append)

    await store.run_sql(TENANT, listen)
    said.clear()
    await store.run_sql(TENANT, lambda conn: by_driver(conn, 1))
    assert said == ["BEGIN IMMEDIATE", "INSERT INTO noted VALUES (1)", "COMMIT"]
