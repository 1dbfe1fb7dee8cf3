"""Cut SQL text into statements of tokens, the same way whatever the server's settings. Gives no class, runs nothing.

Text that two servers, or one server with two settings, would cut differently is not cut at all: a backslash before a
quote, a comment inside a comment, MySQL's comments that are run.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import NamedTuple


class Dialect(enum.Enum):
    """Whose words and quotes the text is in."""

    POSTGRES = "postgres"
    MYSQL = "mysql"
    SQLITE = "sqlite"


class Token(NamedTuple):
    """A piece of SQL. A bare name is in lower case; a quoted one is as it was written, and is never a keyword."""

    kind: str
    text: str


Statement = list[Token]

_BLANK = r"(?P<blank>[ \t\n\r\f\v]+)"
_BLOCK = r"(?P<block>/\*(?![!+M])(?:(?!\*/|/\*).)*\*/)"
# Whether a backslash escapes the quote behind it depends on the server, so an odd one there is not read.
_BODY = r"(?:[^{0}\\]|\\[^{0}\\]|\\\\)*"
_STRING = f"(?P<string>'{_BODY.format(chr(39))}')"
_QUOTED = f'(?P<quoted>"{_BODY.format(chr(34))}")'
_NUMBER = r"(?P<number>0[xX][0-9a-fA-F]+(?![\w$.])|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w$.]))"
_NAME = r"(?P<name>[A-Za-z_][\w$]*)"
_END = r"(?P<end>;)"
_OPERATOR = r"(?P<operator>(?!/\*)[-+*/<>=~!@#%^&|?.,:()\[\]])"
_DASHES = r"(?P<dashes>--[^\n]*)"
_BACKTICK = r"(?P<ticked>`[^`\\]*`)"


def _pattern(*pieces: str) -> re.Pattern[str]:
    return re.compile("|".join(pieces), re.DOTALL | re.ASCII)


_PATTERNS: Mapping[Dialect, re.Pattern[str]] = {
    Dialect.POSTGRES: _pattern(
        *(_BLANK, _DASHES, _BLOCK, _STRING, _QUOTED),
        r"(?P<dollars>\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$)",
        *(_NUMBER, _NAME, _END, _OPERATOR),
    ),
    Dialect.MYSQL: _pattern(
        *(_BLANK, r"(?P<dashes>--(?=[ \t\n]|\Z)[^\n]*|\#[^\n]*)", _BLOCK, _STRING, _QUOTED, _BACKTICK),
        r"(?P<shown>\\[Gg])",
        *(_NUMBER, _NAME, _END, "(?!--)" + _OPERATOR),
    ),
    Dialect.SQLITE: _pattern(
        *(_BLANK, _DASHES, _BLOCK, _STRING, _QUOTED, _BACKTICK, r"(?P<bracketed>\[[^]\\]*\])"),
        *(_NUMBER, _NAME, _END, _OPERATOR),
    ),
}
# In the older Asian encodings a backslash can be the second half of the character before it.
_SWALLOWS = re.compile(r"[^\x00-\x7f]\\")
_PLAIN = re.compile(r"\w+", re.ASCII)  # any other quoted name keeps its quotes, so that it is no sign of the language
_KINDS: Mapping[str, str] = {"dollars": "string", "ticked": "quoted", "bracketed": "quoted", "shown": "end"}
_SKIPPED = frozenset({"blank", "dashes", "block"})


def statements(text: str, dialect: Dialect) -> list[Statement] | None:
    """The statements of a text, without their comments and ends; None where the text cannot be cut for certain."""
    if _SWALLOWS.search(text):
        return None
    pattern, at = _PATTERNS[dialect], 0
    found: list[Statement] = [[]]
    while at < len(text):
        match = pattern.match(text, at)
        if match is None:
            return None
        at = match.end()
        kind = _KINDS.get(str(match.lastgroup), str(match.lastgroup))
        if kind == "end":
            found.append([])
        elif kind not in _SKIPPED:
            found[-1].append(_token(kind, match[0]))
    return [statement for statement in found if statement]


def _token(kind: str, text: str) -> Token:
    if kind == "name":
        return Token("name", text.lower())
    plain = kind == "quoted" and _PLAIN.fullmatch(text[1:-1])
    return Token(kind, text[1:-1] if plain else text)
