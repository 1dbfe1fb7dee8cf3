"""Advisory locks of a database that a role of ours holds: anybody may take any number, and can guess which are ours.

A lock that only the broker's own role holds is waited for; a session of a role that we made is ended for it.
"""

from __future__ import annotations

from typing import Final

from broker.adapters.issuers.postgres_login import Connection
from broker.adapters.issuers.postgres_role import PREFIX

_FREE: Final = """
SELECT count(pg_terminate_backend(a.pid)) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 1
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (l.classid::bigint << 32) | l.objid::bigint = %s
AND starts_with(a.usename, %s) AND a.usename <> current_user AND pg_has_role(a.usesysid, 'USAGE')
"""


async def free(connection: Connection, key: int) -> None:
    """Ends the sessions of roles of ours that hold the lock `key` of this database, or wait for it."""
    await connection.execute(_FREE, [key, PREFIX])
