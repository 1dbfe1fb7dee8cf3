"""What a word of the shell is once quotes and escapes are gone, and what stays open until the target expands it.

Compares nothing and decides nothing; a word that cannot be known is said to be open, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tree_sitter import Node

_EXPANSIONS = frozenset(
    {"simple_expansion", "expansion", "command_substitution", "arithmetic_expansion", "process_substitution"}
)
_ANSI = re.compile(
    r"\\(?:([abeEfnrtv\\'\"?])|x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8}))"
)
_ANSI_LETTERS = {
    "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "?": "?",
}  # fmt: skip
_LAST_ASCII = 0x7F
_IN_QUOTES = re.compile(r'\\([\\"$`])')
_PLAIN = re.compile(rb"[A-Za-z0-9_./:,=+@%-]+")
_MARK = "\ufdd0"  # stands for what the target fills in; a noncharacter, so the byte gate lets none through


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word of a command.

    `fixed`: `text` is exactly what the program will see. Otherwise `head` and `tail` are the parts known for certain,
    `single` says that it stays one word, and `splits` that its value may turn into several words or none.
    `text` of an open word is its source, for display only.
    """

    text: str
    fixed: bool
    head: str
    tail: str
    single: bool
    splits: bool
    span: tuple[int, int]
    tame: bool = False
    """Whether every word it becomes, if any, is of hexadecimal digits."""

    @property
    def operand_like(self) -> bool:
        """Whether it is certain that no word it becomes begins an option."""
        if self.fixed:
            return not self.text.startswith("-")
        return bool(self.head) and not self.head.startswith("-") and not self.splits


def fixed(text: str, span: tuple[int, int]) -> Word:
    """A word whose value is known."""
    return Word(text=text, fixed=True, head=text, tail=text, single=True, splits=False, span=span)


def unknown(source: str, span: tuple[int, int], *, head: str, single: bool) -> Word:
    """A word of which only `head` is known."""
    return Word(text=source, fixed=False, head=head, tail="", single=single, splits=not single, span=span)


def with_placeholder(word: Word, placeholder: str) -> Word:
    """The word as find -exec or xargs -I fill it in: each `placeholder` becomes a value nobody knows yet."""
    if not word.fixed or placeholder not in word.text:
        return word
    head, _, rest = word.text.partition(placeholder)
    tail = rest.rpartition(placeholder)[2]
    return Word(text=word.text, fixed=False, head=head, tail=tail, single=True, splits=False, span=word.span)


def read_word(node: Node, data: bytes, value_of: Callable[[str], str | None] = lambda _: None) -> Word:
    """Dequote a node of the tree. `value_of` knows what a variable holds here, where that is certain."""
    source = data[node.start_byte : node.end_byte]
    if _PLAIN.fullmatch(source):  # most words: nothing in it is quoted or expands
        return fixed(source.decode(), (node.start_byte, node.end_byte))
    pieces = _Pieces(value_of=value_of)
    _collect(node, data, pieces)
    return pieces.word(source.decode(), (node.start_byte, node.end_byte))


@dataclass(slots=True)
class _Pieces:
    """A word while it is put together. `value` holds _MARK for each open piece, `bare` the unquoted skeleton."""

    value_of: Callable[[str], str | None]
    value: str = ""
    bare: str = ""
    open: bool = False
    splits: bool = False

    def literal(self, text: str, *, bare: str = "") -> None:
        self.value += text
        self.bare += bare or "q" * len(text)

    def expands(self, node: Node, data: bytes, *, quoted: bool, splits: bool) -> None:
        """What an expansion puts here: a hole, unless it is a variable whose value is known and stays one word."""
        name = _variable(node)
        value = None if name is None else self.value_of(data[name.start_byte : name.end_byte].decode())
        if value is not None and (quoted or _PLAIN.fullmatch(value.encode())):
            self.literal(value)
        else:
            self.hole(splits=splits)

    def hole(self, *, splits: bool) -> None:
        self.value += _MARK
        self.bare += "q"
        self.open = True
        self.splits = self.splits or splits

    def word(self, source: str, span: tuple[int, int]) -> Word:
        braces = _expands_braces(self.bare)
        tilde = self.bare.startswith("~")
        if not (self.open or braces or tilde or _globs(self.bare)):
            return fixed(self.value, span)
        head, tail = self._known_ends(tilde=tilde)
        single = not self.splits and not braces and not _globs(self.bare)
        return Word(text=source, fixed=False, head=head, tail=tail, single=single, splits=self.splits, span=span)

    def _known_ends(self, *, tilde: bool) -> tuple[str, str]:
        places = list(enumerate(zip(self.value, self.bare, strict=True)))
        stops = [i for i, (char, bare) in places if char == _MARK or bare in "*?[{"]
        ends = [i for i, (char, bare) in places if char == _MARK or bare in "*?]}"]
        head = "~" if tilde else self.value[: stops[0]]
        return head, self.value[ends[-1] + 1 :] if ends else self.value[1:]


def _variable(node: Node) -> Node | None:
    """The name in `$name` and `${name}`, and in nothing else."""
    kinds = [child.type for child in node.children]
    if node.type == "simple_expansion" or kinds == ["${", "variable_name", "}"]:
        return next((child for child in node.children if child.type == "variable_name"), None)
    return None


def _globs(bare: str) -> bool:
    return "*" in bare or "?" in bare or 0 <= bare.find("[") < bare.rfind("]")


def _expands_braces(bare: str) -> bool:
    """Whether braces may multiply the word; `{}` and a lone brace do not."""
    inside = bare[max(bare.find("{"), 0) : bare.rfind("}") + 1]
    return inside.startswith("{") and ("," in inside or ".." in inside)


def _collect(node: Node, data: bytes, pieces: _Pieces) -> None:
    kind = node.type
    if kind == "string":
        _string(node, data, pieces)
    elif kind == "raw_string":
        pieces.literal(data[node.start_byte + 1 : node.end_byte - 1].decode())
    elif kind == "ansi_c_string":
        _ansi(data[node.start_byte + 2 : node.end_byte - 1].decode(), pieces)
    elif kind in _EXPANSIONS:
        if kind == "process_substitution":
            pieces.literal("/dev/fd/")
        pieces.expands(node, data, quoted=False, splits=kind != "process_substitution")
    elif kind in ("concatenation", "brace_expression", "command_name"):
        for child in node.children:
            _collect(child, data, pieces)
    else:
        _unquoted(data[node.start_byte : node.end_byte].decode(), pieces)


def _unquoted(text: str, pieces: _Pieces) -> None:
    if "\\" not in text:
        pieces.literal(text, bare=text)
        return
    index = 0
    while index < len(text):
        if text[index] == "\\" and index + 1 < len(text):
            pieces.literal(text[index + 1])
            index += 2
        else:
            pieces.literal(text[index], bare=text[index])
            index += 1


def _string(node: Node, data: bytes, pieces: _Pieces) -> None:
    r"""Read a double-quoted string, where only `\\`, `"`, `$` and a backtick can be escaped.

    White space before a `$` belongs to the text, though the parser counts it to the expansion.
    """
    position = node.start_byte + 1
    for child in node.children:
        if child.type in _EXPANSIONS:
            lead = data[child.start_byte : child.end_byte]
            start = child.start_byte + len(lead) - len(lead.lstrip())
            _in_quotes(data[position:start].decode(), pieces)
            several = lead.strip() == b"$@" or (child.type == "expansion" and b"@" in lead)
            pieces.expands(child, data, quoted=True, splits=several)
            position = child.end_byte
    _in_quotes(data[position : node.end_byte - 1].decode(), pieces)


def _in_quotes(text: str, pieces: _Pieces) -> None:
    pieces.literal(_IN_QUOTES.sub(r"\1", text) if "\\" in text else text)


def _ansi(text: str, pieces: _Pieces) -> None:
    """Decode `$'...'`; an escape outside the list (control letters, say) leaves the word open."""
    rest = _ANSI.sub("", text)
    decoded = _ANSI.sub(_ansi_escape, text)
    if "\\" in rest or "\0" in decoded:
        pieces.hole(splits=False)
    else:
        pieces.literal(decoded)


def _ansi_escape(match: re.Match[str]) -> str:
    letter, *numbers = match.groups()
    if letter:
        return _ANSI_LETTERS[letter]
    octal = match.group(3)
    number = int(octal, 8) & 0xFF if octal else int(next(n for n in numbers if n), 16)
    return chr(number) if number <= _LAST_ASCII else "\0"  # NUL: not decoded here, the caller leaves the word open
