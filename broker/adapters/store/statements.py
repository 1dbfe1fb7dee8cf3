"""The few statements that every kind of row is written and paged with. Never decides what may be written.

Hot statements are built once and run with parameters: building costs SQLAlchemy more than running costs SQLite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Insert, Row, Select, Table, and_, bindparam, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.store.hot import Hot, driver_of
from broker.core.errors import StoreFault
from broker.core.ids import TenantId

MAX_PAGE: Final = 1_000
"""The most rows of one page, whatever was asked for (I-60)."""
_COUNTED: Final = {"preserve_rowcount": True}


class _Kind(Enum):
    PUT = "put"
    ADD = "add"


_COMPILED: Final[dict[tuple[_Kind, Table, str], tuple[str, tuple[str, ...]]]] = {}
"""(what, table, dialect) -> text and the order of its positional parameters; empty where the driver takes names."""


class TenantRows:
    """Rows of one tenant, seen through one connection, inside one unit of work."""

    __slots__ = ("_conn", "_tenant")

    def __init__(self, conn: Connection, tenant: TenantId) -> None:
        self._conn = conn
        self._tenant = tenant

    def _own(self, tenant: TenantId) -> TenantId:
        """The unit's tenant, if `tenant` (a value's) is the same.

        Raises:
            StoreFault: a value of another tenant was about to be written (I-40).
        """
        if tenant != self._tenant:
            raise StoreFault("a row of another tenant")
        return self._tenant


@cache
def by_id(table: Table) -> Select[Any]:
    """One row by `tenant` and `id`."""
    return select(table).where(table.c.tenant == bindparam("tenant"), table.c.id == bindparam("id"))


@cache
def hot_by_id(table: Table) -> Hot:
    """As `by_id`, for where it runs all the time."""
    return Hot(by_id(table))


def put(conn: Connection, table: Table, row: Mapping[str, object]) -> None:
    """Inserts the row, or replaces everything but its key."""
    _write(conn, _Kind.PUT, table, row)


def add(conn: Connection, table: Table, row: Mapping[str, object]) -> bool:
    """Inserts the row unless one with such a key (or unique column) is there; says whether it did. Never half."""
    return _write(conn, _Kind.ADD, table, row) == 1


def page(
    conn: Connection,
    table: Table,
    time: str,
    where: ColumnElement[bool],
    *,
    tenant: TenantId,
    after: str | None,
    limit: int,
) -> Sequence[Row[Any]]:
    """Newest first by the column named `time`, then by id; `after` is the last id of the page before.

    An `after` that is not in the tenant gives an empty page: the same as an end (I-46).
    """
    rows = select(table).where(table.c.tenant == tenant, where).order_by(table.c[time].desc(), table.c.id.desc())
    if after is not None:
        last = conn.execute(by_id(table), {"tenant": tenant, "id": after}).one_or_none()
        if last is None:
            return []
        at = getattr(last, time)
        rows = rows.where(or_(table.c[time] < at, and_(table.c[time] == at, table.c.id < after)))
    return conn.execute(rows.limit(max(0, min(limit, MAX_PAGE)))).all()


def _write(conn: Connection, kind: _Kind, table: Table, row: Mapping[str, object]) -> int:
    """How many rows it wrote."""
    text, values = _bound(conn, kind, table, row)
    raw = driver_of(conn)
    if raw is not None:
        return raw.execute(text, values).rowcount
    return conn.exec_driver_sql(text, values, execution_options=_COUNTED).rowcount


def _bound(conn: Connection, kind: _Kind, table: Table, row: Mapping[str, object]) -> tuple[str, Any]:
    """The statement as the driver takes it. Compiled once: for the widest rows that halves what writing one costs."""
    known = (kind, table, conn.dialect.name)
    if known not in _COMPILED:
        statement = (_upsert if kind is _Kind.PUT else _insert_new)(table, conn.dialect.name)
        compiled = statement.compile(dialect=conn.dialect, column_keys=[column.name for column in table.c])
        _COMPILED[known] = str(compiled), tuple(getattr(compiled, "positiontup", None) or ())
    text, positions = _COMPILED[known]
    return text, tuple(row[name] for name in positions) if positions else dict(row)


def _upsert(table: Table, dialect: str) -> Insert:
    into = _insert(table, dialect)
    rest = {c.name: into.excluded[c.name] for c in table.c if not c.primary_key}
    return into.on_conflict_do_update(index_elements=list(table.primary_key), set_=rest)


def _insert_new(table: Table, dialect: str) -> Insert:
    return _insert(table, dialect).on_conflict_do_nothing()


def _insert(table: Table, dialect: str) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
