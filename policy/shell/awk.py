"""What an awk program does, read by a strict lexer. Runs nothing; what it cannot read it does not guess.

An awk program can run others (`system`, a pipe) and write files (`print >`); everything else in the language only
computes and prints.
"""

from __future__ import annotations

import re

from policy.classes import CommandClass

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r]+|\\\n|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<operator>\|\||&&|>>|\+\+|--|[<>=!+*%^-]=|\*\*=?|[{}()\[\];,<>=!~?:+*%^$-])
      | (?P<slash>/)""",
    re.VERBOSE | re.DOTALL,
)
# A slash inside brackets ends the expression in one awk and not in another, so it has no place here.
_REGEX = re.compile(r"/(?:[^/\\\n\[]|\\[^\n]|\[\^?\]?(?:[^]/\\\n]|\\[^\n])*\])+/")
_FUNCTIONS = frozenset(
    [
        "atan2",
        "cos",
        "exp",
        "int",
        "log",
        "rand",
        "sin",
        "sqrt",
        "srand",
        "gensub",
        "gsub",
        "index",
        "length",
        "match",
        "split",
        "sprintf",
        "strftime",
        "strtonum",
        "sub",
        "substr",
        "systime",
        "mktime",
        "tolower",
        "toupper",
        "asort",
        "asorti",
        "patsplit",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
        "compl",
        "close",
        "fflush",
        "isarray",
        "typeof",
    ]
)
_KEYWORDS = frozenset(
    [
        "BEGIN",
        "END",
        "BEGINFILE",
        "ENDFILE",
        "if",
        "else",
        "while",
        "for",
        "do",
        "break",
        "continue",
        "return",
        "next",
        "nextfile",
        "exit",
        "delete",
        "in",
        "print",
        "printf",
        "switch",
        "case",
        "default",
        "function",
        "func",
    ]
)
_STREAMS = frozenset({'"/dev/stdout"', '"/dev/stderr"', '"/dev/null"'})
_VALUE_ENDS = frozenset({"string", "number", "name", "]", "$"})


def awk_class(program: str) -> CommandClass | None:
    """READ if the program only prints, WRITE if it writes a file, None if it may run a command or cannot be read."""
    if "/inet" in program:
        return None  # gawk opens a network connection by this file name
    tokens = _tokens(program)
    return _judge(tokens) if tokens is not None else None


def _tokens(program: str) -> list[tuple[str, str]] | None:
    """(kind, text) of each token; None where the text is not awk as this lexer knows it."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(program):
        match = _TOKEN.match(program, at)
        if match is None:
            return None  # a lone `|` or `&` among them: pipes run commands
        kind, text = str(match.lastgroup), match[0]
        if kind == "slash":
            regex = _slash(tokens, program, at)
            if regex is None:
                return None
            kind, text = ("string", regex) if regex else ("operator", "/")
        if kind == "name" and text in _KEYWORDS:
            kind = "keyword"
        if kind != "blank":
            tokens.append((kind, text))
        at += len(text)
    return tokens


def _slash(tokens: list[tuple[str, str]], program: str, at: int) -> str | None:
    """The regular expression that begins here, "" for a division, None where only a full parser could tell."""
    kind, text = tokens[-1] if tokens else ("newline", "\n")
    last = text if kind == "operator" else kind
    if last in (")", "++", "--") or text == "getline":
        return "" if "/" not in program[at + 1 :] else None
    if last in _VALUE_ENDS:
        return ""
    match = _REGEX.match(program, at)
    return match[0] if match else None


def _to_stream(rest: list[tuple[str, str]]) -> bool:
    """Whether the target of a redirect is a standard stream and nothing is joined to its name."""
    return bool(rest) and rest[0][1] in _STREAMS and (len(rest) == 1 or rest[1][1] in ("\n", ";", "}"))


def _judge(tokens: list[tuple[str, str]]) -> CommandClass | None:
    found = CommandClass.READ
    own = {tokens[i + 1][1] for i, (_, text) in enumerate(tokens[:-1]) if text in ("function", "func")}
    depth = 0
    printing: int | None = None
    for place, (kind, text) in enumerate(tokens):
        following = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        if kind == "name" and following == "(" and text not in _FUNCTIONS | own and text != "getline":
            return None
        if text in ("print", "printf"):
            printing = depth
        elif text in ("(", "["):
            depth += 1
        elif text in (")", "]"):
            depth -= 1
        elif kind == "newline" or text in (";", "{", "}"):
            printing = None
        elif text in (">", ">>") and printing is not None and depth <= printing and not _to_stream(tokens[place + 1 :]):
            found = CommandClass.WRITE
    return found
