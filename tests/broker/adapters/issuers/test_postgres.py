"""Roles on a real PostgreSQL: exactly what was granted, until it ends, and then nothing (I-01, I-02)."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import errors, sql

from broker.adapters.issuers.postgres import PostgresIssuer
from broker.adapters.issuers.postgres_role import lock_of, role_of
from broker.core.database import PostgresSettings, Thing
from broker.core.errors import Refusal, TargetFault
from broker.service.ports import CredentialWish, DatabaseAccess, DatabaseWish, Lease, SecretWish
from policy.classes import CommandClass
from tests.broker.adapters.issuers.world import (
    CLERK,
    PASSWORD,
    REPORT,
    USAGE,
    WISH,
    issuer_of,
    lease_of,
    on,
    profile,
    target_of,
    verifier_of,
)
from tests.broker.service.world import until
from tests.contract.issuers import IssuersContract
from tests.pace import Since
from tests.peers_shop import Shop, certificates

pytestmark = [pytest.mark.xdist_group("postgres_roles"), pytest.mark.timeout(60)]


class TestPostgresIssuer(IssuersContract):
    """By the common suite."""

    @pytest.fixture
    def issuer(self, shop: Shop) -> PostgresIssuer:
        self.shop = shop
        return issuer_of(shop)

    def lease(self, number: int = 1) -> Lease:
        return lease_of(self.shop, number=number)

    def wish(self) -> CredentialWish:
        return WISH

    def foreign_wish(self) -> CredentialWish:
        return SecretWish(public_key=bytes(32))

    async def there(self, lease: Lease) -> bool:
        return role_of(lease.credential) in self.shop.made()


SLEEPING = "SELECT 1 FROM pg_stat_activity WHERE usesysid = %s AND query LIKE '%%pg_sleep(60)%%'"


async def used(
    shop: Shop, lease: Lease, issuer: PostgresIssuer | None = None
) -> psycopg.Connection[tuple[object, ...]]:
    """Made, and logged in as it with a client's own password."""
    access = await (issuer or issuer_of(shop)).create(lease, WISH)
    assert isinstance(access, DatabaseAccess)
    return await asyncio.to_thread(shop.login, access.user, PASSWORD)


async def test_it_reads_what_was_granted_and_no_more(shop: Shop) -> None:
    """The granted table is readable; others, writes, making things, other roles and other databases are refused."""
    with await used(shop, lease_of(shop)) as session:
        assert session.execute("SELECT what FROM app.orders ORDER BY id").fetchall() == [("bread",), ("salt",)]
        session.execute("SET default_transaction_read_only = off")  # no border, and not needed as one
        for refused in (
            "SELECT * FROM private.cards", 'SELECT * FROM app."Odd Name"', "INSERT INTO app.orders (what) VALUES ('x')",
            "UPDATE app.orders SET what = 'x'", "DELETE FROM app.orders", "TRUNCATE app.orders",
            "CREATE TABLE app.mine (id int)", "CREATE TABLE public.mine (id int)", "CREATE ROLE mine",
            f"SET ROLE {shop.admin}", f"SET ROLE {shop.team}", "SELECT pg_read_file('/etc/passwd')",
            "COPY app.orders TO PROGRAM 'id'", "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
            "ALTER ROLE CURRENT_USER CONNECTION LIMIT 50", "SELECT nextval('app.orders_id_seq')",
        ):  # fmt: skip
            with pytest.raises((errors.InsufficientPrivilege, errors.SyntaxErrorOrAccessRuleViolation)):
                session.execute(refused)


async def test_the_role_is_what_the_lease_says(shop: Shop) -> None:
    """No power of its own, the end of the lease, a few sessions, the mark; the clear password was never there."""
    lease = lease_of(shop)
    await issuer_of(shop).create(lease, WISH)
    role = role_of(lease.credential)
    (row,) = shop.ask(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil,"
        " rolpassword, shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = %s", role,
    )  # fmt: skip
    assert row[:6] == (False, False, False, False, False, REPORT.sessions)
    assert abs(row[6] - lease.not_after) < timedelta(seconds=1)
    assert row[7] == WISH.verifier
    assert row[8].endswith(f" {lease.credential}")
    assert PASSWORD not in (shop.cluster.folder / "log").read_text(errors="replace")


async def test_an_end_cuts_a_statement_in_the_middle(shop: Shop) -> None:
    """I-01: `pg_sleep(60)` is cut within a second, and so is one who holds a lock; then nothing of it is there."""
    lease, issuer = lease_of(shop, "clerk"), issuer_of(shop)
    sleeper, holder = await used(shop, lease, issuer), await used(shop, lease, issuer)
    holder.execute("BEGIN")
    holder.execute("INSERT INTO app.orders (what) VALUES ('half')")
    oid = shop.ask("SELECT oid FROM pg_roles WHERE rolname = %s", role_of(lease.credential))[0][0]
    said: list[BaseException] = []

    def sleep() -> None:
        try:
            sleeper.execute("SELECT pg_sleep(60)")
        except psycopg.Error as error:
            said.append(error)

    thread = threading.Thread(target=sleep)
    thread.start()
    await until(lambda: bool(shop.ask(SLEEPING, oid)))
    since = Since()
    await issuer.end(lease.target, lease.credential)
    assert since.s() < 1.0
    await asyncio.to_thread(thread.join, 5)
    assert isinstance(said[0], errors.AdminShutdown)
    with pytest.raises(psycopg.OperationalError):
        holder.execute("COMMIT")
    assert shop.made() == []
    assert shop.ask("SELECT 1 FROM pg_stat_activity WHERE usesysid = %s", oid) == []
    assert shop.ask("SELECT count(*) FROM app.orders") == [(2,)]
    with pytest.raises(psycopg.OperationalError):
        shop.login(role_of(lease.credential), PASSWORD)


async def test_what_it_made_goes_to_its_profiles_owner(shop: Shop) -> None:
    """A table made in the lease stays, as somebody's the role could act as anyway; without such an owner it goes."""
    issuer = issuer_of(shop)
    shop.do(f"GRANT {shop.team} TO {shop.admin}")
    builder = lease_of(shop, "builder")
    with await used(shop, builder, issuer) as session:
        session.execute("CREATE TABLE app.made (id int)")
        session.execute("CREATE TEMP TABLE passing (id int)")
        session.execute("SELECT lo_create(0)")
    await issuer.end(builder.target, builder.credential)
    assert shop.ask("SELECT tableowner FROM pg_tables WHERE tablename = 'made'") == [(shop.team,)]
    bare = profile("bare", CommandClass.EXECUTE, on(Thing.SCHEMA, "", "USAGE", "CREATE"))
    alone = lease_of(shop, "bare", number=2, target=target_of(shop, bare))
    with await used(shop, alone, issuer) as session:
        session.execute("CREATE TABLE app.passing (id int)")
    await issuer.end(alone.target, alone.credential)
    assert shop.ask("SELECT 1 FROM pg_tables WHERE tablename = 'passing'") == []
    assert shop.made() == []


async def test_what_it_left_in_another_database_goes_too(shop: Shop) -> None:
    """PUBLIC may connect to any database, and make large objects there."""
    lease, issuer = lease_of(shop), issuer_of(shop)
    access = await issuer.create(lease, WISH)
    assert isinstance(access, DatabaseAccess)
    elsewhere = replace(shop, name="postgres")
    with elsewhere.login(access.user, PASSWORD) as session:
        session.execute("SET default_transaction_read_only = off")
        session.execute("SELECT lo_create(0)")
    await issuer.end(lease.target, lease.credential)
    assert shop.made() == []


async def test_a_prepared_transaction_goes_too(shop: Shop) -> None:
    """It outlives its session and keeps its locks: rolled back before the role is dropped."""
    lease, issuer = lease_of(shop, "clerk"), issuer_of(shop)
    with await used(shop, lease, issuer) as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO app.orders (what) VALUES ('prepared')")
        session.execute("PREPARE TRANSACTION 'left behind; DROP'")
    await issuer.end(lease.target, lease.credential)
    assert shop.ask("SELECT gid FROM pg_prepared_xacts") == []
    assert (shop.made(), shop.ask("SELECT count(*) FROM app.orders")) == ([], [(2,)])


async def test_nothing_is_granted_that_the_broker_may_not_give(shop: Shop) -> None:
    """PostgreSQL only warns: the broker asks, and takes the whole role back."""
    secretly = profile("cards", CommandClass.READ, on(Thing.TABLE, "cards", "SELECT", schema="private"))
    shop.do(f"GRANT USAGE ON SCHEMA private TO {shop.admin}")
    shop.do(f"GRANT SELECT ON private.cards TO {shop.admin}")  # without grant option
    lease = lease_of(shop, "cards", target=target_of(shop, secretly))
    with pytest.raises(TargetFault, match="as it was planned"):
        await issuer_of(shop).create(lease, WISH)
    assert shop.made() == []


@pytest.mark.parametrize(
    "widened",
    [
        "GRANT INSERT ON app.orders TO PUBLIC",
        "GRANT UPDATE (what) ON app.orders TO PUBLIC",
        "GRANT CREATE ON SCHEMA app TO PUBLIC",
        "GRANT USAGE ON SEQUENCE app.orders_id_seq TO PUBLIC",
    ],
)
async def test_a_read_profile_that_could_write_is_not_made(shop: Shop, widened: str) -> None:
    """What everybody may do the role may: then it is no read, and `check` says so before anybody asks."""
    shop.do(widened)
    with pytest.raises(TargetFault, match="as it was planned"):
        await issuer_of(shop).create(lease_of(shop), WISH)
    assert shop.made() == []
    findings = await issuer_of(shop).check(target_of(shop), "report")
    assert [one.ok for one in findings if "report" in one.what] == [False]


async def test_no_membership_reaches_a_superuser(shop: Shop) -> None:
    """A role of the database that can become one is refused, however far behind it stands; so is one that writes."""
    mighty = f"dba_{shop.team}"
    shop.do(f"CREATE ROLE {mighty} NOLOGIN CREATEDB")
    shop.do(f"GRANT {mighty} TO {shop.team}")
    member = profile("member", CommandClass.EXECUTE, member_of=(shop.team,))
    lease = lease_of(shop, "member", target=target_of(shop, member))
    with pytest.raises(TargetFault, match="as it was planned"):
        await issuer_of(shop).create(lease, WISH)
    shop.do(f"DROP ROLE {mighty}")
    reader = profile("reader", CommandClass.READ, member_of=(shop.team,))  # the team may create: no read
    with pytest.raises(TargetFault, match="as it was planned"):
        await issuer_of(shop).create(lease_of(shop, "reader", target=target_of(shop, reader)), WISH)
    assert shop.made() == []


async def test_many_at_once_wait_for_one_another(shop: Shop) -> None:
    """GRANTs on one table at a time: the server fails concurrent ones, so they queue; endings too."""
    issuer = issuer_of(shop)
    leases = [lease_of(shop, "clerk", number=number) for number in range(8)]
    async with asyncio.TaskGroup() as group:
        for lease in leases:
            group.create_task(issuer.create(lease, WISH))
    assert len(shop.made()) == len(leases)
    async with asyncio.TaskGroup() as group:
        for lease in leases:
            group.create_task(issuer.end(lease.target, lease.credential))
    assert shop.made() == []


async def test_an_end_waits_for_whoever_still_makes_it(shop: Shop) -> None:
    """A broker died after it sent COMMIT: the server still works on it, and the next broker's end comes after."""
    lease, issuer = lease_of(shop), issuer_of(shop)
    with shop.cluster.superuser(shop.name) as maker:
        maker.autocommit = False
        maker.execute("SELECT pg_advisory_xact_lock(%s)", [lock_of(lease.credential)])
        name = sql.Identifier(role_of(lease.credential))
        maker.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        maker.execute(sql.SQL("GRANT {} TO {}").format(name, sql.Identifier(shop.admin)))
        ending = asyncio.ensure_future(issuer.end(lease.target, lease.credential))  # noqa: TID251  awaited below
        await asyncio.sleep(0.3)
        assert not ending.done()
        await asyncio.to_thread(maker.commit)
        await ending
    assert shop.made() == []


@pytest.mark.parametrize(
    "verifier",
    [
        "", "secret", "md5" + "a" * 32, WISH.verifier + "'", WISH.verifier.replace("4096", "1"), WISH.verifier + "\0",
        "SCRAM-SHA-256$4096:AAAA$" + "A" * 43 + "=:" + "A" * 43 + "=", WISH.verifier.replace("$", "$$", 1),
        verifier_of("x", salt=b"short"),
        WISH.verifier + "\n", "'; DROP ROLE postgres; --", WISH.verifier.replace("4096", "99999999"),
    ],
)  # fmt: skip
async def test_what_is_no_verifier_is_refused(shop: Shop, verifier: str) -> None:
    """Nothing but a SCRAM verifier becomes part of a statement: no clear password, no other hash, no quote."""
    with pytest.raises(Refusal) as refusal:
        issuer_of(shop).plan(lease_of(shop), DatabaseWish(verifier=verifier))
    assert refusal.value.code == "bad_verifier"


async def test_a_profile_above_the_ceiling_is_refused(shop: Shop) -> None:
    """The class of a grant caps its profile."""
    with pytest.raises(Refusal) as refusal:
        issuer_of(shop).plan(lease_of(shop, "clerk", ceiling=CommandClass.READ), WISH)
    assert refusal.value.code == "profile_above_ceiling"


async def test_faults_have_fixed_phrases(shop: Shop) -> None:
    """Nobody there, another CA, another password: a code each, and no word of the server's (I-27)."""
    target, lease = target_of(shop), lease_of(shop)
    nobody = replace(target, port=1)
    with pytest.raises(TargetFault) as unreachable:
        await issuer_of(shop).end(nobody, lease.credential)
    with pytest.raises(TargetFault) as stranger:
        await issuer_of(shop, password="wrong").create(lease, WISH)
    assert isinstance(target.settings, PostgresSettings)
    other = replace(target, settings=replace(target.settings, ca=certificates()[0]))
    with pytest.raises(TargetFault) as impostor:
        await issuer_of(shop).create(replace(lease, target=other), WISH)
    assert [fault.value.code for fault in (unreachable, stranger, impostor)] == [
        "unreachable", "login_refused", "unreachable",
    ]  # fmt: skip


async def test_a_check_finds_a_good_shop_good_and_changes_nothing(shop: Shop) -> None:
    """Every finding good, for every profile; no role stays."""
    for login in ("report", "clerk", "builder"):
        findings = await issuer_of(shop).check(target_of(shop), login)
        assert [one.what for one in findings if not one.ok] == []
        assert len(findings) >= 5
    assert shop.made() == []
    assert shop.ask("SELECT 1 FROM pg_roles WHERE rolname = 'grantd_check'") == []


async def test_a_check_says_what_is_wrong(shop: Shop) -> None:
    """A superuser as the broker's role, and a password that does not fit."""
    refused = await issuer_of(shop, password="wrong").check(target_of(shop), "report")
    assert [(one.ok, "password" in one.advice) for one in refused] == [(False, True)]
    shop.do(f"ALTER ROLE {shop.admin} SUPERUSER")
    findings = await issuer_of(shop).check(target_of(shop), "report")
    assert [one.what for one in findings if not one.ok] == [
        "the broker's role is no superuser and passes no row security"
    ]
    shop.do(f"ALTER ROLE {shop.admin} NOSUPERUSER")


async def test_the_server_itself_ends_logins_on_time(shop: Shop) -> None:
    """Should every broker be gone: VALID UNTIL lets nobody in after the lease."""
    lease = lease_of(shop, seconds=1)
    await issuer_of(shop).create(lease, WISH)
    await until(lambda: datetime.now(UTC) > lease.not_after + timedelta(seconds=0.1))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        shop.login(role_of(lease.credential), PASSWORD)
    await issuer_of(shop).end(lease.target, lease.credential)


def test_statement_of_the_profiles() -> None:
    """The fixtures are what their names say."""
    assert (REPORT.level, CLERK.level) == (CommandClass.READ, CommandClass.WRITE)
    assert USAGE.on is Thing.SCHEMA
