"""A database looked at from outside: can the broker make what a profile says, and is that all that it would give?

Makes the role, asks what it can do, and rolls the transaction back: nothing stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, LiteralString

import psycopg

from broker.adapters.issuers.postgres_login import Connection, Logins, settings_of
from broker.adapters.issuers.postgres_role import prove, statements
from broker.core.database import Profile
from broker.core.errors import TargetFault
from broker.core.identity import Target
from broker.service.ports import Finding

_LEAST_VERSION: Final = 140_000
_TRIED: Final = "grantd_check"
_SELF: Final = (
    "SELECT rolsuper OR rolbypassrls OR rolreplication, rolcreaterole FROM pg_roles WHERE rolname = current_user"
)
_PUBLIC_CREATE: Final = (
    "SELECT count(*) FROM pg_namespace n, aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE'"
)
_NO_VERIFIER: Final = (
    "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    ":AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)
_NEVER: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Check:
    """One look at one profile."""

    def __init__(self, logins: Logins, target: Target, profile: Profile) -> None:
        self._logins, self._target, self._profile = logins, target, profile

    async def run(self) -> Sequence[Finding]:
        """What was found, in order; the first that makes the others pointless is the last."""
        try:
            async with self._logins.connected(self._target, settings_of(self._target).database) as connection:
                reached = _good("the broker reaches the database over TLS and is let in")
                return [reached, *await self._looked(connection)]
        except TargetFault as fault:
            return [Finding(ok=False, what=fault.what, advice=_ADVICE.get(fault.code, _ADVICE["unreachable"]))]
        except psycopg.Error:
            return [Finding(ok=False, what="the database did not answer a question", advice="look at its log")]

    async def _looked(self, connection: Connection) -> list[Finding]:
        found = [_version(connection.info.server_version), *await _own_role(connection)]
        found.append(await self._tried(connection))
        if await _is(connection, _PUBLIC_CREATE):
            advice = "REVOKE CREATE ON SCHEMA public FROM PUBLIC, in this database and in others that PUBLIC may enter"
            found.append(Finding(ok=True, what="everybody may create things in a schema", advice=advice))
        return found

    async def _tried(self, connection: Connection) -> Finding:
        what = f"a role with the profile {self._profile.name} can be made, and can do what it says"
        try:
            async with connection.transaction(force_rollback=True):
                made = statements(
                    _TRIED, self._profile, verifier=_NO_VERIFIER, not_after=_NEVER, mark="",
                    version=connection.info.server_version,
                )  # fmt: skip
                for statement in made:
                    await connection.execute(statement)
                await prove(connection, _TRIED, self._profile)
        except TargetFault:
            return Finding(ok=False, what=what, advice=_ADVICE["not_made"])
        except psycopg.Error as error:
            state = error.sqlstate or "no state"
            return Finding(ok=False, what=what, advice=f"the server said no ({state}): {_ADVICE['not_made']}")
        return _good(what)


_ADVICE: Final = {
    "unreachable": "check address and port, ssl = on in the server, and that the CA given here signed its certificate",
    "too_slow": "check the network, and what the server waits for",
    "login_refused": "check the broker's role, its pg_hba.conf line (hostssl, scram-sha-256) and its password",
    "no_password": "set it: grantctl target password NAME",
    "not_made": "give the broker's role what it shall give on (WITH GRANT OPTION, or membership WITH ADMIN OPTION);"
    " a read profile must not be able to write, by PUBLIC neither",
}


def _good(what: str) -> Finding:
    return Finding(ok=True, what=what, advice="")


def _version(version: int) -> Finding:
    ok = version >= _LEAST_VERSION
    return Finding(ok=ok, what="the server is PostgreSQL 14 or newer", advice="" if ok else "upgrade the server")


async def _own_role(connection: Connection) -> list[Finding]:
    row = await (await connection.execute(_SELF)).fetchone()
    mighty, makes = (True, False) if row is None else (bool(row[0]), bool(row[1]))
    return [
        Finding(
            ok=not mighty, what="the broker's role is no superuser and passes no row security",
            advice="" if not mighty else "ALTER ROLE ... NOSUPERUSER NOBYPASSRLS NOREPLICATION",
        ),
        Finding(
            ok=makes, what="the broker's role may make roles", advice="" if makes else "ALTER ROLE ... CREATEROLE",
        ),
    ]  # fmt: skip


async def _is(connection: Connection, question: LiteralString) -> bool:
    row = await (await connection.execute(question)).fetchone()
    return bool(row and row[0])
