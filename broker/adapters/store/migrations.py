"""Bringing a database to this program's schema, and proving that it is there. Never run by a serving broker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from broker.adapters.store.faults import fault_of
from broker.adapters.store.schema import metadata
from broker.adapters.store.sqlite import writing_engine
from broker.adapters.store.store import parsed

_FOLDER: Final = Path(__file__).parent
_LOCK: Final = text("SELECT pg_advisory_xact_lock(727374)")  # any number, as long as it is always this one
_APPEND_ONLY: Final = frozenset(
    {"approval", "approval_spent", "audit_checkpoint", "audit_entry", "ended_key", "policy_version"}
    | {"secret_version", "tenants"}
)
"""Tables whose rows nobody changes: the broker's role may not."""
_NEVER_DELETED: Final = frozenset({"ended_key", "tenants"})


def migrate(url: str | URL, *, app_role: str = "") -> None:
    """Makes or upgrades the schema, all of it or nothing.

    Args:
        url: as SqlStore.open takes it; for PostgreSQL that of the owner of the tables, who is not the broker's role.
        app_role: PostgreSQL only: the broker's role, which gets the rights it needs and loses all others.

    Raises:
        StoreFault: the database could not; nothing was changed.
        Refusal: the URL names no database that grantd knows.
    """
    made = parsed(url)
    if made.get_backend_name() == "sqlite":
        _create_privately(Path(made.database or ""))
    with _transaction(made) as conn:
        command.upgrade(_config(conn), "head")
        if app_role and conn.dialect.name == "postgresql":
            _grant(conn, app_role)


def check(url: str | URL) -> None:
    """Compares the database with `schema.py`.

    Raises:
        alembic.util.CommandError: they differ, or the database is not at the newest revision.
        StoreFault: the database could not be read.
    """
    with _transaction(parsed(url)) as conn:
        command.check(_config(conn))


def _config(conn: Connection) -> Config:
    """Alembic's configuration, without a file of its own."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.set_main_option("version_locations", str(_FOLDER / "versions"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    return config


@contextmanager
def _transaction(url: URL) -> Iterator[Connection]:
    """One transaction that no other migration can enter at the same time."""
    if url.get_backend_name() == "sqlite":
        engine = writing_engine(Path(url.database or ""))
    else:
        engine = create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool)
    try:
        with engine.connect() as conn, conn.begin():
            if conn.dialect.name == "sqlite":
                conn.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                conn.execute(_LOCK)
            yield conn
    except (SQLAlchemyError, psycopg.Error) as error:
        raise fault_of(error) from error
    finally:
        engine.dispose()


def _create_privately(path: Path) -> None:
    """An empty file for its owner alone; SQLite gives its companions the same mode (I-53)."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise fault_of(error) from error


def _grant(conn: Connection, role: str) -> None:
    """Exactly these rights: whatever default privileges gave is taken back first."""
    to = sql.Identifier(role)
    statements = [sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(to)]
    statements.append(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(to))
    statements.append(sql.SQL("GRANT SELECT ON alembic_version TO {}").format(to))
    for name in metadata.tables:
        rights = "SELECT, INSERT"
        rights += "" if name in _APPEND_ONLY else ", UPDATE"
        rights += "" if name in _NEVER_DELETED else ", DELETE"
        statements.append(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), sql.Identifier(name), to))
    for statement in statements:
        conn.exec_driver_sql(statement.as_string())
