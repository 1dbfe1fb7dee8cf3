"""The cells of a screen and what moves, erases and scrolls them. Knows no sequence, no colour and no terminal.

A style is the parameters of one SGR sequence, such as "1;31"; the plain one is "".
"""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple

SPACE: Final = " "
_TAB = 8
_WIDE: Final = ("W", "F")
_JOINING: Final = ("Mn", "Me")


class Cell(NamedTuple):
    """A character with its style. The right half of a wide character has no text."""

    text: str
    style: str


BLANK: Final = Cell(SPACE, "")


def width_of(text: str) -> int:
    """Columns that a character takes: 0 where it joins the one before."""
    if not text or unicodedata.category(text[0]) in _JOINING:
        return 0
    return 2 if unicodedata.east_asian_width(text[0]) in _WIDE else 1


class Grid:
    """A screen of fixed size: rows of cells, a cursor, scroll margins. Whatever it is told, the cursor stays inside."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [[BLANK] * columns for _ in range(rows)]
        self.x = self.y = 0
        self.wrap = True
        self.top, self.bottom = 0, rows - 1
        self._pending = False
        """The last column was written: the next character begins the next line."""

    def resized(self, columns: int, rows: int) -> Grid:
        """A grid of another size with as much of this one as fits; the lines around the cursor stay."""
        made = Grid(columns, rows)
        skipped = max(0, self.y - rows + 1)
        for number, line in enumerate(self.cells[skipped : skipped + rows]):
            kept = line[:columns]
            made.cells[number][: len(kept)] = kept
        made.x, made.y = min(self.x, columns - 1), self.y - skipped
        made.wrap = self.wrap
        return made

    # ---- writing
    def write(self, text: str, style: str) -> None:
        """Printable characters at the cursor."""
        if text.isascii():
            self._write_plain(text, style)
            return
        for char in text:
            if width := width_of(char):
                self._put(char, style, min(width, self.columns))
            else:
                self._combine(char)

    def _write_plain(self, text: str, style: str) -> None:
        """As `write`, a line at a time: none of these is wide."""
        while text:
            if self._pending and self.wrap:
                self.x = 0
                self.line_feed()
            piece = text[: self.columns - self.x]
            self.cells[self.y][self.x : self.x + len(piece)] = [Cell(char, style) for char in piece]
            self._pending = self.x + len(piece) == self.columns
            self.x = min(self.x + len(piece), self.columns - 1)
            # without wrapping, what does not fit is written over the last column
            text = text[len(piece) :] if self.wrap else text[len(piece) :][-1:]

    def _combine(self, char: str) -> None:
        line, x = self.cells[self.y], self.x if self._pending else max(0, self.x - 1)
        if not line[x].text and x:
            x -= 1
        line[x] = Cell(line[x].text[:8] + char, line[x].style)  # a heap of accents on one letter is cut

    def _put(self, char: str, style: str, width: int) -> None:
        if self._pending or self.x + width > self.columns:
            if self.wrap:
                self.x = 0
                self.line_feed()
            self.x = min(self.x, self.columns - width)
        line = self.cells[self.y]
        line[self.x : self.x + width] = [Cell(char, style), Cell("", style)][:width]
        self._pending = self.x + width >= self.columns
        self.x = min(self.x + width, self.columns - 1)

    # ---- the cursor
    def move(self, x: int, y: int) -> None:
        """To a place, counted from 0."""
        self.x, self.y = min(max(x, 0), self.columns - 1), min(max(y, 0), self.rows - 1)
        self._pending = False

    def tab(self) -> None:
        """To the next eighth column."""
        self.move((self.x // _TAB + 1) * _TAB, self.y)

    def line_feed(self) -> None:
        """One line down, scrolling at the margin; the column stays."""
        self._pending = False
        if self.y == self.bottom:
            self.scroll_up(1)
        else:
            self.y = min(self.y + 1, self.rows - 1)

    def reverse_feed(self) -> None:
        """One line up, scrolling at the margin."""
        self._pending = False
        if self.y == self.top:
            self.scroll_down(1)
        else:
            self.y = max(self.y - 1, 0)

    def set_margins(self, top: int, bottom: int) -> None:
        """Rows that scroll, counted from 0; what makes no sense is the whole screen."""
        if not 0 <= top < bottom < self.rows:
            top, bottom = 0, self.rows - 1
        self.top, self.bottom = top, bottom
        self.move(0, 0)

    # ---- whole lines
    def scroll_up(self, count: int) -> None:
        """Lines leave at the top margin."""
        self._shift(self.top, count)

    def scroll_down(self, count: int) -> None:
        """Lines leave at the bottom margin."""
        self._unshift(self.top, count)

    def insert_lines(self, count: int) -> None:
        """At the cursor, within the margins."""
        if self.top <= self.y <= self.bottom:
            self._unshift(self.y, count)

    def delete_lines(self, count: int) -> None:
        """At the cursor, within the margins."""
        if self.top <= self.y <= self.bottom:
            self._shift(self.y, count)

    def _shift(self, top: int, count: int) -> None:
        count = min(count, self.bottom - top + 1)
        self.cells[top : self.bottom + 1] = self.cells[top + count : self.bottom + 1] + self._blank_lines(count)

    def _unshift(self, top: int, count: int) -> None:
        count = min(count, self.bottom - top + 1)
        self.cells[top : self.bottom + 1] = self._blank_lines(count) + self.cells[top : self.bottom + 1 - count]

    def _blank_lines(self, count: int) -> list[list[Cell]]:
        return [[BLANK] * self.columns for _ in range(count)]

    # ---- within a line
    def insert(self, count: int, style: str) -> None:
        """Blanks at the cursor; what is pushed out is gone."""
        line = self.cells[self.y]
        line[self.x : self.x] = [Cell(SPACE, style)] * min(count, self.columns)
        del line[self.columns :]

    def delete(self, count: int, style: str) -> None:
        """Characters at the cursor; blanks come in from the right."""
        line = self.cells[self.y]
        del line[self.x : self.x + count]
        line += [Cell(SPACE, style)] * (self.columns - len(line))

    def erase(self, y: int, first: int, last: int, style: str) -> None:
        """Blanks from column `first` up to `last`, both inside, on row y."""
        last = min(last, self.columns - 1)
        self.cells[y][first : last + 1] = [Cell(SPACE, style)] * max(0, last + 1 - first)
