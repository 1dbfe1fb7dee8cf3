"""Tests: `[ ]` and `[[ ]]`, whose operands bash may evaluate as code. Decides nothing but that."""

from __future__ import annotations

from dataclasses import dataclass

from tree_sitter import Node

from policy.classes import CommandClass
from policy.shell.effect import opaque, plain
from policy.shell.expansions import ARITHMETIC, Expansions
from policy.shell.names import PLAIN_NAME
from policy.shell.parts import Parts, span_of

_COMPARES = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The tests of one script."""

    data: bytes
    parts: Parts
    expansions: Expansions

    def test(self, node: Node) -> None:
        """Keep the parts of a test command."""
        double = node.children[0].type == "[["
        self.parts.keep(span_of(node), ("[[" if double else "[",), plain(CommandClass.READ, "test", "only tests"))
        for child in node.children:
            if child.is_named:
                self._condition(child, double=double)

    def _condition(self, node: Node, *, double: bool) -> None:
        operators = {self._text(child) for child in node.children if child.type == "test_operator"}
        if node.type in ARITHMETIC:
            for child in node.children:
                if double and operators & _COMPARES and child.is_named and child.type != "test_operator":
                    self.expansions.evaluated(
                        child, "test.number", "a number comparison evaluates its operands as code"
                    )
                elif operators & {"-v", "-R"} and child.type != "test_operator":
                    self._plain_name(child)
                elif child.is_named:
                    self._condition(child, double=double)
            return
        word = self.expansions.word(node)
        if word.splits and not double:
            self.expansions.evaluated(node, "test.split", "an unquoted value can become other tests; quote it")

    def _plain_name(self, node: Node) -> None:
        word = self.expansions.word(node)
        if not (word.fixed and PLAIN_NAME.fullmatch(word.text)):
            self.parts.keep(span_of(node), (word.text,), opaque("test.name", "-v evaluates what is in its operand"))

    def _text(self, node: Node) -> str:
        return self.data[node.start_byte : node.end_byte].decode()
