"""Whether a database may be served from: schema as this program's, row security in force. Never mends anything."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, inspect, text

from broker.adapters.store.schema import metadata
from broker.core.errors import StoreFault

HEAD: Final = "0008"
"""The newest revision in `versions`."""
_PRIVILEGED: Final = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
_OPEN_TABLES: Final = text(
    "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
    " AND relname = ANY(:names)"
    " AND (NOT relrowsecurity OR NOT relforcerowsecurity OR pg_has_role(current_user, relowner, 'MEMBER'))"
)


def must_be_ready(conn: Connection) -> None:
    """Raises StoreFault unless a broker may work with this database as the role that it connected as (I-40)."""
    # (1) the schema is the one that this program was written for, neither older nor newer
    if not inspect(conn).has_table("alembic_version"):
        raise StoreFault("the database has no tables of grantd: run its migration")
    if conn.execute(text("SELECT version_num FROM alembic_version")).scalars().all() != [HEAD]:
        raise StoreFault("the database's schema is of another version of grantd")
    # (2) on PostgreSQL no tenant's rows are open to another: not by a privileged role, an owner or an unforced table
    if conn.dialect.name == "postgresql":
        if conn.execute(_PRIVILEGED).scalar_one():
            raise StoreFault("the broker's database role can bypass row security")
        if conn.execute(_OPEN_TABLES, {"names": list(metadata.tables)}).scalar_one():
            raise StoreFault("row security is not forced on every table, or the broker's role owns one")
