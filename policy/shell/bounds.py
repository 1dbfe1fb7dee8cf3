"""Where a word ends (G21), and which words belong to a redirect: the parser sees fewer ends than bash."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tree_sitter import Node

from policy.shell.gate import GateError

BARE = frozenset({"word", "number", "variable_name", "file_descriptor", "test_operator", "extglob_pattern"})
"""Leaves that are a word, or a part of one, without quotes."""
_ALL_IS_TEXT = frozenset({"string", "expansion"})
_SEVERAL_WORDS = re.compile(rb"[][{} \t\n]*[ \t\n][][{} \t\n]*")
_WORD_ENDS = re.compile(rb"(?:[^\\ \t\n;&|<>]|\\.)*[ \t\n;&|<>]", re.DOTALL)
_ESCAPES_WHAT_FOLLOWS = re.compile(rb"(?:[^\\]|\\.)*\\", re.DOTALL)
_CLOSING_BRACE = re.compile(rb"(?:[^\\}]|\\.)*\}", re.DOTALL)
_OPEN_SUBSCRIPT = re.compile(rb"\[(?![^][\\'\"]*\]).*", re.DOTALL)
_BRACES = frozenset({"expansion"})


def one_word(text: bytes, parent: Node | None) -> None:
    """G21: a newline before a backslash is the beginning of a word to the parser, and the end of a command to bash."""
    # `x=} ]` runs the program `]`; to the parser `echo a <newline>\reboot` is one command
    if _SEVERAL_WORDS.fullmatch(text) or (_WORD_ENDS.match(text) and not _inside(parent, _ALL_IS_TEXT)):
        raise GateError("guard.word", "several words that the parser takes for one")
    if _CLOSING_BRACE.match(text) and _inside(parent, _BRACES):
        # `${x:-(a }` ends there, whatever follows
        raise GateError("guard.word", "a '}' that ends more than it seems to")
    if _ESCAPES_WHAT_FOLLOWS.fullmatch(text):
        raise GateError("guard.word", "a backslash at the end of a word")  # `${x:-\}` does not end there


def _inside(node: Node | None, kinds: frozenset[str]) -> bool:
    """Whether `node` is part of one of these, without a command in between."""
    while node is not None and node.type not in ("command_substitution", "process_substitution"):
        if node.type in kinds:
            return True
        node = node.parent
    return False


def check_array(elements: Sequence[bytes], parent: Node | None) -> None:
    """A list in brackets is one after `name=` alone, and there not inside of `[[ ]]`."""
    if parent is None or parent.type != "variable_assignment" or _inside_a_test(parent):
        raise GateError("guard.array", "a list in brackets where bash reads none")
    if any(map(_OPEN_SUBSCRIPT.fullmatch, elements)):
        raise GateError("guard.bracket", "a subscript without its end")


def _inside_a_test(node: Node | None) -> bool:
    while node is not None and node.type != "test_command":
        node = node.parent
    return node is not None


def no_word_after(redirect: list[Node]) -> None:
    """A command takes the words after its redirects; `( a ) >f b` is no command at all."""
    words = sum(child.is_named and child.type != "file_descriptor" for child in redirect)
    closes = any(child.type in (">&-", "<&-") for child in redirect)
    if words > (0 if closes else 1):
        raise GateError("guard.redirect", "a word after the redirect of a compound command")


def takes_words(parent: Node | None) -> bool:
    """Whether words after a redirect of `parent` are the command's own."""
    if parent is None or parent.type == "command":
        return parent is not None
    return parent.type == "redirected_statement" and parent.children[0].type in ("command", "file_redirect")
