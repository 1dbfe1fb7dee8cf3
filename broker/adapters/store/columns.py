"""How a column of grantd is written: its data class always, its tenant always. Never a table, never a value.

Data classes (threats.md section 4, I-36, I-50, I-55): P0 is secret and only ever stored sealed or hashed; P1 names or
describes a person, a host or what they did, and is purged; P2 is ordinary. Times are integer microseconds since the
epoch, ids and enumerations are text, lists and mappings are JSON text with sorted keys.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement

DATA_CLASS: Final = "data_class"
"""The key of Column.info that holds P0, P1 or P2; a test fails on a column without it."""

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

TEXT: Final = Text()
BYTES: Final = LargeBinary()
INT: Final = Integer()
BIG: Final = BigInteger()
"""Times in microseconds, sizes, sequence numbers."""
FLAG: Final = Boolean()


class NextNumber(ColumnElement[int]):
    """The next number of a table: PostgreSQL's identity, SQLite's `max + 1` under its one writer.

    SQLite counts only with an INTEGER PRIMARY KEY alone, which would leave the tenant out of the key. Numbers order the
    rows that are there; they may come again once every row is gone. One row a statement: no `values([...])` of a list.
    """

    inherit_cache = True

    def __init__(self, table: str, column: str) -> None:
        self.type = BIG
        self.table, self.column = table, column


@compiles(NextNumber)
def _identity(_element: NextNumber, _compiler: SQLCompiler, **_: Any) -> str:  # noqa: ANN401  the hook's own shape
    return "DEFAULT"


@compiles(NextNumber, "sqlite")
def _max_and_one(element: NextNumber, _compiler: SQLCompiler, **_: Any) -> str:  # noqa: ANN401  the hook's own shape
    return f"(SELECT coalesce(max({element.column}), 0) + 1 FROM {element.table})"  # noqa: S608  names of this schema


def p0(name: str, type_: Any, **options: Any) -> Column[Any]:  # noqa: ANN401  whatever Column takes
    """A secret: sealed by the vault or hashed before it gets here."""
    return _tagged("P0", name, type_, options)


def p1(name: str, type_: Any, **options: Any) -> Column[Any]:  # noqa: ANN401  whatever Column takes
    """Personal, or telling of a host or a command: purged, never logged."""
    return _tagged("P1", name, type_, options)


def p2(name: str, type_: Any, **options: Any) -> Column[Any]:  # noqa: ANN401  whatever Column takes
    """Ordinary: opaque ids, states, numbers, times."""
    return _tagged("P2", name, type_, options)


def tenant() -> Column[Any]:
    """The first column of every primary key (I-40)."""
    return p2("tenant", TEXT, primary_key=True)


def key(name: str, type_: Any = TEXT) -> Column[Any]:  # noqa: ANN401  whatever Column takes
    """A further column of the primary key; never counted up by the database on its own."""
    return p2(name, type_, primary_key=True, autoincrement=False)


def number(table: str, name: str) -> Column[Any]:
    """A primary key column that the database counts up; it stands before the tenant, where SQLite finds its maximum."""
    return Column(name, BIG, Identity(), primary_key=True, default=NextNumber(table, name), info={DATA_CLASS: "P2"})


def of_tenant() -> ForeignKeyConstraint:
    """The row's tenant exists. Only for tables that have no other parent: the rest inherit it from theirs."""
    return ForeignKeyConstraint(["tenant"], ["tenants.tenant"])


def refers(column: str, parent: str) -> ForeignKeyConstraint:
    """`column` names a row of `parent` in the same tenant (I-40)."""
    return ForeignKeyConstraint(["tenant", column], [f"{parent}.tenant", f"{parent}.id"])


def unique(*columns: str) -> UniqueConstraint:
    """No two rows of a tenant share these."""
    return UniqueConstraint("tenant", *columns)


def _tagged(data_class: str, name: str, type_: Any, options: dict[str, Any], /) -> Column[Any]:  # noqa: ANN401
    return Column(name, type_, **({"nullable": False} | options), info={DATA_CLASS: data_class})
