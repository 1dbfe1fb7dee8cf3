r"""The byte gate (G0) and line continuation (G2): what may reach the parser at all.

Never repairs: the only change it makes is the join of `\\<newline>` that bash itself makes first, and it keeps the
offsets of the bytes as they were given. Everything else is passed on untouched or refused.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from dataclasses import dataclass

MAX_COMMAND_BYTES = 16 * 1024
MAX_BRACKETS = 1_024
"""Round ones, of both kinds, wherever they stand: text full of them costs the parser up to 2 s before it gives up."""

_CONTINUATION = "\\\n"
_HIDDEN = {
    "Cc": "a control character",
    "Cf": "an invisible formatting character",
    "Cs": "half of a surrogate pair",
    "Co": "a private-use character",
    "Cn": "an unassigned character",
    "Zl": "a Unicode line separator",
    "Zp": "a Unicode paragraph separator",
    "Zs": "a space that is not U+0020",
}


class GateError(ValueError):
    """The bytes are not a command line; `rule` names the guard, the message is for people."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A command line as bash will see it. `data` has its continuations joined; `cuts` maps offsets back."""

    data: bytes
    cuts: tuple[int, ...]

    def origin(self, offset: int) -> int:
        """The offset in the bytes as given, for an offset into `data`."""
        return offset + len(_CONTINUATION) * bisect_right(self.cuts, offset)


def admit(command: bytes) -> Source:
    """Let a command line through to the parser.

    Raises:
        GateError: it is empty, longer than MAX_COMMAND_BYTES, has over MAX_BRACKETS, is not UTF-8, holds a character
            that a terminal hides or a shell drops, or joins lines where the join cannot be told for certain.
    """
    if len(command) > MAX_COMMAND_BYTES:
        raise GateError("gate.length", f"{len(command)} bytes; the limit is {MAX_COMMAND_BYTES}")
    try:
        text = command.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise GateError("gate.utf8", f"not UTF-8 at byte {error.start}") from None
    if text.count("(") + text.count(")") > MAX_BRACKETS:
        raise GateError("gate.brackets", f"more than {MAX_BRACKETS} round brackets")
    if not text.strip(" \t\n"):
        raise GateError("gate.empty", "nothing to run")
    if not (text.isascii() and text.isprintable()):
        _check_characters(text)
    if _CONTINUATION not in text:
        return Source(data=command, cuts=())
    return _join(text)


def _check_characters(text: str) -> None:
    for index, char in enumerate(text):
        if char in "\t\n" or " " <= char <= "~":
            continue
        name = _HIDDEN.get(unicodedata.category(char))
        if name:
            raise GateError("gate.character", f"{name} (U+{ord(char):04X}) at character {index}")


def _join(text: str) -> Source:
    if "#" in text or "<<" in text:
        raise GateError(
            "gate.continuation", "a joined line in a text with '#' or '<<' is not read the same by every shell"
        )
    out: list[str] = []
    cuts: list[int] = []
    size = index = 0
    quote = ""
    while index < len(text):
        step = token(text, index, quote)
        if step == _CONTINUATION and quote in ("", '"'):
            if quote and any(mark in text for mark in ("$(", "${", "`")):
                raise GateError("gate.continuation", "a line joined inside a double-quoted substitution")
            cuts.append(size)
        else:
            if step in ("(", ")") and out[-1:] == [step] and size in cuts[-1:]:
                raise GateError(
                    "gate.continuation", f"'{step * 2}' over a joined line, which not every shell reads as one"
                )
            quote = next_quote(step, quote)
            out.append(step)
            size += len(step.encode())
        index += len(step)
    return Source(data="".join(out).encode(), cuts=tuple(cuts))


def token(text: str, index: int, quote: str) -> str:
    """The characters that bash reads as one here: an escape pair, an opening `$'`, or a single character."""
    pair = text[index : index + 2]
    if pair[0] == "\\" and quote != "'":
        return pair
    if pair == "$'" and not quote:
        return pair
    return pair[0]


def next_quote(step: str, quote: str) -> str:
    """The quoting after `step`: "" outside, or the character that opened it ("$'" for an ANSI-C string)."""
    if not quote:
        return step if step in ("'", '"', "$'") else ""
    closing = "'" if quote == "$'" else quote
    return "" if step == closing else quote
