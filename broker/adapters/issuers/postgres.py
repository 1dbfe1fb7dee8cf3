"""Roles in PostgreSQL that live as long as a grant: made whole in one transaction, gone when it ends.

Talks to the server as a role with CREATEROLE, never as a superuser, and learns no password of a role it makes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

import psycopg
import structlog

from broker.adapters.issuers import postgres_ending
from broker.adapters.issuers.postgres_check import Check
from broker.adapters.issuers.postgres_faults import fault_of
from broker.adapters.issuers.postgres_locks import free
from broker.adapters.issuers.postgres_login import Connection, Logins, settings_of
from broker.adapters.issuers.postgres_role import GRANTS_LOCK, PREFIX, lock_of, prove, role_of, statements
from broker.core.errors import Refusal, exhausted, invalid
from broker.core.identity import Target
from broker.core.ids import CredentialId, is_id
from broker.core.kinds import must_fit
from broker.service.ports import (
    Access,
    CredentialWish,
    DatabaseAccess,
    DatabaseWish,
    Finding,
    Found,
    Lease,
    Plan,
    Store,
)

log = structlog.get_logger()
T = TypeVar("T")
WITHIN: Final = 9.0
"""Seconds that one call may take."""
_LEAST_ITERATIONS: Final = 4096
_MOST_ITERATIONS: Final = 1_000_000
_LEAST_SALT: Final = 16
_DIGEST: Final = 32
_VERIFIER: Final = re.compile(
    r"SCRAM-SHA-256\$([1-9][0-9]{3,6}):([A-Za-z0-9+/]{22,88}={0,2})\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)"
)
_OURS: Final = (
    "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles"
    " WHERE starts_with(rolname, %s) AND starts_with(shobj_description(oid, 'pg_authid'), %s)"
)


_OPEN: Final = (
    "SELECT coalesce(sum(greatest(rolconnlimit, 1)), 0) FROM pg_roles WHERE rolcanlogin"
    " AND starts_with(rolname, %s) AND starts_with(shobj_description(oid, 'pg_authid'), 'grantd ')"
)


class PostgresIssuer:
    """See CredentialIssuer.

    Args:
        issuer: this broker's name among all that may use the same server; stands in the mark of each role.
        sessions: how many the roles of all brokers on one server may have at once, together.
    """

    def __init__(self, store: Store, *, issuer: str, sessions: int) -> None:
        self._logins = Logins(store)
        self._issuer = issuer
        self._sessions = sessions

    def plan(self, lease: Lease, wish: CredentialWish) -> Plan:
        """See CredentialIssuer. Raises Refusal `bad_verifier`, `profile_above_ceiling`."""
        profile = settings_of(lease.target).profile(lease.login)
        must_fit(lease.target.settings, login=lease.login, ceiling=lease.ceiling, flags=frozenset())
        verifier = _checked(wish)
        return Plan(
            name=role_of(lease.credential),
            key=hashlib.sha256(verifier.encode()).digest(),
            facts={"class": profile.level.word, "target": lease.target.id},
        )

    async def create(self, lease: Lease, wish: CredentialWish) -> Access:
        """See CredentialIssuer."""
        settings = settings_of(lease.target)
        self.plan(lease, wish)
        await self._bounded(self._made(lease, _checked(wish)), "not_made", lease.credential)
        return DatabaseAccess(
            host=lease.target.host,
            port=lease.target.port,
            database=settings.database,
            user=role_of(lease.credential),
            ca=settings.ca,
        )

    async def end(self, target: Target, credential: CredentialId) -> Found:
        """See CredentialIssuer."""
        return await self._bounded(postgres_ending.end(self._logins, target, credential), "not_taken_away", credential)

    async def leftovers(self, target: Target) -> Sequence[CredentialId]:
        """See CredentialIssuer."""
        return await self._bounded(self._found(target), "connection_lost", target.id)

    async def check(self, target: Target, login: str) -> Sequence[Finding]:
        """See CredentialIssuer."""
        return await Check(self._logins, target, settings_of(target).profile(login)).run()

    async def _made(self, lease: Lease, verifier: str) -> None:
        settings = settings_of(lease.target)
        profile, role = settings.profile(lease.login), role_of(lease.credential)
        async with self._logins.connected(lease.target, settings.database) as connection, connection.transaction():
            await free(connection, lock_of(lease.credential))
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [lock_of(lease.credential)])
            if await _is_there(connection, role):
                return
            await free(connection, GRANTS_LOCK)
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [GRANTS_LOCK])
            await self._must_have_room(connection, profile.sessions)
            made = statements(
                role, profile, verifier=verifier, not_after=lease.not_after, mark=self._mark(lease),
                version=connection.info.server_version,
            )  # fmt: skip
            for statement in made:
                await connection.execute(statement)
            await prove(connection, role, profile)

    async def _must_have_room(self, connection: Connection, wanted: int) -> None:
        """Asks the server what roles of ours may open already: it knows those of other targets and brokers too.

        Roles of two databases of one server that are made in the same moment do not see each other.
        """
        row = await (await connection.execute(_OPEN, [PREFIX])).fetchone()
        if row is None or row[0] + wanted > self._sessions:
            raise exhausted(
                "too_many_roles", f"roles on this server may have {self._sessions} sessions, and those there take them",
                "let a grant end, or give one back; an operator can raise limits.database_sessions",
            )  # fmt: skip

    async def _found(self, target: Target) -> Sequence[CredentialId]:
        prefix = self._prefix(target)
        async with self._logins.connected(target, settings_of(target).database) as connection:
            rows = await (await connection.execute(_OURS, [PREFIX, prefix])).fetchall()
        return sorted(CredentialId(made) for (mark,) in rows if is_id(made := str(mark).removeprefix(prefix)))

    def _mark(self, lease: Lease) -> str:
        return self._prefix(lease.target) + lease.credential

    def _prefix(self, target: Target) -> str:
        return f"grantd {self._issuer} {target.tenant} {target.id} "

    async def _bounded(self, work: Awaitable[T], otherwise: str, about: str) -> T:
        try:
            async with asyncio.timeout(WITHIN):
                return await work
        except (psycopg.Error, OSError, TimeoutError) as error:
            # the server's words stay with the server: a state says which rule it was
            state = getattr(error, "sqlstate", None)
            log.warning("database.failed", about=about, sqlstate=state, kind=type(error).__name__)
            raise fault_of(error, otherwise) from error


async def _is_there(connection: Connection, role: str) -> bool:
    cursor = await connection.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [role])
    row = await cursor.fetchone()
    return row is None or bool(row[0])


def _checked(wish: CredentialWish) -> str:
    """The verifier, if a server takes it for one and its password was salted and stretched."""
    found = _VERIFIER.fullmatch(wish.verifier) if isinstance(wish, DatabaseWish) else None
    if found is None or not _LEAST_ITERATIONS <= int(found[1]) <= _MOST_ITERATIONS:
        raise _bad_verifier()
    try:
        salt, *digests = (base64.b64decode(part, validate=True) for part in found.groups()[1:])
    except binascii.Error:
        raise _bad_verifier() from None
    if len(salt) < _LEAST_SALT or any(len(digest) != _DIGEST for digest in digests):
        raise _bad_verifier()
    return found[0]


def _bad_verifier() -> Refusal:
    return invalid("bad_verifier", "not a SCRAM-SHA-256 verifier", "docs/databases.md says how one is made")
