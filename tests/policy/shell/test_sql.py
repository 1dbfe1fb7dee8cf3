"""The SQL lexer: what only reads, what writes or stops, what is not read; and what SQLite itself says to it."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.classes import CommandClass
from policy.shell.sql import Dialect, sql_class

PG, MY, LITE = Dialect.POSTGRES, Dialect.MYSQL, Dialect.SQLITE

READS = [
    (PG, "select a, left(q, 80) from pg_stat_activity where s <> 'idle; drop table t' order by 1 desc limit 15;"),
    (PG, "select count(*) filter (where a) over (partition by b) from t /* delete */ -- update"),
    (PG, "select $$;drop table t$$, $x$ $$ ; $x$, e'a\\tb', u&'d'"),
    (PG, "with a (n) as (values (1)), b as not materialized (select 2) select * from a, b"),
    (PG, "explain (costs, verbose) delete from t"),
    (PG, "explain analyze select 1"),
    (PG, "copy (select 1) to stdout with (format csv)"),
    (PG, "begin; set search_path to app, public; show work_mem; rollback"),
    (PG, "select pg_catalog.now(), x::numeric(10, 2), interval '1 day', array[1]"),
    (PG, "table t; values (1), (2)"),
    (MY, "show replica status\\G"),
    (MY, 'select "a", `delete` from t # drop'),
    (MY, "use app; describe t c; show full processlist; set names utf8mb4"),
    (MY, "desc t"),
    (LITE, "select [;drop] from t; pragma table_info('t'); pragma main.journal_mode"),
    (LITE, "explain query plan update t set a = 1"),
    (LITE, "select * from pragma_table_info('t')"),
]
WRITES = [
    (PG, "select 1; delete from t"),
    (PG, "with x as (delete from t returning *) select * from x"),
    (PG, "select * into x from t"),
    (PG, "select 1 from t for update"),
    (PG, "select 1 from t for no key update"),
    (PG, "select nextval('s')"),
    (PG, "explain analyze delete from t"),
    (PG, 'explain ("analyze") delete from t'),
    (PG, "explain (analyze, buffers) insert into t (a) values (1)"),
    (PG, "create unique index concurrently i on s.t using gin (lower(a))"),
    (PG, "create table if not exists s.t (a int primary key, b varchar(5) references u (id))"),
    (PG, "alter system set work_mem = '1GB'"),
    (PG, "copy t (a) from stdin"),
    (PG, "copy t to '/tmp/x'"),
    (PG, "commit prepared 'x'"),
    (PG, "set role x"),
    (MY, "select 1 into outfile '/tmp/x'"),
    (MY, "select 1 lock in share mode"),
    (MY, "set global max_connections = 500"),
    (MY, "load data infile '/x' into table t"),
    (MY, "grant all on app.* to 'a'@'%'; flush privileges"),
    (LITE, "pragma journal_mode = wal"),
    (LITE, "pragma optimize"),
    (LITE, "replace into t values (1)"),
    (LITE, "vacuum into 'x'"),
    (LITE, "attach 'x' as y"),
]
STOPS = [
    (PG, "select pg_terminate_backend(1)"),
    (PG, 'select "pg_reload_conf"()'),
    (PG, "insert into t values (pg_cancel_backend(1))"),
    (MY, "kill 12"),
    (MY, "shutdown"),
    (MY, "stop replica"),
]
NOT_READ = [
    (PG, ""),
    (PG, ";;"),
    (PG, "copy t to program 'id'"),
    (PG, "do $$ begin end $$"),
    (PG, "call p()"),
    (PG, "select my_own(1)"),
    (PG, "select public.now()"),
    (PG, 'select "NOW"()'),
    (PG, "select query_to_xml('drop table t', true, true, '')"),
    (PG, "select dblink_exec('', 'drop table t')"),
    (PG, "select 1 from a join b on f(1)"),
    (PG, "select distinct on (a) f(1)"),
    (PG, "explain select my_own(1)"),
    (PG, "create function f() returns int as 'x' language sql"),
    (PG, "create extension x"),
    (PG, "create materialized view index as select 1 from a join b on f(1)"),
    (PG, "set search_path = a, pg_catalog"),
    (PG, "load 'x'"),
    (PG, "execute p"),
    (PG, "select 'a\\'; drop table t; -- '"),
    (PG, "select 1 /* /* */ ; drop table t */"),
    (PG, "select $a$ unterminated"),
    (PG, "select 1\\gexec"),
    (PG, "select lo_export(1, '/x'), pg_read_file('/x')"),
    (MY, "/*!50000 drop table t */ select 1"),
    (MY, "select 1 /*M! ; drop table t */"),
    (MY, "select 1 --' \n; drop table t; -- '"),
    (MY, "select 'a' \\! id"),
    (MY, "system id"),
    (MY, "delimiter //"),
    (MY, "select sys_exec('id')"),
    (MY, "begin not atomic drop table t"),
    (MY, "set statement max_statement_time = 1 for call p"),
    (MY, "load data local infile '/x' into table t"),
    (MY, "handler t open"),
    (MY, "select '\u4e2d\\\\' ; drop table t; -- '"),
    (LITE, "select load_extension('x')"),
    (LITE, "select writefile('a', 'b')"),
    (LITE, "select * from pragma_optimize"),
    (LITE, "select * from 'pragma_optimize'"),
    (LITE, "select * from [PRAGMA_OPTIMIZE]"),
    (LITE, "select * from 'fsdir'('/')"),
    (LITE, "explain pragma optimize"),
]


@pytest.mark.parametrize(("dialect", "text"), READS)
def test_statements_that_only_read(dialect: Dialect, text: str) -> None:
    """I-16: SQL is a read only if each verb and each function of it is known to read."""
    assert sql_class(text, dialect) is CommandClass.READ


@pytest.mark.parametrize(("dialect", "text"), WRITES)
def test_statements_that_write(dialect: Dialect, text: str) -> None:
    """I-16: one statement that changes data, settings or locks makes the text a write."""
    assert sql_class(text, dialect) is CommandClass.WRITE


@pytest.mark.parametrize(("dialect", "text"), STOPS)
def test_statements_that_stop_something(dialect: Dialect, text: str) -> None:
    """I-16: ending a query or the server is execute, wherever the call stands."""
    assert sql_class(text, dialect) is CommandClass.EXECUTE


@pytest.mark.parametrize(("dialect", "text"), NOT_READ)
def test_statements_that_run_code_or_are_not_read(dialect: Dialect, text: str) -> None:
    """I-16: code that the text does not show, and text that two servers read differently, is never a read."""
    assert sql_class(text, dialect) is None


def test_a_plugin_is_an_installation() -> None:
    """I-16: a library that is loaded into the server is installed."""
    assert sql_class("install plugin x soname 'x.so'", MY) is CommandClass.INSTALL


PIECES = [
    *"()[]'\"`;,.=-*/\\#@$:",
    *("select", "from", "t", "insert into", "values", "with x as", "explain", "analyze", "set", "pragma"),
    *("1", "'a'"),
    *(
        "--",
        "/*",
        "*/",
        "\n",
        "$$",
        "now()",
        "delete",
        "for update",
        "copy",
        "to stdout",
        "create",
        "table",
        "index",
        "on",
    ),
]
SOUP = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=2)), max_size=14).map(" ".join)


@given(SOUP, st.sampled_from(Dialect))
@settings(max_examples=300)
def test_any_text_gets_an_answer(text: str, dialect: Dialect) -> None:
    """I-16: total over near-misses of SQL."""
    assert sql_class(text, dialect) in (None, *CommandClass)


@given(
    st.lists(st.sampled_from(["select 1", "show x", "explain select 1", "select ';' from t"]), max_size=4),
    st.sampled_from([(WRITES[0][1], "write"), ("drop table t", "write"), ("kill 1", "execute"), ("frobnicate", None)]),
    st.integers(0, 4),
    st.sampled_from(Dialect),
)
def test_a_statement_among_others_never_lowers(
    reads: list[str], one: tuple[str, str | None], at: int, dialect: Dialect
) -> None:
    """I-16: a text is as high as its highest statement, wherever that stands."""
    statement, word = one
    found = sql_class(" ; ".join([*reads[:at], statement, *reads[at:]]), dialect)
    assert found is (CommandClass.from_word(word) if word else None)


_HARMLESS = {
    *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE),
    *(sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT),
}
_SHOWN = [("user_version", None), ("table_info", "t")]
FRAGMENTS = [
    *("select a from t", "select * from t where a = 1", "select count(*) from t", "select [a] from t", "values (1)"),
    *("delete from t", "insert into t values (1)", "insert into t (a) select 2", "update t set a = 3", "drop table t"),
    *("create table u (a)", "create index i on t (a)", "replace into t values (4)", "pragma user_version = 5"),
    *(
        "pragma user_version",
        "pragma table_info(t)",
        "pragma optimize",
        "begin",
        "commit",
        "vacuum",
        "reindex",
        "analyze",
    ),
    *("with x as (select 1) select * from x", "with x as (select 1) delete from t", "explain delete from t"),
    *("select * from pragma_optimize", "explain query plan select 1"),
    *("select ';' , \"delete\" from t", "select 1 /* ; drop table t */", "select 1 -- ;\n", "select 'it''s' from t"),
    *("select abs(-1)", "select replace('a', 'a', 'b')", "alter table t add column b", "attach ':memory:' as m"),
]
JOINS = [";", " ; ", ";\n", "/**/;", "--\n;", "';'", "/*", "*/", "'", '"', "`", "[", "]", "--", "\n"]


@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.sampled_from(JOINS)), min_size=1, max_size=7).map("".join))
@settings(max_examples=400)
def test_sqlite_finds_no_more_than_reads_in_a_read(text: str) -> None:
    """I-16: what SQLite is about to do for a text called a read is only to look, however the text is cut."""
    if sql_class(text, LITE) is not CommandClass.READ:
        return
    asked: list[tuple[object, ...]] = []
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("create table t (a)")

    def watch(*action: object) -> int:
        asked.append(action)
        return sqlite3.SQLITE_OK

    database.set_authorizer(watch)
    for statement in _cut(text):
        try:
            database.execute(statement).fetchall()
        except sqlite3.Error:
            break
    plans = "explain" in text  # what is explained is asked about too, though it is not done
    assert database.total_changes == 0
    assert plans or all(action[0] in _HARMLESS or action[1:3] in _SHOWN for action in asked), asked
    database.close()


def _cut(text: str) -> list[str]:
    """The statements as SQLite cuts them: it says itself where one is complete."""
    found, start = [], 0
    for at, char in enumerate(text):
        if char == ";" and sqlite3.complete_statement(text[start : at + 1]):
            found.append(text[start : at + 1])
            start = at + 1
    return [*found, text[start:]]
