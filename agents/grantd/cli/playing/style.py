"""Colours and weights as SGR parameters: takes what a program sends, gives back one sequence in a fixed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

# parameter -> what it replaces; the value that ends it stands in _ENDS
_KINDS: Final = {1: "weight", 2: "weight", 3: "slant", 4: "line", 5: "blink", 7: "reverse", 8: "hidden", 9: "strike"}
_ENDS: Final = {22: "weight", 23: "slant", 24: "line", 25: "blink", 27: "reverse", 28: "hidden", 29: "strike"}
_ENDS_COLOUR: Final = {39: "ink", 49: "paper"}
_EXTENDED: Final = {38: "ink", 48: "paper"}
_PALETTE, _DIRECT = 5, 2
_MAX = 255


class Style:
    """What is in force."""

    __slots__ = ("_parts", "text")

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}
        self.text = ""

    @property
    def paper(self) -> str:
        """The background alone: what erased cells take."""
        return self._parts.get("paper", "")

    def apply(self, parameters: str) -> None:
        """The parameters of one SGR sequence, such as `1;38;5;200`. What is unknown changes nothing."""
        numbers = iter([int(each or 0) for each in parameters.replace(":", ";").split(";")])
        for number in numbers:
            self._one(number, numbers)
        self.text = ";".join(self._parts[kind] for kind in sorted(self._parts))

    def _one(self, number: int, rest: Iterator[int]) -> None:
        if number == 0:
            self._parts.clear()
        elif kind := _KINDS.get(number):
            self._parts[kind] = str(number)
        elif kind := _ENDS.get(number) or _ENDS_COLOUR.get(number):
            self._parts.pop(kind, None)
        elif kind := _EXTENDED.get(number):
            self._extended(number, kind, rest)
        elif kind := _colour(number):
            self._parts[kind] = str(number)

    def _extended(self, number: int, kind: str, rest: Iterator[int]) -> None:
        way = next(rest, -1)
        wanted = {_PALETTE: 1, _DIRECT: 3}.get(way, 0)
        values = [value for value in (next(rest, -1) for _ in range(wanted)) if 0 <= value <= _MAX]
        if wanted and len(values) == wanted:
            self._parts[kind] = ";".join(map(str, (number, way, *values)))


def _colour(number: int) -> str:
    if number in range(30, 38) or number in range(90, 98):
        return "ink"
    return "paper" if number in range(40, 48) or number in range(100, 108) else ""
