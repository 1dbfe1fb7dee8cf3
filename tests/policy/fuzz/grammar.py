"""Random shell scripts, repeatable from a seed, that are harmless whatever bash makes of them.

`shell.grammar` says how they are written. Most put a payload where bash should only see text (quoted, escaped, a
comment, a here-document); a mutation then breaks a quote or an operator, so that the two parsers have something to
disagree on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

_FILE: Final = Path(__file__).with_name("shell.grammar")
_WEIGHT: Final = re.compile(r"(\d+)× ")
_PLACE: Final = re.compile(r'«(\w+)(["\\]?)»')
_DEPTHS: Final = (2, 3, 4, 5)


@cache
def rules() -> Mapping[str, tuple[str, ...]]:
    """The ways to write each rule, the likelier ones more often."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in _FILE.read_text("utf-8").split("\n"):
        opens = re.fullmatch(r"\[([a-z]+(?: 0)?)\]", line)
        if opens:
            name = opens[1]
            found[name] = []
        elif name and line:
            weight = _WEIGHT.match(line)
            way = line[weight.end() :] if weight else line
            found[name] += [way.replace("␤", "\n")] * (int(weight[1]) if weight else 1)
    return {name: tuple(ways) for name, ways in found.items()}


class Scripts:
    """An endless source of scripts. `builtins`: also those that run, set or evaluate what they are given."""

    def __init__(self, seed: int, *, builtins: bool) -> None:
        self._random = random.Random(seed)
        self._builtins = 0.4 if builtins else 0.0
        self._mutations: tuple[Callable[[str, int], str], ...] = (
            self._drops,
            self._swaps,
            self._splices,
            self._repeats,
            self._parts,
            self._quotes,
            self._inserts,
            self._inserts,
        )

    def script(self) -> str:
        """A script, as made or mutated."""
        start = "builtin" if self._random.random() < self._builtins else "script"
        made = self._write(start, self._random.choice(_DEPTHS))
        return self.mutated(made) if self._random.random() < 0.6 else made

    def mutated(self, script: str) -> str:
        """The script with one to three small changes."""
        for _ in range(self._random.choice((1, 1, 2, 3))):
            script = self._random.choice(self._mutations)(script, self._random.randrange(len(script) + 1))
        return script

    def _write(self, rule: str, depth: int) -> str:
        name = f"{rule} 0" if depth <= 0 and f"{rule} 0" in rules() else rule
        way = self._random.choice(rules()[name])
        return _PLACE.sub(lambda place: _ESCAPES[place[2]](self._write(place[1], depth - 1)), way)

    def _drops(self, script: str, at: int) -> str:
        return script[:at] + script[at + 1 :]

    def _swaps(self, script: str, at: int) -> str:
        return script[:at] + script[at : at + 2][::-1] + script[at + 2 :]

    def _splices(self, script: str, at: int) -> str:
        other = self._write("script", 2)
        return script[:at] + other[self._random.randrange(len(other) + 1) :]

    def _repeats(self, script: str, at: int) -> str:
        end = at + self._random.randrange(1, 8)
        return script[:end] + script[at:end] + script[end:]

    def _parts(self, script: str, at: int) -> str:
        return script[:at] + script[at:].replace(" ", self._random.choice(("\n", "\t", "\\\n", "")), 1)

    def _quotes(self, script: str, at: int) -> str:
        quote = self._random.choice("'\"`")
        return script[:at] + script[at:].replace(quote, self._random.choice(("'", '"', "`", "", "\\" + quote)), 1)

    def _inserts(self, script: str, at: int) -> str:
        return script[:at] + self._random.choice(rules()["token"]) + script[at:]


_ESCAPES: Final[Mapping[str, Callable[[str], str]]] = {
    "": str,
    '"': lambda text: re.sub(r'([$`"\\])', r"\\\1", text),
    "\\": lambda text: re.sub(r"([^\w-])", r"\\\1", text),
}
