"""The broker's own connection to a database: TLS to the pinned CA, SCRAM bound to that very channel, nothing weaker.

One connection a piece of work, closed with it. The CA's file is a descriptor of this process: nothing is written to a
disk, and neither the environment nor a file of the user's adds a setting.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import psycopg

from broker.adapters.issuers.postgres_faults import fault, fault_of
from broker.core.database import PostgresSettings, password_name
from broker.core.identity import Target
from broker.core.kinds import TargetKind
from broker.core.secret import Secret
from broker.service.ports import Store

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
CONNECT_SECONDS: Final = 4
_REFUSED: Final = ("password authentication failed", "no pg_hba.conf entry", "is not permitted to log in")
_OPTIONS: Final = "-csearch_path=pg_catalog -clock_timeout=4s -cstatement_timeout=6s -cclient_min_messages=error"
# names are looked up in the server's own schema alone: nobody's function or table stands in for it


class Logins:
    """Opens connections with what stands in the target and in the vault."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @asynccontextmanager
    async def connected(self, target: Target, database: str) -> AsyncIterator[Connection]:
        """A connection in autocommit to one database of the target's server.

        Raises:
            TargetFault: `unreachable`, `login_refused`, `too_slow`, `no_password`.
        """
        connection = await self._open(target, settings_of(target), database)
        try:
            yield connection
        finally:
            await _closed(connection)

    async def _open(self, target: Target, settings: PostgresSettings, database: str) -> Connection:
        password = await self._password(target)
        with _as_file(settings.ca) as ca:
            try:
                async with asyncio.timeout(CONNECT_SECONDS + 1):
                    return await psycopg.AsyncConnection.connect(
                        host=target.host,
                        port=target.port,
                        dbname=database,
                        user=settings.admin,
                        password=password.reveal().decode(),
                        sslmode="verify-full",
                        sslrootcert=ca,
                        sslcert="",
                        sslkey="",
                        passfile=os.devnull,
                        gssencmode="disable",
                        channel_binding="require",
                        require_auth="scram-sha-256",
                        target_session_attrs="read-write",
                        application_name="grantd",
                        connect_timeout=CONNECT_SECONDS,
                        options=_OPTIONS,
                        autocommit=True,
                    )
            except (psycopg.Error, OSError, TimeoutError) as error:
                raise _not_connected(error) from error

    async def _password(self, target: Target) -> Secret[bytes]:
        found = await self._store.read(target.tenant, lambda tx: tx.keys.secret(password_name(target.id)))
        if found is None:
            raise fault("no_password")
        return found


def settings_of(target: Target) -> PostgresSettings:
    """The settings of a database. Raises TypeError for a target of another kind: a service sent it here wrongly."""
    if not isinstance(target.settings, PostgresSettings):
        raise TypeError(f"a target of kind {target.kind}, not {TargetKind.POSTGRES}")
    return target.settings


def _not_connected(error: Exception) -> Exception:
    # libpq names no state for what the server says before it lets anybody in: these words are its own
    if isinstance(error, psycopg.OperationalError) and any(words in str(error) for words in _REFUSED):
        return fault("login_refused")
    named = fault_of(error, "login_refused")
    return fault("unreachable") if named.code == "connection_lost" or isinstance(error, OSError) else named


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A path under which this process, and nobody else, reads `text`."""
    descriptor = os.memfd_create("ca", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


async def _closed(connection: Connection) -> None:
    """Closes it; a server that does not answer keeps nobody."""
    await connection.close()
