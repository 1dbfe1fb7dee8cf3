"""The outer shape of a line that is typed at a prompt: what stands alone in it, and whether it goes on in another row.

By the classifier's own parser. Decides nothing: whatever runs is classified as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tree_sitter import Node

from policy.shell.gate import GateError, admit, next_quote, token
from policy.shell.tree import parse, raw_tree

_PAIRS: Final = {"if": "fi", "case": "esac", "{": "}", "(": ")", "$(": ")", "${": "}", "do": "done", "[[": "]]"}
_LOOPS: Final = frozenset({"for", "while", "until", "select"})


class Alone(StrEnum):
    """What a line is, where it is one thing and nothing else."""

    COMMAND = "command"
    DECLARATION = "declaration"
    UNSET = "unset"
    ASSIGNMENT = "assignment"
    FUNCTION = "function"


_KINDS: Final = {
    "command": Alone.COMMAND,
    "declaration_command": Alone.DECLARATION,
    "unset_command": Alone.UNSET,
    "variable_assignment": Alone.ASSIGNMENT,
    "variable_assignments": Alone.ASSIGNMENT,
    "function_definition": Alone.FUNCTION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The shape of one line."""

    alone: Alone | None
    """None: several commands, or a compound one."""
    words: tuple[str, ...]
    """Of a line that is one thing: as written, with their quotes."""
    commands: tuple[str, ...]
    """The names of all commands in it, as written."""
    background: bool
    """It ends by putting something into the background."""


def outline(line: bytes) -> Outline | None:
    """The shape of a line; None for what the classifier would refuse, and for one that does nothing."""
    try:
        root = parse(admit(line).data).root
    except GateError:
        return None
    items = [child for child in root.children if child.type not in {"comment", ";", "\n"}]
    if not items:
        return None
    one = items[0] if len(items) == 1 else None
    alone = _KINDS.get(one.type) if one is not None else None
    return Outline(
        alone=alone,
        words=tuple(map(_text, one.children)) if one is not None and alone is not None else (),
        commands=tuple(_text(node) for node in _all(root) if node.type == "command_name"),
        background=items[-1].type == "&",
    )


def unfinished(line: bytes) -> bool:
    """Whether a line is the beginning of one: an open quote or bracket, a here-document, a loop without its end."""
    if _open_backslash(line):
        return True
    try:
        data = admit(line).data
        root = raw_tree(data)
    except GateError:
        return False
    if not root.has_error:
        return False
    end = len(data.rstrip())
    if any(node.is_missing and node.start_byte >= end for node in _all(root)):
        return True
    return _open_quote(data.decode()) not in {"", None} or _open_here(root) or _open_words(root)


def _open_backslash(line: bytes) -> bool:
    """A backslash at the very end joins the next row, unless single quotes hold it."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return False
    return text.endswith("\\") and _open_quote(text) is None


def _open_quote(text: str) -> str | None:
    """The quote that is open at the end; None where the last thing is a backslash with nothing behind it."""
    index, quote = 0, ""
    while index < len(text):
        step = token(text, index, quote)
        if step == "\\" and quote != "'":
            return None
        quote = next_quote(step, quote)
        index += len(step)
    return quote


def _open_here(root: Node) -> bool:
    return any(node.type in {"<<", "<<-"} for node in _all(root))


def _open_words(root: Node) -> bool:
    """More begins than ends, pair by pair. In a broken tree an end may be a mere word."""
    seen = Counter(_text(node) for node in _all(root) if not node.child_count)
    loops = sum(seen[word] for word in _LOOPS)
    ends = Counter[str]()
    for begin, end in _PAIRS.items():
        ends[end] += seen[begin] if begin != "do" else max(loops, seen["do"])
    return any(wanted > seen[end] for end, wanted in ends.items())


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _all(child)


def _text(node: Node) -> str:
    return (node.text or b"").decode()
