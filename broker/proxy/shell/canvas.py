"""The rows that the editor stands in, drawn with as few bytes as show the change. Pure: cells in, bytes out.

Rows are laid out here and never left to the terminal's own wrapping, so that one picture means one thing at any width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from broker.proxy.shell.cells import Cell

Row = tuple[Cell, ...]
_COLOURLESS: Final = frozenset({"", "1", "7"})
_SMALLEST: Final = 2
"""Columns: a wide character must fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Rows, and where the cursor stands in them."""

    rows: tuple[Row, ...]
    row: int
    column: int


def laid_out(rows: Iterable[Sequence[Cell]], *, at: tuple[int, int], columns: int) -> Picture:
    """Rows of any length in rows of the terminal's; `at` is the cursor's row and the index of the cell it stands on."""
    columns = max(columns, _SMALLEST)
    out: list[Row] = []
    place = (0, 0)
    for number, cells in enumerate(rows):
        row: list[Cell] = []
        used = 0
        for index, cell in enumerate([*cells, Cell("", 0)]):
            if used + max(cell.width, 1 if (number, index) == at else 0) > columns:
                out.append(tuple(row))
                row, used = [], 0
            if (number, index) == at:
                place = (len(out), used)
            if cell.width:
                row.append(cell)
                used += cell.width
        out.append(tuple(row))
    return Picture(rows=tuple(out), row=place[0], column=place[1])


class Canvas:
    """What a terminal shows of the editor, and the bytes that turn it into something else.

    Args:
        colours: without, what would be coloured is written as it is; bold and reverse stay.
    """

    def __init__(self, *, columns: int, lines: int, colours: bool = True) -> None:
        self._colours = colours
        self._columns, self._lines = max(columns, _SMALLEST), max(lines, 1)
        self._rows: tuple[Row, ...] = ((),)
        self._row = self._column = 0

    @property
    def columns(self) -> int:
        """Of the terminal."""
        return self._columns

    @property
    def lines(self) -> int:
        """Of the terminal."""
        return self._lines

    def draw(self, picture: Picture) -> bytes:
        """From what is shown to `picture`; one that is taller than the terminal is shown around its cursor."""
        top = max(0, picture.row - self._lines + 1)
        rows = picture.rows[top : top + self._lines]
        out: list[str] = []
        for number, row in enumerate(rows):
            out += self._row_drawn(number, row)
        if len(rows) < len(self._rows):
            out += [self._to(len(rows), 0), "\x1b[J"]
        self._rows = rows
        out.append(self._to(picture.row - top, picture.column))
        return "".join(out).encode("utf-8", "backslashreplace")

    def leave(self) -> bytes:
        """Puts the cursor below what is shown, which stays; the next picture begins there."""
        out = self._to(len(self._rows) - 1, 0) + "\r\n"
        self.forget()
        return out.encode()

    def erase(self) -> bytes:
        """Takes away what is shown; the next picture begins where it began."""
        out = self._to(0, 0) + "\r\x1b[J"
        self.forget()
        return out.encode()

    def clear(self) -> bytes:
        """An empty terminal; the next picture begins at its top."""
        self.forget()
        return b"\x1b[H\x1b[2J"

    def forget(self) -> None:
        """Something else wrote: the cursor stands at the start of an empty row."""
        self._rows, self._row, self._column = ((),), 0, 0

    def resize(self, *, columns: int, lines: int) -> bytes:
        """Another size: takes away what is shown, as a terminal that wraps its rows anew has it now."""
        columns, lines = max(columns, _SMALLEST), max(lines, 1)
        above = (
            sum(-(-max(width_of_row(row), 1) // columns) for row in self._rows[: self._row]) + self._column // columns
        )
        self._columns, self._lines = columns, lines
        self.forget()
        return (f"\x1b[{min(above, lines - 1)}A" if min(above, lines - 1) else "").encode() + b"\r\x1b[J"

    def _row_drawn(self, number: int, row: Row) -> list[str]:
        old = self._rows[number] if number < len(self._rows) else None
        if old is None:
            return [self._down_to_new(), *self._written(row)]
        if old == row:
            return []
        same = 0
        while same < min(len(old), len(row)) and (old[same] is row[same] or old[same] == row[same]):
            same += 1
        out = [self._to(number, width_of_row(row[:same])), *self._written(row[same:])]
        if width_of_row(row) < width_of_row(old):
            out.append("\x1b[K")
        return out

    def _down_to_new(self) -> str:
        """To the start of a row below the last one; the terminal scrolls where there is none."""
        out = self._to(len(self._rows) - 1, 0) + "\r\n"
        self._rows = (*self._rows, ())
        self._row, self._column = len(self._rows) - 1, 0
        return out

    def _written(self, cells: Sequence[Cell]) -> list[str]:
        out: list[str] = []
        style = ""
        for cell in cells:
            wanted = cell.style if self._colours or cell.style in _COLOURLESS else ""
            if wanted != style:
                out.append(f"\x1b[0;{wanted}m" if wanted else "\x1b[0m")
                style = wanted
            out.append(cell.text)
        if style:
            out.append("\x1b[0m")
        self._column += width_of_row(cells)
        return out

    def _to(self, row: int, column: int) -> str:
        """Moves within what is shown. Behind a full row the terminal's own column is not to be counted from."""
        out = ""
        if row != self._row:
            out = f"\x1b[{abs(row - self._row)}{'A' if row < self._row else 'B'}"
        if column != self._column:
            step = column - self._column
            if column == 0:
                out += "\r"
            elif self._column >= self._columns:
                out += f"\r\x1b[{column}C"
            else:
                out += "\b" if step == -1 else f"\x1b[{abs(step)}{'D' if step < 0 else 'C'}"
        self._row, self._column = row, column
        return out


def width_of_row(cells: Iterable[Cell]) -> int:
    """Columns of a row."""
    return sum(cell.width for cell in cells)
