"""What a terminal would show of a target's output, as lines of cells; nothing of the target reaches a real terminal.

Reads only what `TerminalFilter` lets through, which is a small language of whole sequences. Never answers, never asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from grantd.cli.drawing import TerminalFilter
from grantd.cli.playing.grid import Cell, Grid
from grantd.cli.playing.style import Style

_TOKEN: Final = re.compile(
    r"(?P<text>[^\x00-\x1f\x1b]+)|\x1b\[(?P<private>\??)(?P<numbers>[\d;:]*)(?P<final>[@-~])"
    r"|\x1b(?P<single>[78DEM])|\x1b(?P<side>[()])(?P<set>[0AB])|(?P<control>[\b\t\n\v\f\r\x0e\x0f])"
)
# DEC's line drawing, by the characters that stand for it
_LINES: Final = str.maketrans("`afgjklmnopqrstuvwxyz{|}~", "◆▒°±┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")
_ALTERNATE: Final = frozenset({"47", "1047", "1049"})
_MAX = 1000
MAX_SIDE = 500
"""Larger screens are cut: no terminal shows them."""


class Emulator:
    """A terminal of one size without its outside."""

    def __init__(self, columns: int, rows: int) -> None:
        self._filter = TerminalFilter()
        self.style = Style()
        self._main = self.grid = Grid(_side(columns), _side(rows))
        self._saved = (0, 0)
        self._sets = {"(": "B", ")": "B"}
        self._shifted = False
        self.cursor_shown = True
        self._last = ""

    @property
    def held_back(self) -> int:
        """Control sequences of the target that were not obeyed."""
        return self._filter.held_back

    def feed(self, data: bytes) -> None:
        """The next output of the target, cut anywhere."""
        for token in _TOKEN.finditer(self._filter.feed(data)):
            self._obey(token)

    def resize(self, columns: int, rows: int) -> None:
        """The recorded window got another size."""
        both = self.grid is self._main
        self._main = self._main.resized(_side(columns), _side(rows))
        self.grid = self._main if both else self.grid.resized(_side(columns), _side(rows))

    def lines(self) -> list[list[Cell]]:
        """The rows, top to bottom."""
        return self.grid.cells

    def _obey(self, token: re.Match[str]) -> None:
        if text := token["text"]:
            self._last = text[-1]
            self.grid.write(text.translate(_LINES) if self._draws_lines() else text, self.style.text)
        elif control := token["control"]:
            self._control(control)
        elif single := token["single"]:
            self._single(single)
        elif side := token["side"]:
            self._sets[side] = token["set"]
        elif token["private"]:
            self._modes(token["numbers"].split(";"), on=token["final"] == "h")
        else:
            self._sequence(token["final"], token["numbers"])

    def _draws_lines(self) -> bool:
        return self._sets[")" if self._shifted else "("] == "0"

    def _control(self, control: str) -> None:
        match control:
            case "\r":
                self.grid.move(0, self.grid.y)
            case "\b":
                self.grid.move(self.grid.x - 1, self.grid.y)
            case "\t":
                self.grid.tab()
            case "\x0e" | "\x0f":
                self._shifted = control == "\x0e"
            case _:
                self.grid.line_feed()

    def _single(self, single: str) -> None:
        match single:
            case "7":
                self._saved = (self.grid.x, self.grid.y)
            case "8":
                self.grid.move(*self._saved)
            case "M":
                self.grid.reverse_feed()
            case _:
                if single == "E":
                    self.grid.move(0, self.grid.y)
                self.grid.line_feed()

    def _modes(self, numbers: list[str], *, on: bool) -> None:
        for number in numbers:
            if number in _ALTERNATE:
                self._alternate(on=on, clear=number != "47")
            elif number == "25":
                self.cursor_shown = on
            elif number == "7":
                self.grid.wrap = on
            elif number == "1048":
                self._single("7" if on else "8")

    def _alternate(self, *, on: bool, clear: bool) -> None:
        if on and self.grid is self._main:
            self._saved = (self._main.x, self._main.y)
            self.grid = Grid(self._main.columns, self._main.rows)
            self.grid.move(*self._saved)
        elif not on and self.grid is not self._main:
            self.grid = self._main
            if clear:
                self.grid.move(*self._saved)

    def _sequence(self, final: str, text: str) -> None:
        if final == "m":
            self.style.apply(text)
            return
        numbers = [min(int(each or 0), _MAX) for each in text.replace(":", ";").split(";")]
        if move := _MOVES.get(final):
            move(self, max(numbers[0], 1))
        elif final in "Hf":
            self.grid.move(max(_at(numbers, 1), 1) - 1, max(numbers[0], 1) - 1)
        elif final == "J":
            self._erase_screen(numbers[0])
        elif final == "K":
            self._erase_line(numbers[0])
        elif final == "r":
            self.grid.set_margins(max(numbers[0], 1) - 1, (_at(numbers, 1) or self.grid.rows) - 1)
        elif final in "su":
            self._single("7" if final == "s" else "8")

    def _erase_line(self, what: int) -> None:
        grid = self.grid
        first, last = {0: (grid.x, grid.columns), 1: (0, grid.x), 2: (0, grid.columns)}.get(what, (0, -1))
        grid.erase(grid.y, first, last, self.style.paper)

    def _erase_screen(self, what: int) -> None:
        grid = self.grid
        rows = {0: range(grid.y + 1, grid.rows), 1: range(grid.y), 2: range(grid.rows)}.get(what, range(0))
        for y in rows:
            grid.erase(y, 0, grid.columns, self.style.paper)
        if what in (0, 1):
            self._erase_line(what)

    def repeat(self, count: int) -> None:
        """The last character again."""
        self.grid.write(self._last * min(count, self.grid.columns * self.grid.rows), self.style.text)


def _ceiling(grid: Grid) -> int:
    return grid.top if grid.y >= grid.top else 0


def _floor(grid: Grid) -> int:
    return grid.bottom if grid.y <= grid.bottom else grid.rows - 1


def _side(size: int) -> int:
    return min(max(size, 1), MAX_SIDE)


def _at(numbers: list[int], place: int) -> int:
    return numbers[place] if place < len(numbers) else 0


# CSI sequences of one number, by their last character
_MOVES: Final[Mapping[str, Callable[[Emulator, int], None]]] = {
    "A": lambda e, n: e.grid.move(e.grid.x, max(e.grid.y - n, _ceiling(e.grid))),
    "B": lambda e, n: e.grid.move(e.grid.x, min(e.grid.y + n, _floor(e.grid))),
    "C": lambda e, n: e.grid.move(e.grid.x + n, e.grid.y),
    "D": lambda e, n: e.grid.move(e.grid.x - n, e.grid.y),
    "E": lambda e, n: e.grid.move(0, min(e.grid.y + n, _floor(e.grid))),
    "F": lambda e, n: e.grid.move(0, max(e.grid.y - n, _ceiling(e.grid))),
    "G": lambda e, n: e.grid.move(n - 1, e.grid.y),
    "`": lambda e, n: e.grid.move(n - 1, e.grid.y),
    "a": lambda e, n: e.grid.move(e.grid.x + n, e.grid.y),
    "d": lambda e, n: e.grid.move(e.grid.x, n - 1),
    "e": lambda e, n: e.grid.move(e.grid.x, e.grid.y + n),
    "L": lambda e, n: e.grid.insert_lines(n),
    "M": lambda e, n: e.grid.delete_lines(n),
    "S": lambda e, n: e.grid.scroll_up(n),
    "T": lambda e, n: e.grid.scroll_down(n),
    "@": lambda e, n: e.grid.insert(n, e.style.paper),
    "P": lambda e, n: e.grid.delete(n, e.style.paper),
    "X": lambda e, n: e.grid.erase(e.grid.y, e.grid.x, e.grid.x + n - 1, e.style.paper),
    "b": lambda e, n: e.repeat(n),
}
