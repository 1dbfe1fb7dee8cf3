"""Statements that run so often that what surrounds them counts: built and compiled once, run by the driver on SQLite.

The same statement on both databases. SQLAlchemy's way around a statement costs several times what SQLite needs for it;
PostgreSQL's driver is asynchronous and hides behind SQLAlchemy, and there the way to the server outweighs it anyway.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.dialects import sqlite


class Hot:
    """One statement with named parameters; an Insert takes the columns in `columns`."""

    def __init__(self, statement: Delete | Insert | Select[Any] | Update, *, columns: Sequence[str] = ()) -> None:
        self._statement = statement
        self._columns = list(columns)

    def rows(self, connection: Connection, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """Its rows, positional. Raises sqlite3.Error or SQLAlchemyError: the backend names what they mean."""
        raw = driver_of(connection)
        if raw is None:
            return connection.execute(self._statement, values).all()
        text, names, fixed = self._sqlite
        return raw.execute(text, [values[name] if name in values else fixed[name] for name in names]).fetchall()

    def run(self, connection: Connection, *rows: Mapping[str, object]) -> None:
        """Once for each of `rows`, without an answer."""
        raw = driver_of(connection)
        if raw is None:
            connection.execute(self._statement, list(rows))
            return
        text, names, _ = self._sqlite
        if len(rows) == 1:
            raw.execute(text, [rows[0][name] for name in names])
        else:
            raw.executemany(text, ([row[name] for name in names] for row in rows))

    @cached_property
    def _sqlite(self) -> tuple[str, tuple[str, ...], dict[str, object]]:
        """Text with question marks, the names in their places, and the values that the statement itself brings."""
        compiled = self._statement.compile(dialect=sqlite.dialect(), column_keys=self._columns or None)
        fixed = {name: bind.value for name, bind in compiled.binds.items() if bind.value is not None}
        return str(compiled), tuple(compiled.positiontup or ()), fixed


def driver_of(connection: Connection) -> sqlite3.Connection | None:
    """SQLite's own connection under this one, in the same transaction; None on other databases."""
    raw = connection.connection.driver_connection
    return raw if isinstance(raw, sqlite3.Connection) else None
