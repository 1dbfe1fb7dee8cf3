"""Variables: what setting one does to this shell, and to the programs that see it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tree_sitter import Node

from policy.classes import CommandClass
from policy.shell.effect import opaque, plain
from policy.shell.expansions import Expansions
from policy.shell.names import PASSED_TO_PROGRAMS, passes, settable
from policy.shell.parts import Parts, span_of
from policy.shell.values import Values, is_number
from policy.shell.words import read_word

_KEYED = re.compile(r"\[.*\]\+?=", re.DOTALL)
_PLAIN_KEY = re.compile(r"\[(?:-?\d+|([A-Za-z_]\w*))\]\+?=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignments:
    """The assignments and declarations of one script."""

    data: bytes
    parts: Parts
    values: Values
    expansions: Expansions

    def alone(self, node: Node) -> None:
        """`NAME=value` on its own: it stays in this shell unless the name is one that programs see."""
        name, value = self._assigned(node)
        text = self._text(node)
        if settable(name) or passes(name, self._known(node, value)):
            effect = plain(CommandClass.READ, "variable", "sets a variable of this shell")
        else:
            effect = opaque("variable.name", f"{name} can change what programs do")
        self.parts.keep(span_of(node), (text,), effect)
        if value is not None:
            self.values.sets(name, number=is_number(value, self.data))

    def passed(self, node: Node, *, also: str = "") -> None:
        """`NAME=value command`: the program sees it. `read` alone takes an IFS of its own."""
        name, value = self._assigned(node)
        if name != also and not passes(name, self._known(node, value)):
            self.parts.keep(
                span_of(node), (self._text(node),), opaque("variable.passed", f"{name} can change what programs do")
            )

    def _assigned(self, node: Node) -> tuple[str, Node | None]:
        name = ""
        value: Node | None = None
        for child in node.children:
            if child.type == "variable_name" and not name:
                name = self._text(child)
            elif child.type == "subscript":
                name = self._text(child.children[0])
                self.values.sets(name, number=False)
                self.values.arrays.add(name)
                self.expansions.subscript(child)
            elif child.type == "array":
                value = child
                self.values.arrays.add(name)
                for item in child.children:
                    if item.is_named:
                        self._element(item)
            elif child.is_named:
                value = child
                self.expansions.word(child)
        return name, value

    def _known(self, node: Node, value: Node | None) -> str | None:
        """What `NAME=value` gives the name, where that stands there; nothing for an array, an element and `+=`."""
        text = self._text(node)
        if any(child.type in ("subscript", "array", "+=") for child in node.children):
            return None
        word = read_word(value, self.data) if value is not None else None
        if word is None:
            return "" if text.endswith("=") else None
        return word.text if word.fixed else None

    def _element(self, node: Node) -> None:
        """One word of an array; of `[KEY]=VALUE` bash evaluates the key."""
        self.alone(node) if node.type == "variable_assignment" else self.expansions.word(node)
        text = self._text(node)
        plain_key = _PLAIN_KEY.match(text)
        if plain_key is not None and plain_key[1]:
            self.values.evaluated.setdefault(plain_key[1], (span_of(node), self.parts))
        elif plain_key is None and _KEYED.match(text):
            self.parts.keep(span_of(node), (text,), opaque("subscript", "an array subscript is evaluated as code"))

    def declaration(self, node: Node) -> None:
        """`declare`, `local`, `readonly`, `typeset`, `export`."""
        keyword = self._text(node.children[0])
        if keyword != "export":
            self._compounds(node)
        allowed = {"-r", "-g", "-a", "--"} if keyword != "export" else {"--"}
        for child in node.children[1:]:
            if child.type == "variable_assignment":
                (self.passed if keyword == "export" else self.alone)(child)
                if keyword == "export":
                    self.values.sets(self._text(child.children[0]), number=False)
            elif child.type == "variable_name":
                self._declared(child, keyword)
            elif child.is_named and self._text(child) not in allowed:
                self.expansions.word(child)
                self.parts.keep(
                    span_of(child),
                    (keyword, self._text(child)),
                    opaque("declare.option", f"{keyword} with a word that is not known"),
                )
        self.parts.keep(
            span_of(node), (keyword,), plain(CommandClass.READ, "declare", "declares variables of this shell")
        )

    def _compounds(self, node: Node) -> None:
        """Note values that these builtins read as `([KEY]=VALUE ...)` once more where the name is an array."""
        array = any(self._text(child) == "-a" for child in node.children[1:])
        for child in node.children[1:]:
            if child.type not in ("variable_assignment", "variable_name"):
                continue
            name = self._text(child if child.type == "variable_name" else child.children[0])
            if array:
                self.values.arrays.add(name)
            value = child.children[-1] if child.type == "variable_assignment" else None
            given = value is not None and value.is_named and value.type not in ("array", "variable_name")
            if value is not None and given and self.expansions.word(value).head[:1] in ("", "("):
                self.values.compound.setdefault(name, (span_of(child), self.parts))

    def _declared(self, node: Node, keyword: str) -> None:
        name = self._text(node)
        self.values.free.add(name)  # in a function `local NAME` leaves it empty
        if keyword == "export" and not PASSED_TO_PROGRAMS.fullmatch(name):
            self.parts.keep(
                span_of(node), (keyword, name), opaque("variable.passed", f"{name} can change what programs do")
            )

    def named(self, node: Node, name: str) -> None:
        """A name that something other than an assignment sets: a loop."""
        if not settable(name):
            self.parts.keep(span_of(node), (name,), opaque("variable.name", f"{name} can change what programs do"))

    def _text(self, node: Node) -> str:
        return self.data[node.start_byte : node.end_byte].decode()
