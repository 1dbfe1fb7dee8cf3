"""What SQL does, read by a strict lexer: each statement by its verb, each function by a list. Runs nothing.

Meant for the three servers that operators ask most. What it cannot read it does not guess: a verb or a function that
is not listed leaves the whole text unread. Views, operators and columns are taken for what they look like; what the
owner of a database has put behind them is not in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from policy.classes import CommandClass
from policy.shell import sqlwords
from policy.shell.sqlcalls import bare_words, calls_class, made_object
from policy.shell.sqltokens import Dialect, Statement, Token, statements

__all__ = ["Dialect", "sql_class"]

_LOCKS = frozenset({("for", "share"), ("for", "no"), ("for", "key"), ("lock", "in"), ("next", "value")})


def sql_class(text: str, dialect: Dialect) -> CommandClass | None:
    """The highest class of the statements; None if one of them runs code the text does not show, or is not read."""
    found = statements(text, dialect)
    classes = [_statement(statement) for statement in found or ()]
    known = [level for level in classes if level is not None]
    return max(known) if known and len(known) == len(classes) else None


def _statement(tokens: Statement) -> CommandClass | None:
    calls = CommandClass.READ if _verb(tokens) == "pragma" else calls_class(tokens)
    verb = _by_verb(tokens)
    return max(calls, verb) if calls is not None and verb is not None else None


def _verb(tokens: Sequence[Token]) -> str:
    first = next((token for token in tokens if token.text != "("), Token("", ""))
    return first.text if first.kind == "name" else ""


def _by_verb(tokens: Sequence[Token]) -> CommandClass | None:
    verb = _verb(tokens)
    if verb in _READERS:
        return _READERS[verb](tokens)
    if verb in sqlwords.WRITING_VERBS:
        return CommandClass.WRITE
    return CommandClass.EXECUTE if verb in sqlwords.STOPPING_VERBS else None


def _query(tokens: Sequence[Token]) -> CommandClass:
    """A query reads, unless a part of it writes, keeps its rows, locks them or moves a sequence."""
    words = bare_words(tokens)
    called = {token.text for token, after in pairwise(tokens) if after.text == "("}
    writes = set(words) & sqlwords.WRITING_WORDS - (called & {"replace", "truncate"})
    return CommandClass.WRITE if writes or _LOCKS & set(pairwise(words)) else CommandClass.READ


def _show(tokens: Sequence[Token]) -> CommandClass:
    del tokens
    return CommandClass.READ


def _explain(tokens: Sequence[Token]) -> CommandClass | None:
    """EXPLAIN plans, with ANALYZE it also runs; to MySQL it is DESCRIBE too."""
    rest = tokens[1:]
    options, rest = _explain_options(rest)
    if options is None:
        return None
    runs = "analyze" in options or "analyse" in options
    if _verb(rest) in sqlwords.EXPLAINED:
        return _by_verb(rest) if runs else CommandClass.READ
    shows_table = _is_table(rest, column=tokens[0].text != "explain")
    return CommandClass.READ if shows_table and not runs else None


def _explain_options(rest: Sequence[Token]) -> tuple[list[str] | None, Sequence[Token]]:
    """The words between EXPLAIN and its statement, None where they are not read."""
    options: list[str] = []
    if [token.text for token in rest[:1]] == ["("] and _verb(rest) not in sqlwords.EXPLAINED:
        end = next((at for at, token in enumerate(rest) if token.text == ")"), len(rest))
        options, rest = [token.text for token in rest[1:end] if token.text != ","], rest[end + 1 :]
        if not all(token in sqlwords.EXPLAIN_WORDS for token in options):
            return None, rest
    while rest and rest[0].text in sqlwords.EXPLAIN_WORDS | {"="}:
        options, rest = [*options, rest[0].text], rest[1:]
    return options, rest


def _is_table(tokens: Sequence[Token], *, column: bool) -> bool:
    """Whether these are the name of a table, perhaps with its schema, and perhaps a column or a pattern."""
    shapes = {"t", "t.t"} | ({"tt", "t.tt"} if column else set())
    return "".join("t" if token.kind in ("name", "quoted", "string") else token.text for token in tokens) in shapes


def _create(tokens: Sequence[Token]) -> CommandClass | None:
    """CREATE and ALTER of what holds no code; a function, a trigger or an extension is not read."""
    more = {"system", "privileges"} if _verb(tokens) == "alter" else set()
    return CommandClass.WRITE if made_object(tokens) in sqlwords.PLAIN_OBJECTS | more else None


def _copy(tokens: Sequence[Token]) -> CommandClass | None:
    """COPY reads only to its standard output; a program at its other end is not read."""
    words = bare_words(tokens)
    if "program" in words:
        return None
    shows = ("to", "stdout") in set(pairwise(words)) and "from" not in _outside(tokens)
    return _query(tokens) if shows else CommandClass.WRITE


def _outside(tokens: Sequence[Token]) -> list[str]:
    """The bare words that stand in no parentheses."""
    depth, found = 0, []
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0 and token.kind == "name":
            found.append(token.text)
    return found


def _set(tokens: Sequence[Token]) -> CommandClass | None:
    """SET of a known setting of the session; a search path must leave the built-in functions first."""
    words = [word for word in bare_words(tokens[1:]) if word not in ("session", "local")]
    if words[:1] == ["statement"]:
        return None  # MariaDB: the rest is another statement
    if words[:1] == ["search_path"]:
        plain = all(token.kind == "name" or token.text in (",", "=") for token in tokens)
        return CommandClass.READ if plain and "pg_catalog" not in words else None
    one = len(words) <= len(("name", "=", "value")) and not any(token.text in "@(" for token in tokens)
    own = words[:1] == ["names"] or not sqlwords.SESSION_SETTINGS.isdisjoint(words[:1])
    return CommandClass.READ if one and own else CommandClass.WRITE


def _transaction(tokens: Sequence[Token]) -> CommandClass | None:
    """BEGIN, COMMIT and the like; START and STOP of a server's thread, and a prepared transaction, are more."""
    verb, words = _verb(tokens), bare_words(tokens[1:])
    if verb in ("start", "stop") and words[:1] != ["transaction"]:
        return CommandClass.EXECUTE if set(words) & sqlwords.SERVER_THREADS else None
    if "prepared" in words:
        return CommandClass.WRITE
    if verb in ("savepoint", "release") or "to" in words:
        return CommandClass.READ
    known = all(token.text in sqlwords.TRANSACTION_WORDS or token.text == "," for token in tokens[1:])
    return CommandClass.READ if known else None


def _pragma(tokens: Sequence[Token]) -> CommandClass:
    rest = tokens[1:]
    if [token.text for token in rest[1:2]] == ["."]:
        rest = rest[2:]
    name = "".join(bare_words(rest[:1]))
    asks = len(rest) == len("n(x)") and rest[1].text == "("
    if (len(rest) == 1 and name in sqlwords.STATE_PRAGMAS) or (asks and name in sqlwords.READING_PRAGMAS):
        return CommandClass.READ
    alone = len(rest) == 1 and name in sqlwords.READING_PRAGMAS
    return CommandClass.READ if alone else CommandClass.WRITE


def _load(tokens: Sequence[Token]) -> CommandClass | None:
    """LOAD DATA fills a table; LOAD of a library, or of a file of the client, is not read."""
    words = bare_words(tokens)
    return CommandClass.WRITE if words[1:2] == ["data"] and "local" not in words else None


def _install(tokens: Sequence[Token]) -> CommandClass | None:
    return CommandClass.INSTALL if bare_words(tokens[1:2]) in (["plugin"], ["component"], ["soname"]) else None


def _prepare(tokens: Sequence[Token]) -> CommandClass | None:
    return CommandClass.WRITE if bare_words(tokens[1:2]) == ["transaction"] else None


def _use(tokens: Sequence[Token]) -> CommandClass | None:
    return CommandClass.READ if _is_table(tokens[1:], column=False) else None


_READERS: Mapping[str, Callable[[Sequence[Token]], CommandClass | None]] = {
    **dict.fromkeys(("select", "with", "values", "table"), _query),
    **dict.fromkeys(("explain", "describe", "desc"), _explain),
    **dict.fromkeys(("create", "alter"), _create),
    **dict.fromkeys(("install", "uninstall"), _install),
    **dict.fromkeys(sqlwords.TRANSACTION_VERBS, _transaction),
    "show": _show,
    "copy": _copy,
    "set": _set,
    "pragma": _pragma,
    "load": _load,
    "prepare": _prepare,
    "use": _use,
}
