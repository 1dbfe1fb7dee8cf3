"""Statements that bypass SQLAlchemy answer as it would have: the same values, of the same types."""

from __future__ import annotations

import pytest
from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text, bindparam, create_engine, func, insert, select

from broker.adapters.store.hot import Hot

_TABLE = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("on", Boolean), Column("say", Text))
_ALL = select(_TABLE).order_by(_TABLE.c.id)


def test_named_rows_are_what_sqlalchemy_would_give() -> None:
    """Names, NULLs, and booleans that are booleans: 1 is equal to True, but no test of `is` would take it for one."""
    with create_engine("sqlite://").connect() as conn:
        _TABLE.create(conn)
        rows: list[dict[str, object]] = [
            {"id": 1, "on": True, "say": "a"},
            {"id": 2, "on": False, "say": None},
            {"id": 3, "on": None, "say": ""},
        ]
        Hot(insert(_TABLE), columns=("id", "on", "say")).run(conn, *rows)
        found, expected = Hot(_ALL).named(conn, {}), conn.execute(_ALL).all()
        assert [row._asdict() for row in found] == [row._asdict() for row in expected] == rows
        assert [row.on for row in found if row.on is not None] == [True, False]
        assert [type(row.on) for row in found] == [bool, bool, type(None)]


def test_a_constant_inside_a_function_is_a_parameter() -> None:
    """SQLAlchemy writes some constants into the text at each execution; here they are bound like the rest."""
    with create_engine("sqlite://").connect() as conn:
        _TABLE.create(conn)
        conn.execute(insert(_TABLE), [{"id": 1, "say": "a"}, {"id": 2, "say": "b"}])
        joined = select(func.aggregate_strings(_TABLE.c.say, ";").label("all")).where(_TABLE.c.id < bindparam("below"))
        assert tuple(Hot(joined).one(conn, {"below": 9}) or ()) == ("a;b",)
        assert Hot(_ALL.where(_TABLE.c.id == bindparam("id"))).one(conn, {"id": 7}) is None


def test_a_list_is_refused() -> None:
    """A list has no one text: such a statement is not hot, and says so at once instead of finding nothing."""
    with create_engine("sqlite://").connect() as conn, pytest.raises(AssertionError):
        Hot(_ALL.where(_TABLE.c.id.in_(bindparam("ids", expanding=True)))).named(conn, {"ids": [1]})
