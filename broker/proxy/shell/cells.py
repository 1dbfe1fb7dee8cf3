"""Characters as a terminal shows them: how wide each is, and what stands for those that a terminal hides.

Pure. What a person edits is shown whole: nothing is stripped, nothing looks like something else (F38).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

ODD: Final = "7"
"""SGR of a character that is shown escaped: reverse video."""
_BYTE_ESCAPES: Final = range(0xDC80, 0xDD00)  # how surrogateescape carries a byte that is not UTF-8
_MARKS: Final = frozenset({"Mn", "Me"})


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one place: a character with its combining marks, or an escape; `style` is an SGR parameter."""

    text: str
    width: int
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Styled:
    """A piece of text of the gateway's own, in one style."""

    text: str
    style: str = ""


@lru_cache(maxsize=4_096)
def width_of(char: str) -> int:
    """Columns that a printable character takes: 0 for a combining mark, 2 for a wide one, else 1."""
    if unicodedata.category(char) in _MARKS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def escaped(char: str) -> str:
    """What stands for a character that a terminal would hide or obey."""
    code = ord(char)
    if char == "\t":
        return "^I"
    if code in _BYTE_ESCAPES:
        return f"<{code - 0xDC00:02X}>"
    return f"<U+{code:04X}>"


@lru_cache(maxsize=4_096)
def _plain(char: str, style: str) -> Cell:
    """One object a character, so that rows that did not change are told apart at a glance."""
    return Cell(char, 1, style)


def cells_of(text: str, style: str = "") -> Iterator[Cell]:
    """The cells of a text without line ends; a mark joins the cell before it, one without a base is shown escaped."""
    if text.isascii() and text.isprintable():
        yield from (_plain(char, style) for char in text)
        return
    for cluster in clusters(text):
        base = cluster[0]
        if not base.isprintable() or width_of(base) == 0:
            for char in cluster:
                yield from (Cell(part, 1, ODD) for part in escaped(char))
        else:
            yield Cell(cluster, width_of(base), style)


def clusters(text: str) -> Iterator[str]:
    """The text in pieces that the cursor steps over: a character and the marks that combine with it."""
    piece = ""
    for char in text:
        if piece and char.isprintable() and width_of(char) == 0 and piece[0].isprintable():
            piece += char
            continue
        if piece:
            yield piece
        piece = char
    if piece:
        yield piece


def width(text: str) -> int:
    """Columns of a text without line ends."""
    return sum(cell.width for cell in cells_of(text))
