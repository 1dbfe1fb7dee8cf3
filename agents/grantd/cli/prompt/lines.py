"""Lines of a screen as values: pieces of text with a style, broken at the width. Writes to no terminal.

Everything is broken hard and nothing is cut, so no text can push another off the screen. Foreign text arrives as
cells of printable ASCII; the marks around it (gutter, fence, middle dots for spaces) are outside ASCII, so no foreign
text can draw them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from grantd.cli.visible import exact

SPACE_MARK: Final = "\u00b7"
"""Stands for a space among several, or at an end, where it would not be seen."""


class Style(StrEnum):
    """What a piece of text is; the terminal knows the colours."""

    PLAIN = "plain"
    TITLE = "title"
    LABEL = "label"
    DIM = "dim"
    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"
    INSTALL = "install"
    REBOOT = "reboot"
    WARNING = "warning"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line: printable characters only."""

    text: str
    style: Style = Style.PLAIN


Line: TypeAlias = tuple[Span, ...]
Cell: TypeAlias = Span
"""A span that is never broken: one shown character or escape."""


def style_of_class(word: str) -> Style:
    """The style of a class word; an unknown one looks like execute."""
    return Style(word) if word in ("read", "write", "execute", "install", "reboot") else Style.EXECUTE


def cells(text: str, style: Style = Style.PLAIN) -> list[Cell]:
    """Our own ASCII text, breakable anywhere."""
    return [Span(character, style) for character in text]


def foreign(text: str | bytes, style: Style = Style.PLAIN) -> list[Cell]:
    """Text that is not ours: escaped, spaces made visible."""
    raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return mark_spaces([Span(exact(character), style) for character in raw.decode(errors="surrogateescape")])


def mark_spaces(row: Sequence[Cell]) -> list[Cell]:
    """Show spaces that stand together or at an end as middle dots."""
    marked = []
    for at, cell in enumerate(row):
        alone = 0 < at < len(row) - 1 and row[at - 1].text != " " and row[at + 1].text != " "
        marked.append(cell if cell.text != " " or alone else Span(SPACE_MARK, cell.style))
    return marked


def flow(row: Iterable[Cell], width: int, *, first: Span, then: Span) -> list[Line]:
    """Break cells into lines of at most `width` columns; `first` and `then` are the gutters, equally wide."""
    room = width - len(first.text)
    lines: list[Line] = []
    current: list[Span] = []
    used = 0
    for cell in row:
        if used + len(cell.text) > room:
            lines.append((first if not lines else then, *join(current)))
            current, used = [], 0
        current.append(cell)
        used += len(cell.text)
    lines.append((first if not lines else then, *join(current)))
    return lines


def join(row: Iterable[Span]) -> list[Span]:
    """Neighbours of one style as one span."""
    joined: list[Span] = []
    for span in row:
        if joined and joined[-1].style == span.style:
            joined[-1] = Span(joined[-1].text + span.text, span.style)
        else:
            joined.append(span)
    return joined


def text_of(line: Line) -> str:
    """The line without its styles."""
    return "".join(span.text for span in line)
