"""Ends of roles that others were at first, and how many there may be: a real PostgreSQL (I-01, I-02, I-60)."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from broker.adapters.issuers import postgres_ending
from broker.adapters.issuers.postgres_role import role_of
from broker.core.errors import Refusal, TargetFault
from broker.service.ports import Found
from policy.classes import CommandClass
from tests.broker.adapters.issuers.test_postgres import used
from tests.broker.adapters.issuers.world import USAGE, WISH, issuer_of, lease_of, profile, target_of
from tests.peers_shop import Shop, close_shop, open_shop

pytestmark = [pytest.mark.xdist_group("postgres_roles"), pytest.mark.timeout(60)]


def without_its_team(shop: Shop) -> None:
    """Somebody drops the role that a profile names as owner."""
    shop.do(f"REVOKE ALL ON SCHEMA app FROM {shop.team}")
    shop.do(f"DROP ROLE {shop.team}")


def with_its_team(shop: Shop) -> None:
    """And makes it again."""
    shop.do(f"CREATE ROLE {shop.team} NOLOGIN")


def drop(shop: Shop, role: str) -> None:
    """As somebody on the server would."""
    name = sql.Identifier(role)
    with shop.cluster.superuser(shop.name) as root:
        root.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(shop.admin)))  # what it granted
        root.execute(sql.SQL("DROP OWNED BY {}").format(name))
        root.execute(sql.SQL("DROP ROLE {}").format(name))


async def test_a_role_that_left_nothing_ends_without_its_owner(shop: Shop) -> None:
    """The owner that its profile names is gone, and so is what it would have been for: the end is one."""
    lease, issuer = lease_of(shop, "builder"), issuer_of(shop)
    with await used(shop, lease, issuer):
        without_its_team(shop)
        assert await issuer.end(lease.target, lease.credential) is Found.SOMETHING
    assert shop.made() == []
    with_its_team(shop)


async def test_what_a_role_made_is_not_dropped_for_want_of_its_owner(shop: Shop) -> None:
    """It is shut, its sessions are cut, the end says why; and is one once the owner is there, or none is named."""
    lease, issuer = lease_of(shop, "builder"), issuer_of(shop)
    with await used(shop, lease, issuer) as session:
        session.execute("CREATE TABLE app.made (id int)")
        without_its_team(shop)
        with pytest.raises(TargetFault) as stuck:
            await issuer.end(lease.target, lease.credential)
        assert stuck.value.code == "heir_gone"
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    (shut,) = shop.ask("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", role_of(lease.credential))
    assert shut == (False,)
    assert shop.ask("SELECT 1 FROM pg_tables WHERE tablename = 'made'")
    bare = target_of(shop, profile("builder", CommandClass.EXECUTE, USAGE))
    assert await issuer.end(replace(lease.target, settings=bare.settings), lease.credential) is Found.SOMETHING
    assert shop.made() == []
    with_its_team(shop)


async def test_a_role_that_somebody_dropped_has_ended(shop: Shop) -> None:
    """Nothing is left: the end is one, and says that it found nothing."""
    lease, issuer = lease_of(shop), issuer_of(shop)
    await issuer.create(lease, WISH)
    drop(shop, role_of(lease.credential))
    assert await issuer.end(lease.target, lease.credential) is Found.NOTHING


@pytest.mark.parametrize("at", ["_sessions", "_roll_back", "_drop_owned"])
async def test_a_role_that_is_dropped_in_the_middle_has_ended(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Undefined at any of our statements: another look, and it is gone."""
    lease, issuer = lease_of(shop), issuer_of(shop)
    await issuer.create(lease, WISH)
    real, there = getattr(postgres_ending, at), [role_of(lease.credential)]

    async def dropped_first(*words: object) -> object:
        if there:
            drop(shop, there[0])
            there.clear()
        return await real(*words)

    monkeypatch.setattr(postgres_ending, at, dropped_first)
    await issuer.end(lease.target, lease.credential)
    assert (there, shop.made()) == ([], [])


async def test_a_role_dropped_under_its_sessions_has_not(shop: Shop) -> None:
    """PostgreSQL lets that be, and the session goes on: the end is none until it is over, or may be ended by us."""
    lease, issuer = lease_of(shop), issuer_of(shop)
    with await used(shop, lease, issuer) as session:
        drop(shop, role_of(lease.credential))
        assert session.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(TargetFault) as stuck:
            await issuer.end(lease.target, lease.credential)
        assert stuck.value.code == "role_dropped"
        shop.do(f"GRANT pg_signal_backend TO {shop.admin}")
        assert await issuer.end(lease.target, lease.credential) is Found.NOTHING
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


async def test_roles_leave_room_on_their_server(shop: Shop) -> None:
    """What would take more sessions than all may have is refused, also in another database; an end makes room."""
    ((taken,),) = shop.ask(
        "SELECT sum(rolconnlimit) FROM pg_roles WHERE starts_with(rolname, %s) AND rolconnlimit > 0", "grantd_"
    )
    room = int(taken or 0) + 5  # others may have left roles on this server
    issuer = issuer_of(shop, sessions=room)
    first, second, third = (lease_of(shop, number=number) for number in (1, 2, 3))  # two sessions each
    for lease in (first, second, second):
        await issuer.create(lease, WISH)
    with pytest.raises(Refusal) as refused:
        await issuer.create(third, WISH)
    assert (refused.value.code, "limits.database_sessions" in refused.value.way_out) == ("too_many_roles", True)
    other = open_shop(shop.cluster)
    try:
        with pytest.raises(Refusal):
            await issuer_of(other, sessions=room).create(lease_of(other), WISH)
    finally:
        close_shop(other)
    await issuer.end(first.target, first.credential)
    await issuer.create(third, WISH)
    for lease in (second, third):
        await issuer.end(lease.target, lease.credential)
