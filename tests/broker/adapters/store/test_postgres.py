"""What only PostgreSQL can promise: row security under the store, conflicts, and connections that break."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import URL, Connection, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from broker.adapters.store.faults import CONFLICT, GONE, UNKNOWN
from broker.adapters.store.postgres import ATTEMPTS
from broker.adapters.store.schema import metadata
from broker.adapters.store.store import SqlStore
from broker.core.approval import Subject
from broker.core.errors import StoreFault
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import OTHER, TENANT, Database, open_store, real_rows
from tests.contract.store.races import adds_team, race
from tests.peers_postgres import PostgresDatabase

pytestmark = pytest.mark.postgres
TABLES: Final = sorted(set(metadata.tables) - {"tenants"})


@pytest.fixture
async def store(postgres_migrated: PostgresDatabase) -> AsyncIterator[SqlStore]:
    """An open store on PostgreSQL alone, with both tenants' directories."""
    opened = await open_store(Database(owner=postgres_migrated.owner, broker=postgres_migrated.app))
    for tenant in (TENANT, OTHER):
        await opened.run(tenant, samples.Directory(tenant=tenant))
    yield opened
    await opened.close()


@contextmanager
def connected(url: URL, *, announce: str | None) -> Iterator[Connection]:
    """A plain connection as whoever the URL says, after announcing a tenant or none."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as conn:
        if announce is not None:
            conn.execute(text("SELECT set_config('grantd.tenant', :tenant, true)"), {"tenant": announce})
        yield conn
        conn.rollback()
    engine.dispose()


# ---- row security (I-40)
async def test_row_security_is_forced_on_every_table(postgres_migrated: PostgresDatabase) -> None:
    """Enabled and forced, with one policy for reading and writing, on every table that holds a tenant's rows."""
    with connected(postgres_migrated.admin, announce=None) as conn:
        rows = conn.exec_driver_sql(
            "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity, p.qual, p.with_check, p.cmd"
            " FROM pg_class c LEFT JOIN pg_policies p ON p.tablename = c.relname"
            " WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'"
        ).all()
    own = "(tenant = current_setting('grantd.tenant'::text, true))"
    assert {row[0] for row in rows} == set(metadata.tables)
    assert all(row[1] for row in rows)
    assert {tuple(row)[2:] for row in rows if row[0] != "tenants"} == {(own, own, "ALL")}
    assert {tuple(row)[2:] for row in rows if row[0] == "tenants"} == {("true", None, "SELECT"), (None, own, "INSERT")}


@pytest.mark.parametrize("role", ["app", "owner"])
@pytest.mark.parametrize("announce", [None, "", "nobody"])
async def test_without_its_tenant_nobody_sees_a_row(
    store: SqlStore, postgres_migrated: PostgresDatabase, role: str, announce: str | None
) -> None:
    """Raw SQL as the broker's role, or as the owner of the tables, finds nothing in any table and changes nothing."""
    with connected(getattr(postgres_migrated, role), announce=announce) as conn:
        for table in TABLES:
            assert conn.execute(select(func.count()).select_from(metadata.tables[table])).scalar_one() == 0, table
        assert conn.exec_driver_sql("UPDATE team SET name = 'x'").rowcount == 0
        assert conn.exec_driver_sql("DELETE FROM identity_team").rowcount == 0
        with pytest.raises(DBAPIError, match="row-level security"):
            conn.exec_driver_sql("INSERT INTO team VALUES ('t1', 'te_x', 'x')")


async def test_an_announced_tenant_is_the_only_one(store: SqlStore, postgres_migrated: PostgresDatabase) -> None:
    """Raw SQL in one tenant's transaction sees that tenant, cannot write into another, nor move a row there."""
    with connected(postgres_migrated.app, announce=OTHER) as conn:
        assert set(conn.exec_driver_sql("SELECT DISTINCT tenant FROM team").scalars()) == {OTHER}
        assert conn.exec_driver_sql("UPDATE team SET name = 'x' WHERE tenant = 't1'").rowcount == 0
        assert conn.exec_driver_sql("DELETE FROM identity_team WHERE tenant = 't1'").rowcount == 0
        for smuggle in ("INSERT INTO team VALUES ('t1', 'te_x', 'x')", "UPDATE team SET tenant = 't1'"):
            with pytest.raises(DBAPIError, match="row-level security"), conn.begin_nested():
                conn.exec_driver_sql(smuggle)


async def test_the_announcement_ends_with_the_transaction(store: SqlStore) -> None:
    """A pooled connection carries no tenant into its next transaction, after a success or a failure."""

    def announced(conn: Connection) -> Any:  # noqa: ANN401  what the database says
        conn.rollback()  # what the pool does; then a transaction without an announcement
        return conn.exec_driver_sql("SELECT current_setting('grantd.tenant', true)").scalar_one()

    for _ in range(20):
        await store.run(TENANT, adds_team(7))
        assert not await store.read_sql(TENANT, announced)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE team DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE team NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY own_rows ON team",
        "CREATE POLICY mine ON team USING (true)",
        "TRUNCATE team CASCADE",
        "SET ROLE grantd_owner",
        "SET session_replication_role = replica",
        "UPDATE audit_entry SET entry = ''",
        "UPDATE approval SET verdict = 'approve'",
        "DELETE FROM tenants",
        "UPDATE alembic_version SET version_num = '9'",
        "CREATE TABLE mine (x int)",
    ],
)
async def test_the_brokers_role_cannot_help_itself(
    store: SqlStore, postgres_migrated: PostgresDatabase, statement: str
) -> None:
    """It cannot take row security away, become the owner, or change what is only ever added to (I-32, I-40)."""
    with connected(postgres_migrated.app, announce=TENANT) as conn, pytest.raises(DBAPIError) as refused:
        conn.exec_driver_sql(statement)
    assert isinstance(refused.value.orig, psycopg.errors.InsufficientPrivilege)


@pytest.mark.parametrize(("role", "why"), [("admin", "bypass row security"), ("owner", "owns one")])
async def test_a_broker_refuses_a_role_that_could(postgres_migrated: PostgresDatabase, role: str, why: str) -> None:
    """Connected as a superuser or as the owner it does not start: isolation would rest on our own code alone."""
    with pytest.raises(StoreFault, match=why):
        await SqlStore.open(getattr(postgres_migrated, role), source=real_rows())


async def test_a_broker_refuses_a_table_without_force(postgres_migrated: PostgresDatabase) -> None:
    """One table that somebody opened is enough."""
    engine = create_engine(postgres_migrated.owner, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.exec_driver_sql("ALTER TABLE team NO FORCE ROW LEVEL SECURITY")
        try:
            with pytest.raises(StoreFault, match="not forced"):
                await SqlStore.open(postgres_migrated.app, source=real_rows())
        finally:
            conn.exec_driver_sql("ALTER TABLE team FORCE ROW LEVEL SECURITY")


async def test_an_empty_database_is_refused(postgres_database: PostgresDatabase) -> None:
    """Without tables there is nothing to serve."""
    with pytest.raises(StoreFault, match="run its migration"):
        await SqlStore.open(postgres_database.app, source=real_rows())


# ---- conflicts
async def test_a_conflict_without_end_is_a_fault(store: SqlStore) -> None:
    """A unit is run again a bounded number of times, then its caller hears of the conflict; nothing was written."""
    runs: list[int] = []

    def unit(conn: Connection) -> None:
        runs.append(len(runs))
        conn.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$")

    with pytest.raises(StoreFault) as refused:
        await store.run_sql(TENANT, unit)
    assert refused.value.what == CONFLICT
    assert len(runs) == ATTEMPTS


async def test_another_brokers_writes_count(store: SqlStore, postgres_migrated: PostgresDatabase) -> None:
    """Two brokers on one database: an approval is spent once between them (I-63)."""
    other = await SqlStore.open(postgres_migrated.app, source=real_rows())
    stores = [store, other] * 10
    subject = samples.action().id
    spends = [one.run(TENANT, lambda tx: tx.approvals.spend(Subject.ACTION, subject)) for one in stores]
    outcomes = await race(spends)
    await other.close()
    assert outcomes.count(True) == 1
    assert outcomes.count(False) == 19


# ---- connections that break
async def test_a_server_that_ends_a_unit_is_a_fault(store: SqlStore, postgres_migrated: PostgresDatabase) -> None:
    """A connection cut in the middle of a unit: nothing is written, and the next unit finds a new connection."""

    def cut(conn: Connection) -> None:
        conn.exec_driver_sql("INSERT INTO team VALUES ('t1', 'te_cut', 'cut')")
        pid = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with connected(postgres_migrated.admin, announce=None) as admin:
            admin.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
        conn.exec_driver_sql("SELECT 1")

    with pytest.raises(StoreFault) as refused:
        await store.run_sql(TENANT, cut)
    assert refused.value.what == GONE
    await store.run(TENANT, adds_team(7))
    assert "cut" not in await names(store)


async def test_no_server_is_a_fault() -> None:
    """Nobody listens: a fixed phrase, soon, without the address or the password."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"postgresql://role:pass%40word@127.0.0.1:{bound.getsockname()[1]}/name"
        with pytest.raises(StoreFault) as refused:
            await SqlStore.open(url, source=real_rows())
    assert str(refused.value) == GONE


class Cutter:
    """A loopback relay before PostgreSQL that breaks a connection at its first COMMIT, passed on or not."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._gone = False
        self.cut = ""
        """`before` or `after` the server gets the COMMIT; `gone`: after it, and nobody gets in again."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._gone:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._server))
            silent, answered = Event(), Event()
            threading.Thread(target=self._ask, args=(client, server, silent, answered), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client, silent, answered), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, silent: Event, answered: Event) -> None:
        with _both_end(client, server):
            while (data := client.recv(65536)) and not self._gone:
                if not self.cut or b"COMMIT" not in data:
                    server.sendall(data)
                    continue
                how, self.cut = self.cut, ""
                silent.set()  # before the question: its answer goes nowhere, however soon it comes
                if how != "before":
                    server.sendall(data)
                    answered.wait(10)
                self._gone = how == "gone"
                return

    def _answer(self, server: socket.socket, client: socket.socket, silent: Event, answered: Event) -> None:
        with _both_end(server, client):
            while (data := server.recv(65536)) and not self._gone:
                if silent.is_set():
                    answered.set()
                else:
                    client.sendall(data)


@contextmanager
def _both_end(*ends: socket.socket) -> Iterator[None]:
    """Whatever ends one direction ends both."""
    try:
        with suppress(OSError):
            yield
    finally:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.mark.parametrize(("cut", "told"), [("before", GONE), ("after", None), ("gone", UNKNOWN)])
async def test_a_commit_that_got_lost_is_looked_up(
    postgres_migrated: PostgresDatabase, cut: str, told: str | None
) -> None:
    """Cut off while committing, the store asks the server: success and failure are told as they are, doubt as doubt."""
    cutter = Cutter(postgres_migrated.app.port or 0)
    # in clear: the cutter reads what goes by, and the server may have been given a certificate meanwhile
    plain = postgres_migrated.app.set(port=cutter.port).update_query_dict({"sslmode": "disable"})
    store = await open_store(Database(owner=postgres_migrated.owner, broker=plain))
    cutter.cut = cut
    [outcome] = await race([store.run(TENANT, adds_team(7))])
    assert (outcome and str(outcome)) == told
    with connected(postgres_migrated.app, announce=TENANT) as conn:
        written = conn.exec_driver_sql("SELECT count(*) FROM team").scalar_one()
    assert written == (0 if cut == "before" else 1)
    await store.close()
    cutter.close()


async def names(store: SqlStore) -> set[str]:
    """The teams that are there."""
    return {team.name for team in await store.read(TENANT, lambda tx: tx.teams.all())}
