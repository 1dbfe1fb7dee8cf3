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
# Inside brackets another one may only begin a whole class: gawk counts them, and others do not.
_REGEX = re.compile(r"/(?:[^/\\\n\[]|\\[^\n]|\[\^?\]?(?:\[:[a-z]+:\]|[^][/\\\n]|\\[^\n])*\])+/")
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
_VALUE_ENDS = frozenset({"string", "number", "name", "]"})
# After these the same slash divides in one awk and begins an expression in another.
_UNSETTLED = frozenset({")", "++", "--", "$"})
_JOINS = frozenset({",", "&&", "||", "?", ":"})  # a newline after one of these goes on
_ENDS = frozenset({"", "\n", ";", "}", ")", "{", "&&", "||"})


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
    if last in _UNSETTLED or text in _FUNCTIONS or text == "getline":
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
    texts = [*(text for _, text in tokens), "", ""]
    own = {texts[i + 1] for i, text in enumerate(texts[:-1]) if text in ("function", "func")} - {"system"}
    depth = 0
    printing: int | None = None
    for place, (kind, text) in enumerate(tokens):
        if kind == "name" and not _name_only_computes(texts, place, own):
            return None
        if text in ("print", "printf"):
            printing = depth
        elif text in ("(", "["):
            depth += 1
        elif text in (")", "]"):
            depth -= 1
        elif (kind == "newline" and texts[place - 1] not in _JOINS) or text in (";", "{", "}"):
            printing = None
        elif text in (">", ">>") and printing is not None and depth <= printing and not _to_stream(tokens[place + 1 :]):
            found = CommandClass.WRITE
    return found


def _name_only_computes(texts: list[str], place: int, own: set[str]) -> bool:
    """Whether a name is a variable, a known function, or an input whose file the text names."""
    name, following = texts[place], texts[place + 1]
    if name == "getline":
        return _reads_a_named_file(texts, place + 1)
    if name == "ARGV":
        return _is_compared(texts, place)
    if name in ("ARGC", "SYMTAB"):
        return False  # what is put there becomes an input, which gawk may open over the network
    return following != "(" or name in _FUNCTIONS | own


def _is_compared(texts: list[str], place: int) -> bool:
    """`FILENAME == ARGV[1]`, to tell the inputs apart."""
    left, right = texts[place - 1] if place else "", texts[place + 4 : place + 5]
    indexed = texts[place + 1] == "[" and texts[place + 2].isdigit() and texts[place + 3] == "]"
    return indexed and (right == ["=="] or (left == "==" and right != [] and right[0] in _ENDS))


def _reads_a_named_file(texts: list[str], place: int) -> bool:
    """Whether `getline` reads the input at hand, or a file that one string names in full."""
    if texts[place] == "$":
        place += 1
    if re.fullmatch(r"\w+", texts[place]):
        place += 1
    if texts[place] == "[":
        place = texts.index("]", place) + 1 if "]" in texts[place:] else place
    if texts[place] != "<":
        return texts[place] in _ENDS | {">", "==", "!=", ">="}
    return texts[place + 1].startswith('"') and texts[place + 2] in _ENDS
