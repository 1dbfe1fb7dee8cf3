"""What may stand between `[ ]` and between `[[ ]]`: the parser is laxer than bash, and reads commands as tests."""

from __future__ import annotations

import re

from tree_sitter import Node

from policy.shell.gate import GateError

TESTS = frozenset({"binary_expression", "unary_expression", "parenthesized_expression"})
"""Shapes that a test is made of."""
_ONE_SIDED = re.compile(rb"-(?!a|o)[A-Za-z]")
_COMPARES = frozenset(b"-eq -ne -lt -le -gt -ge -nt -ot -ef -a -o".split())
_SINGLE = frozenset({"[", "]", "=", "==", "!=", "!"})
_DOUBLE = frozenset({"[[", "]]", "=", "==", "!=", "!", "=~", "<", ">", "&&", "||", "(", ")"})


def check_test(data: bytes, node: Node, *, double: bool) -> None:
    """Raises GateError where bash would read another test, or none.

    The parser takes `[ x && reboot ]` for one test, where bash runs two commands.
    """
    _check(data, node, _DOUBLE if double else _SINGLE)


def _check(data: bytes, node: Node, operators: frozenset[str]) -> None:
    for child in node.children:
        expression = child.type.endswith("_expression")
        if expression and child.type not in TESTS:
            raise GateError("guard.test", "arithmetic where a test should be")
        first = child.start_byte == node.start_byte
        if first and node.type == "binary_expression" and _ONE_SIDED.fullmatch(child.text or b""):
            raise GateError("guard.test", "a test of one operand between two")
        if child.type in ("<", ">") and data[child.end_byte : child.end_byte + 1] == b"(":
            raise GateError("guard.test", "a comparison or a substitution")
        if operators is _DOUBLE and child.text in (b"-a", b"-o"):
            raise GateError("guard.test", "'-a' and '-o' have no place in [[ ]]")
        if child.type == "test_operator" and node.type == "binary_expression" and child.text not in _COMPARES:
            raise GateError("guard.test", "a test of one operand between two")
        if not child.is_named and child.type not in operators:
            raise GateError("guard.test", f"{child.type!r} inside brackets is not part of a test")
        if expression:
            _check(data, child, operators)
