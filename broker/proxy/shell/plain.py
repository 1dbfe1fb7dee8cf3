"""What a terminal can do, by its TERM; and the canvas for one that can do nothing (TERM=dumb). Pure.

A dumb terminal is sent printable characters, line ends and backspaces, and no escape sequence at all.
"""

from __future__ import annotations

import re
from enum import Enum
from itertools import takewhile
from typing import Final

from broker.proxy.shell.canvas import Canvas, Picture, Row, width_of_row

_COLOURLESS: Final = re.compile(r"vt\d+.*|ansi-m|.*-(?:m|mono)|.*-m-.*")


class Look(Enum):
    """What may be sent to a client's terminal."""

    COLOURED = "coloured"
    ONE_COLOUR = "one colour"
    """Moves the cursor; bold and reverse, no colours."""
    PLAIN = "plain"
    """No escape sequence."""


def look_of(term: str) -> Look:
    """By the client's TERM; without one nothing is known, and nothing is sent that could be read as text."""
    if term in ("", "dumb", "unknown"):
        return Look.PLAIN
    return Look.ONE_COLOUR if _COLOURLESS.fullmatch(term) else Look.COLOURED


def canvas_of(look: Look, *, columns: int, lines: int) -> Canvas:
    """An empty canvas for such a terminal."""
    if look is Look.PLAIN:
        return PlainCanvas(columns=columns, lines=lines)
    return Canvas(columns=columns, lines=lines, colours=look is Look.COLOURED)


class PlainCanvas(Canvas):
    """The one row that the cursor stands in. Another row begins below; what stood above is left there."""

    def draw(self, picture: Picture) -> bytes:
        """As Canvas."""
        row = picture.rows[picture.row]
        out = ""
        if picture.row != self._row:
            out, self._row, self._rows, self._column = "\r\n", picture.row, ((),), 0
        old = self._rows[0]
        same = sum(1 for _ in takewhile(lambda pair: pair[0].text == pair[1].text, zip(old, row, strict=False)))
        out += self._back_to(width_of_row(row[:same]), row) + "".join(cell.text for cell in row[same:])
        left_over = max(0, width_of_row(old) - width_of_row(row))
        out += " " * left_over + "\b" * left_over
        self._rows, self._column = (row,), width_of_row(row)
        return (out + self._back_to(picture.column, row)).encode("utf-8", "backslashreplace")

    def _back_to(self, column: int, row: Row) -> str:
        """Left by backspaces; right by writing again what stands there."""
        if column <= self._column:
            out = "\b" * (self._column - column)
        else:
            out, at = "", 0
            for cell in row:
                out += cell.text if self._column <= at < column else ""
                at += cell.width
        self._column = column
        return out

    def leave(self) -> bytes:
        """As Canvas."""
        self.forget()
        return b"\r\n"

    erase = leave
    """What was written stays: there is nothing to take it away with."""
    clear = leave

    def resize(self, *, columns: int, lines: int) -> bytes:
        """As Canvas."""
        super().resize(columns=columns, lines=lines)
        return b"\r\n"
