"""Guard G10: one here-document a line, its end where bash sees it. Says of a body only whether bash runs code in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tree_sitter import Node

from policy.shell.gate import GateError

_BODY_PARTS = frozenset({"heredoc_body", "heredoc_end"})
_BODY_CODE = re.compile(rb"[$][({\[]|`")
_DELIMITER = re.compile(rb"""(?P<quote>["']?)(?P<word>[A-Za-z_]\w*)(?P=quote)""")


@dataclass(slots=True, kw_only=True)
class HereDocuments:
    """The here-documents of one command line, in the order they are met."""

    data: bytes
    bodies: set[int] = field(default_factory=set)

    def runs_code(self, node: Node, parent: Node | None) -> bool:
        """Whether its body runs code while it is read.

        Raises:
            GateError: a second one on its line, or an end that bash may see elsewhere.
        """
        start = next((child for child in node.children if child.type == "heredoc_start"), None)
        end = next((child for child in node.children if child.type == "heredoc_end"), None)
        delimiter = _DELIMITER.fullmatch(self.data[start.start_byte : start.end_byte]) if start else None
        if start is None or end is None or delimiter is None or _inside_substitution(parent):
            raise GateError("guard.heredoc", "a here-document whose end cannot be told for certain")
        line_end = self.data.find(b"\n", start.end_byte)
        if any(child.end_byte > line_end for child in node.children if child.type not in _BODY_PARTS):
            raise GateError("guard.heredoc", "a line that goes on where its here-document begins")
        if line_end in self.bodies:
            raise GateError("guard.heredoc", "two here-documents on one line")
        self.bodies.add(line_end)
        body = self._body(line_end + 1, delimiter["word"], end, tabs=node.children[0].type == "<<-")
        return not delimiter["quote"] and _BODY_CODE.search(body) is not None

    def _body(self, start: int, word: bytes, end: Node, *, tabs: bool) -> bytes:
        position = start
        while position <= len(self.data):
            stop = self.data.find(b"\n", position)
            stop = len(self.data) if stop < 0 else stop
            line = self.data[position:stop]
            if (line.lstrip(b"\t") if tabs else line) == word:
                if not position <= end.start_byte <= end.end_byte <= stop or end.end_byte != stop:
                    break
                return self.data[start:position]
            position = stop + 1
        raise GateError("guard.heredoc", "a here-document that ends elsewhere than it seems")


def _inside_substitution(node: Node | None) -> bool:
    while node is not None:
        if node.type in ("command_substitution", "process_substitution", "string"):
            return True
        node = node.parent
    return False
