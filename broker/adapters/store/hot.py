"""Statements that run so often that what surrounds them counts: built and compiled once, run by the driver on SQLite.

The same statement on both databases. SQLAlchemy's way around a statement costs several times what SQLite needs for it;
PostgreSQL's driver is asynchronous and hides behind SQLAlchemy, and there the way to the server outweighs it anyway.
"""

from __future__ import annotations

import re
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Final

from sqlalchemy import Boolean, Connection, Delete, Insert, Select, Update
from sqlalchemy.dialects import sqlite

_LATE: Final = re.compile(r"__\[POSTCOMPILE_\w+\]")


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
        return self._found(raw, values)

    def named(self, connection: Connection, values: Mapping[str, object]) -> Sequence[Any]:
        """A Select's rows, their columns by name and booleans as such. Raises as `rows` does."""
        raw = driver_of(connection)
        if raw is None:
            return connection.execute(self._statement, values).all()
        made = self._row
        return [made(row) for row in self._found(raw, values)]

    def one(self, connection: Connection, values: Mapping[str, object]) -> Any | None:  # noqa: ANN401  a row
        """As `named`, of a statement that finds one row or none."""
        found = self.named(connection, values)
        return found[0] if found else None

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

    def _found(self, raw: sqlite3.Connection, values: Mapping[str, object]) -> list[Any]:
        text, names, fixed = self._sqlite
        return raw.execute(text, [values[name] if name in values else fixed[name] for name in names]).fetchall()

    @cached_property
    def _sqlite(self) -> tuple[str, tuple[str, ...], dict[str, object]]:
        """Text with question marks, the names in their places, and the values that the statement itself brings."""
        compiled = self._statement.compile(dialect=sqlite.dialect(), column_keys=self._columns or None)
        assert not any(bind.expanding for bind in compiled.binds.values())  # noqa: S101  a list has no one text
        fixed = {name: bind.value for name, bind in compiled.binds.items() if bind.value is not None}
        # a constant that SQLAlchemy would write into the text at each execution is a parameter like any other
        text = _LATE.sub("?", str(compiled))
        return text, tuple(compiled.positiontup or ()), fixed

    @cached_property
    def _row(self) -> Callable[[Sequence[Any]], Any]:
        """What makes a named row of SQLite's answer, which knows no names, and booleans as 0 and 1 alone."""
        assert isinstance(self._statement, Select)  # noqa: S101  only a Select has rows to name
        columns = list(self._statement.selected_columns)
        kind = namedtuple("Row", [column.key for column in columns])  # type: ignore[misc]  # noqa: PYI024  names of a table
        flags = [at for at, column in enumerate(columns) if isinstance(column.type, Boolean)]
        return partial(_with_flags, kind._make, flags) if flags else kind._make


def _with_flags(make: Callable[[Sequence[Any]], Any], flags: Sequence[int], row: Sequence[Any]) -> Any:  # noqa: ANN401  a row
    values = list(row)
    for at in flags:
        if values[at] is not None:
            values[at] = bool(values[at])
    return make(values)


def driver_of(connection: Connection) -> sqlite3.Connection | None:
    """SQLite's own connection under this one, in the same transaction; None on other databases."""
    raw = connection.connection.driver_connection
    return raw if isinstance(raw, sqlite3.Connection) else None
