"""Taking a role away: no session, no new one, nothing of its own or granted to it, no role. In this order.

VALID UNTIL and NOLOGIN stop logins only; a session in the middle of a statement is ended by the server's own word.
Nothing is waited for that a session of the role can hold, before its sessions are gone: locks are anybody's to take.
"""

from __future__ import annotations

import asyncio
from typing import Final

import psycopg
from psycopg import errors, sql

from broker.adapters.issuers.postgres_faults import fault
from broker.adapters.issuers.postgres_locks import free
from broker.adapters.issuers.postgres_login import Connection, Logins, settings_of
from broker.adapters.issuers.postgres_role import GRANTS_LOCK, lock_of, role_of
from broker.core.database import Profile
from broker.core.identity import Target
from broker.core.ids import CredentialId
from broker.service.ports import Found

_LOOK_EVERY: Final = 0.03
_LOOKS: Final = 100
_QUIET: Final = 2
"""Looks in a row without a session: one that was let in a moment before the role was closed shows in the second."""
_TRIES: Final = 4
_SHUTS: Final = 16
_LOCKED: Final = "55P03"
_OWN_ADMIN: Final = 150_000
"""Before this version a role could take itself away from whoever made it, and could then not be ended by them."""
_GONE: Final = "42704"  # somebody else dropped it between two of our statements
_AGAIN: Final = ("XX000", "40P01", "40001", "2BP01", _GONE)
"""Tuple concurrently updated, deadlock, serialisation, dependents; gone: the next look says what is left."""
_ROLE: Final = "SELECT oid FROM pg_roles WHERE rolname = %s"
_END: Final = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usesysid = %s"
_END_ORPHANS: Final = (
    "SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a"
    " WHERE a.usesysid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.usesysid)"
)
_IS_MEMBER: Final = "SELECT pg_has_role(%s, oid, 'MEMBER') FROM pg_roles WHERE rolname = %s"
_OWNS: Final = (
    "SELECT count(*) FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid"
    " WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND r.rolname = %s"
    " AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))"
)
_WHERE: Final = (
    "SELECT DISTINCT d.datname FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid"
    " WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %s AND d.datallowconn"
)
_PREPARED: Final = "SELECT gid, database FROM pg_prepared_xacts WHERE owner = %s"


async def end(logins: Logins, target: Target, credential: CredentialId) -> Found:
    """Everything of the credential's role, gone; nothing where it never was, or somebody else dropped it.

    Raises:
        TargetFault, psycopg.Error: something of it may still be there.
    """
    role = role_of(credential)
    async with logins.connected(target, settings_of(target).database) as connection:
        await _shut(connection, role)
        # whoever makes it holds this until its transaction is over, also one whose broker died in the middle
        await free(connection, lock_of(credential))
        await connection.execute("SELECT pg_advisory_lock(%s)", [lock_of(credential)])
        oid = await _shut(connection, role)
        if oid is None:
            await _must_have_no_sessions(connection)
            return Found.NOTHING
        await _cut(connection, oid)
        await _clear(logins, connection, target, role, oid)
        if await _sessions(connection, oid) or await _oid(connection, role) is not None:
            raise fault("not_taken_away")
    return Found.SOMETHING


async def _shut(connection: Connection, role: str) -> int | None:
    """Lets nobody in as the role any more, and returns its oid; None where it is not there.

    Its sessions go before: one that has changed its own row, in a transaction that it leaves open, keeps that row.
    """
    close = sql.SQL("ALTER ROLE {} NOLOGIN VALID UNTIL '-infinity' CONNECTION LIMIT 0").format(sql.Identifier(role))
    await connection.execute("SET lock_timeout = '250ms'")
    for left in range(_SHUTS, 0, -1):
        oid = await _oid(connection, role)
        if oid is None:
            break
        try:
            if connection.info.server_version < _OWN_ADMIN:
                await connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
            await _sessions(connection, oid)
            await connection.execute(close)
        except psycopg.Error as error:
            if left == 1 or error.sqlstate not in (*_AGAIN, _LOCKED):
                raise
        else:
            break
    await connection.execute("RESET lock_timeout")
    return oid


async def _oid(connection: Connection, role: str) -> int | None:
    row = await (await connection.execute(_ROLE, [role])).fetchone()
    return None if row is None else int(row[0])


async def _sessions(connection: Connection, oid: int) -> int:
    """Ends those that are there; returns how many were."""
    row = await (await connection.execute(_END, [oid])).fetchone()
    return int(row[0]) if row else 1


async def _must_have_no_sessions(connection: Connection) -> None:
    """Ends the sessions of roles that are no more; raises where one goes on, since it may be this role's.

    PostgreSQL lets a role be dropped under its own sessions, which then belong to nobody that could be asked for.
    """
    for _ in range(_QUIET):
        try:
            row = await (await connection.execute(_END_ORPHANS)).fetchone()
        except errors.InsufficientPrivilege:  # pg_signal_backend may, the broker's role alone may not
            raise fault("role_dropped") from None
        if row is None or not row[0]:
            return
        await asyncio.sleep(_LOOK_EVERY)
    raise fault("role_dropped")


async def _cut(connection: Connection, oid: int) -> None:
    quiet = 0
    for _ in range(_LOOKS):
        quiet = 0 if await _sessions(connection, oid) else quiet + 1
        if quiet == _QUIET:
            return
        await asyncio.sleep(_LOOK_EVERY)
    raise fault("not_taken_away")


async def _clear(logins: Logins, connection: Connection, target: Target, role: str, oid: int) -> None:
    """Tried a few times: others change the same catalogue rows, and the server then says so instead of waiting."""
    for left in range(_TRIES, 0, -1):
        try:
            await _roll_back(logins, connection, target, role)
            for database in await _databases(connection, oid):
                await _drop_owned(logins, target, database, role)
            await connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        except psycopg.Error as error:
            if error.sqlstate == _GONE and await _oid(connection, role) is None:
                return
            if left == 1 or error.sqlstate not in _AGAIN:
                raise
            await asyncio.sleep(_LOOK_EVERY)
        else:
            return


async def _databases(connection: Connection, oid: int) -> list[str]:
    """Where it owns something or has a privilege: wherever it connected to, the server keeps one list of it."""
    return [str(row[0]) for row in await (await connection.execute(_WHERE, [oid])).fetchall()]


async def _roll_back(logins: Logins, connection: Connection, target: Target, role: str) -> None:
    """Transactions that it prepared outlive its sessions, and keep their locks."""
    for gid, database in await (await connection.execute(_PREPARED, [role])).fetchall():
        async with logins.connected(target, str(database)) as there:
            await there.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            try:
                await there.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(str(gid))))
            except errors.UndefinedObject:
                continue


async def _drop_owned(logins: Logins, target: Target, database: str, role: str) -> None:
    """What it made goes to the owner that its profile names, else away; what was granted to it goes in any case."""
    name = sql.Identifier(role)
    async with logins.connected(target, database) as there, there.transaction():
        await free(there, GRANTS_LOCK)
        await there.execute("SELECT pg_advisory_xact_lock(%s)", [GRANTS_LOCK])
        heir = await _heir(there, target, role)
        if heir:
            await there.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(name, sql.Identifier(heir)))
        await there.execute(sql.SQL("DROP OWNED BY {}").format(name))


async def _heir(connection: Connection, target: Target, role: str) -> str:
    """The owner of a profile that the role is a member of; empty where none is named.

    Found by membership, since a profile may have changed since: an heir is somebody that the role could act as anyway,
    so what it left behind gains no power by being theirs.

    Raises:
        TargetFault: `heir_gone`: it owns something, and somebody dropped an owner: nobody said to drop that as well.
    """
    owners: list[Profile] = [profile for profile in settings_of(target).profiles if profile.owner]
    missing = False
    for profile in owners:
        row = await (await connection.execute(_IS_MEMBER, [role, profile.owner])).fetchone()
        if row and row[0]:
            return profile.owner
        missing = missing or row is None
    owns = await (await connection.execute(_OWNS, [role])).fetchone() if missing else None
    if owns and owns[0]:
        raise fault("heir_gone")
    return ""
