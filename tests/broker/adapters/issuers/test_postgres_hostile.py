"""Whoever has a role fights its end with all that a role may do: it ends all the same (I-01, I-02)."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from broker.adapters.issuers.postgres_role import GRANTS_LOCK, lock_of, role_of
from broker.core.errors import TargetFault
from policy.classes import CommandClass
from tests.broker.adapters.issuers.world import PASSWORD, WISH, issuer_of, lease_of, profile, target_of
from tests.peers_shop import Shop

pytestmark = [pytest.mark.xdist_group("postgres_roles"), pytest.mark.timeout(60)]
Session = psycopg.Connection[tuple[object, ...]]


async def session_of(shop: Shop, number: int) -> Session:
    """A role made and logged in as."""
    lease = lease_of(shop, number=number)
    await issuer_of(shop).create(lease, WISH)
    return await asyncio.to_thread(shop.login, role_of(lease.credential), PASSWORD)


def is_cut(session: Session) -> bool:
    """Whether the server ended it."""
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


@pytest.mark.parametrize(
    "held",
    [
        "SELECT pg_advisory_lock({own})",
        "SELECT pg_advisory_lock({grants})",
        "BEGIN; ALTER ROLE CURRENT_USER PASSWORD NULL",
        "BEGIN; SELECT pg_advisory_xact_lock_shared({own}), pg_advisory_xact_lock_shared({grants})",
    ],
)
async def test_a_session_cannot_hold_off_its_own_end(shop: Shop, held: str) -> None:
    """The locks of whoever ends it are anybody's to take, and a row of its own it may keep busy: it is cut first."""
    lease = lease_of(shop)
    with await session_of(shop, 1) as session:
        session.autocommit = True
        session.execute(b"SET idle_in_transaction_session_timeout = 0; SET default_transaction_read_only = off")
        session.execute(held.format(own=lock_of(lease.credential), grants=GRANTS_LOCK).encode())
        await issuer_of(shop).end(lease.target, lease.credential)
        assert is_cut(session)
    assert shop.made() == []


async def test_a_role_holds_off_no_other(shop: Shop) -> None:
    """Whoever else has a role on the server loses the session that holds our locks, and nothing waits for it."""
    victim, other = lease_of(shop, number=1), lease_of(shop, number=2)
    with await session_of(shop, 2) as session:
        session.autocommit = True
        session.execute(f"SELECT pg_advisory_lock({GRANTS_LOCK})".encode())
        session.execute(f"SELECT pg_advisory_lock({lock_of(victim.credential)})".encode())
        await issuer_of(shop).create(victim, WISH)
        assert is_cut(session)
    with await asyncio.to_thread(shop.login, role_of(other.credential), PASSWORD) as again:
        again.autocommit = True
        again.execute(f"SELECT pg_advisory_lock({lock_of(victim.credential)})".encode())
        await issuer_of(shop).end(victim.target, victim.credential)
    assert shop.made() == [role_of(other.credential)]
    await issuer_of(shop).end(other.target, other.credential)


async def test_a_write_profile_makes_no_code_that_others_run(shop: Shop) -> None:
    """A membership counts as what it can do: an owner's needs the class execute, whatever the profile says."""
    bold = profile("bold", CommandClass.WRITE, member_of=(shop.team,))
    lease = lease_of(shop, "bold", target=target_of(shop, bold))
    with pytest.raises(TargetFault) as told:
        await issuer_of(shop).create(lease, WISH)
    assert told.value.code == "not_made"
    assert shop.made() == []
