"""What a command line puts into its variables and functions, for the places where bash runs a value as code.

A name is a number only if the text itself sets it to one and to nothing else; all others may hold `a[$(command)]`,
which arithmetic runs. Reads no syntax and keeps no values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tree_sitter import Node

from policy.shell.effect import Effect, opaque
from policy.shell.names import PASSED_TO_PROGRAMS, settable
from policy.shell.numbers import prints_a_number
from policy.shell.parts import Parts

# What bash itself keeps a number in, whatever is assigned.
_COUNTERS = frozenset({"RANDOM", "SRANDOM", "SECONDS", "EPOCHSECONDS", "LINENO", "UID", "EUID", "PPID", "BASHPID"})
MAX_TURN_BYTES = 8_192
MAX_FILLED_BYTES = 16_384
_NUMBER = re.compile(r"""["']?-?\d+["']?|[$][#?$!]|[$]\{#\w+\}""")


@dataclass(slots=True, kw_only=True)
class Allowance:
    """Bytes of work that a line may still ask for."""

    left: int

    def affords(self, size: int) -> bool:
        """Whether there is so much left; taken off if there is."""
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(slots=True, kw_only=True)
class Values:
    """What is known of the names in a line, its quoted scripts included (`functions` alone are a script's own)."""

    numbers: set[str] = field(default_factory=set)
    untrusted: set[str] = field(default_factory=set)
    evaluated: dict[str, tuple[tuple[int, int], Parts]] = field(default_factory=dict)
    arrays: set[str] = field(default_factory=set)
    compound: dict[str, tuple[tuple[int, int], Parts]] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)
    unset: dict[str, tuple[tuple[int, int], Parts]] = field(default_factory=dict)
    script_bytes: list[int] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    relied: dict[str, tuple[tuple[int, int], Parts]] = field(default_factory=dict)
    """Loop variables whose literal value was taken for a word, with the first such place."""
    loops: dict[str, set[int]] = field(default_factory=dict)
    """Where a name is the variable of a loop over literals."""
    free: set[str] = field(default_factory=set)
    """Names that are set by anything but one such loop."""
    bodies: list[str] = field(default_factory=list)
    """Functions, certain or not: one may set a name wherever it is called."""
    turns: Allowance = field(default_factory=lambda: Allowance(left=MAX_TURN_BYTES))
    """Bytes of loops' bodies that may be read once more."""
    filled: Allowance = field(default_factory=lambda: Allowance(left=MAX_FILLED_BYTES))
    """Bytes of loops' values that may be put in the place of their variables."""

    def of_script(self) -> Values:
        """The names of a script that is run apart: values are shared, to be strict; functions are not."""
        return Values(
            numbers=self.numbers,
            untrusted=self.untrusted,
            evaluated=self.evaluated,
            arrays=self.arrays,
            compound=self.compound,
            defined=self.defined,
            unset=self.unset,
            script_bytes=self.script_bytes,
            relied=self.relied,
            loops=self.loops,
            free=self.free,
            bodies=self.bodies,
            turns=self.turns,
            filled=self.filled,
        )

    def sets(self, name: str, *, number: bool) -> None:
        """Note an assignment. A name that programs see, or that bash sets by itself, never counts as a number."""
        self._sets(name, number=number)
        self.free.add(name)

    def turns_over(self, name: str, place: int, *, number: bool) -> None:
        """Note a loop that sets a name to literal values, and ends with one of them."""
        self._sets(name, number=number)
        self.loops.setdefault(name, set()).add(place)

    def _sets(self, name: str, *, number: bool) -> None:
        known = number and settable(name) and not PASSED_TO_PROGRAMS.fullmatch(name)
        (self.numbers if known else self.untrusted).add(name)

    def defines(self, function: str) -> None:
        """Note a function that the text defines for certain."""
        self.functions.add(function)
        self.defined.add(function)

    def settle(self) -> None:
        """After the whole line is read: every name evaluated as code is a number, and no function is taken back."""
        for name in sorted(self.evaluated.keys() - _COUNTERS):
            if name in self.untrusted or name not in self.numbers:
                self._doubt(*self.evaluated[name], name, _not_a_number(name))
        for name in sorted(self.relied):
            within = len(self.loops[name]) > 1 and bool(self.bodies)  # one loop may run inside of the other
            if within or name in self.free or name in self.evaluated:
                self._doubt(*self.relied[name], name, opaque("loop.value", f"{name} may be changed inside of its loop"))
        for name in sorted(self.compound.keys() & self.arrays):
            effect = opaque(
                "declare.array", f"what {name} is given here is read as an array, whose subscripts are code"
            )
            self._doubt(*self.compound[name], name, effect)
        for name in sorted(self.unset.keys() & self.defined):
            effect = opaque("unset.function", f"without its function, {name} is a program that nobody has seen")
            self._doubt(*self.unset[name], name, effect)

    def _doubt(self, span: tuple[int, int], parts: Parts, name: str, effect: Effect) -> None:
        parts.keep(span, (name,), effect)


def is_number(node: Node, data: bytes) -> bool:
    """Whether the value of an assignment is a number whatever happens."""
    text = data[node.start_byte : node.end_byte].decode()
    return node.type == "arithmetic_expansion" or _NUMBER.fullmatch(text) is not None or prints_a_number(node, data)


def _not_a_number(name: str) -> Effect:
    return opaque("arithmetic.name", f"{name} is evaluated as code, and nothing here makes it a number")
