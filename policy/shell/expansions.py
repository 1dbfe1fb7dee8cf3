"""What stands inside words: expansions, subscripts and arithmetic, where bash evaluates text a second time.

Hands command substitutions back to whoever walks statements. Runs nothing, reads nothing but the tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tree_sitter import Node

from policy.shell.effect import opaque
from policy.shell.names import settable
from policy.shell.numbers import prints_a_number, prints_digits
from policy.shell.parts import Parts, span_of
from policy.shell.values import Values
from policy.shell.words import Word, read_word

_SUBSTITUTIONS = frozenset({"command_substitution", "process_substitution"})
_OPERATORS = frozenset(
    {":-", "-", ":+", "+", ":?", "?", "#", "##", "%", "%%", "/", "//", "/#", "/%", "^", "^^", ",", ",,"}
)
ARITHMETIC = frozenset(
    {"binary_expression", "unary_expression", "postfix_expression", "ternary_expression", "parenthesized_expression"}
)
_NAME = re.compile(r"[$]?[A-Za-z_]\w*|[$]\{[A-Za-z_]\w*\}")
_NUMBER = re.compile(r"-?\d+|[$][#?$!]|[$]\{#\w+(?:\[[@*]\])?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansions:
    """The words of one script. `run` takes a substitution, `statements` are node types that no word may hold."""

    data: bytes
    parts: Parts
    values: Values
    run: Callable[[Node], None]
    statements: frozenset[str]
    bound: dict[str, str] = field(default_factory=dict)
    """Variables of the loops around, with the value of the turn at hand."""

    @contextmanager
    def binding(self, bound: dict[str, str]) -> Iterator[None]:
        """These variables, and no others, are known while the context is open."""
        before = dict(self.bound)
        self.bound.clear()
        self.bound.update(bound)
        try:
            yield
        finally:
            self.bound.clear()
            self.bound.update(before)

    def known_word(self, node: Node) -> Word:
        """As `word`, with the variables of loops over literals filled in: for the words of a command alone.

        Tests and arithmetic see values a second time, and a command's own name would become another.
        """
        self._inside(node)
        word = read_word(node, self.data, lambda name: self._value_of(name, node))
        return replace(word, tame=True) if not word.fixed and prints_digits(node, self.data) else word

    def _value_of(self, name: str, node: Node) -> str | None:
        value = self.bound.get(name)
        if value is None or not self.values.filled.affords(len(value)):
            return None
        self.values.relied.setdefault(name, (span_of(node), self.parts))
        return value

    def word(self, node: Node) -> Word:
        """Dequote a word and decide every command, expansion and subscript inside it."""
        self._inside(node)
        return read_word(node, self.data)

    def _inside(self, node: Node) -> None:
        kind = node.type
        if kind in _SUBSTITUTIONS:
            self.run(node)
        elif kind == "expansion":
            self._expansion(node)
        elif kind == "arithmetic_expansion":
            self.arithmetic(node)
        elif kind == "subscript":
            self.subscript(node)
        elif kind in self.statements:
            self._keep(node, "word.kind", f"{kind!r} where a word should be")
        else:
            for child in node.children:
                if child.is_named:
                    self._inside(child)

    def _expansion(self, node: Node) -> None:
        """`${...}`: only operators that cut, replace or choose text; `@P`, `!` and `:=` evaluate or assign."""
        operators = [child.type for child in node.children if not child.is_named and child.type not in ("${", "}", '"')]
        names = [
            child for child in node.children if child.type in ("variable_name", "subscript", "special_variable_name")
        ]
        numbers = operators in ([":"], [":", ":"])
        literal = all(child.type == "number" for child in node.children if child.is_named and child not in names[:1])
        if not names or (any(operator not in _OPERATORS for operator in operators) and not (numbers and literal)):
            self._keep(node, "expansion.operator", "an expansion that evaluates or assigns")
        for child in node.children:
            if child.is_named:
                self._inside(child)

    def subscript(self, node: Node) -> None:
        """What stands in the brackets is arithmetic."""
        for child in node.children[1:]:
            if child.is_named and self._text(child) not in ("@", "*"):
                self.evaluated(child, "subscript", "an array subscript is evaluated as code")

    def arithmetic(self, node: Node) -> None:
        """`((...))`, `$((...))`, the head of `for ((...))`."""
        for child in node.children or [node]:
            if child.is_named:
                self.evaluated(child, "arithmetic", "arithmetic evaluates the values in it as code")

    def evaluated(self, node: Node, rule: str, reason: str) -> None:
        """A place where bash evaluates values: literal numbers and names that hold numbers only are safe."""
        kind, text = node.type, self._text(node).strip().strip('"')
        if kind in ARITHMETIC or kind == "variable_assignment":
            self._operation(node, rule, reason)
        elif kind == "arithmetic_expansion":
            self.arithmetic(node)
        elif _NAME.fullmatch(text):
            self.values.evaluated.setdefault(text.strip("${}"), (span_of(node), self.parts))
        elif not _NUMBER.fullmatch(text):
            self._inside(node)
            if not prints_a_number(node, self.data):
                self._keep(node, rule, reason)

    def _operation(self, node: Node, rule: str, reason: str) -> None:
        """An operator and its operands. What `=` assigns is a number; its name must be free to set."""
        first, *rest = node.children
        assigns = bool(rest) and self._text(rest[0]) == "=" and _NAME.fullmatch(self._text(first)) is not None
        if assigns:
            self._assigns(first)
        for child in rest if assigns else node.children:
            if child.is_named and child.type != "test_operator":
                self.evaluated(child, rule, reason)

    def _assigns(self, node: Node) -> None:
        name = self._text(node)
        self.values.sets(name, number=True)
        if not settable(name):
            self._keep(node, "variable.name", f"{name} can change what programs do")

    def _text(self, node: Node) -> str:
        return self.data[node.start_byte : node.end_byte].decode()

    def _keep(self, node: Node, rule: str, reason: str) -> None:
        self.parts.keep(span_of(node), (self._text(node),), opaque(rule, reason))
