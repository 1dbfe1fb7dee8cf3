"""The functions that a statement of SQL calls, held against a list. Cuts no text and knows no verb.

A name before a parenthesis is a function unless the grammar of every server has another place for it: a table with
its columns, an alias, an index.
"""

from __future__ import annotations

from collections.abc import Sequence

from policy.classes import CommandClass
from policy.shell import sqlwords
from policy.shell.sqltokens import Token

_INDEX_METHODS = frozenset({"btree", "hash", "gin", "gist", "brin", "spgist"})
# After these a name with columns is a table, an alias or a query of WITH; no server reads a call there.
_NAMES_FOLLOW = frozenset({"as", "into", "recursive", "with", "copy"})
_OBJECTS_FOLLOW = frozenset({"table", "exists", "references", "key", "index"})
_PAIRS = frozenset(
    {("grouping", "sets"), ("primary", "key"), ("foreign", "key"), ("as", "materialized"), ("not", "materialized")}
)


def bare_words(tokens: Sequence[Token]) -> list[str]:
    """The bare words, in order; "" stands for any other token."""
    return [token.text if token.kind == "name" else "" for token in tokens]


def made_object(tokens: Sequence[Token]) -> str:
    """The kind of thing that CREATE or ALTER is about, "" if its name is no bare word."""
    words = (word for word in bare_words(tokens[1:]) if word not in sqlwords.OBJECT_PREFIXES)
    return next(words, "")


def calls_class(tokens: Sequence[Token]) -> CommandClass | None:
    """The highest class of the functions that a statement calls; None if one of them is not known."""
    found = CommandClass.READ
    for at, token in enumerate(tokens):
        called = at + 1 < len(tokens) and tokens[at + 1].text == "("
        level = _called(tokens, at) if called else _stands(token)
        if level is None:
            return None
        found = max(found, level)
    return found


def _stands(token: Token) -> CommandClass | None:
    """A name that calls nothing; SQLite has pragmas that act when they are read as a table, however it is quoted."""
    name = token.text.strip("'\"`[]").lower()
    acts = name.startswith("pragma_") and name not in sqlwords.READING_FUNCTIONS
    return None if acts else CommandClass.READ


def _called(tokens: Sequence[Token], at: int) -> CommandClass | None:
    kind, _ = tokens[at]
    if kind == "string":
        return None  # SQLite lets a string name a function of FROM
    syntax = at == 0 or kind not in ("name", "quoted") or (kind == "name" and _is_syntax(tokens, at))
    return CommandClass.READ if syntax or _names_a_thing(tokens, at) else _function(tokens, at)


def _function(tokens: Sequence[Token], at: int) -> CommandClass | None:
    name = tokens[at].text
    if at > 1 and tokens[at - 1].text == "." and tokens[at - 2].text != "pg_catalog":
        return None  # a function of a schema is one that somebody has made
    if name in sqlwords.READING_FUNCTIONS:
        return CommandClass.READ
    if name in sqlwords.WRITING_FUNCTIONS:
        return CommandClass.WRITE
    return CommandClass.EXECUTE if name in sqlwords.STOPPING_FUNCTIONS else None


def _is_syntax(tokens: Sequence[Token], at: int) -> bool:
    """Whether a bare name is a word of the language here."""
    name = tokens[at].text
    before = tokens[at - 1] if at else Token("", "")
    if name in sqlwords.RESERVED | sqlwords.TYPES:
        return before.text != "."
    if name in ("over", "filter"):
        return before.text == ")"
    return before.kind == "name" and (before.text, name) in _PAIRS


def _names_a_thing(tokens: Sequence[Token], at: int) -> bool:
    """Whether the name is that of a table, an alias or an index."""
    if at > 1 and tokens[at - 1].text == ".":
        at -= len(("schema", "."))
    before = bare_words(tokens[at - 1 : at])
    if not before or before[0] in _NAMES_FOLLOW:
        return bool(before)
    if tokens[0].text not in ("create", "alter"):
        return False
    index = made_object(tokens) == "index"
    return (
        before[0] in _OBJECTS_FOLLOW
        or (index and before[0] == "on")
        or (index and before[0] == "using" and tokens[at].text in _INDEX_METHODS)
    )
