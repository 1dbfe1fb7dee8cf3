"""A policy in words: what it permits or forbids, to whom, where, when, and what it asks of an approval. Pure text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from policy.cedar import COMMENT, STRING
from policy.reading import ACTIONS, PRINCIPALS, Rule

_ACTIONS: Final = {
    "request": "asking for access (a person grants it)",
    "request_unattended": "access without a person",
    "run": "running a command that a person approved",
    "run_unattended": "running a command without a person",
    "approve": "deciding what somebody else asks for",
}
_TOKEN = re.compile(rf"{STRING}|(?P<blank>(?:{COMMENT}|\s)+)|\w+|\S", re.DOTALL)


def told(rule: Rule) -> tuple[str, ...]:
    """Lines for people. The conditions are shown as they are written."""
    return tuple(_lines(rule))


def _lines(rule: Rule) -> Iterator[str]:
    verb = "Permits" if rule.effect == "permit" else "Forbids, whatever else permits it:"
    yield f"{verb} {'; '.join(_ACTIONS[action] for action in ACTIONS if action in rule.actions)}."
    kinds = [kind for kind in PRINCIPALS if kind in rule.principals]
    yield f"To: {' and '.join(f'every {kind.lower()}' for kind in kinds)}, as far as its head says."
    for word, body in _clauses(rule.text):
        yield f"{'If' if word == 'when' else 'Unless'}: {body}"
    if rule.obligation.quorum > 1:
        yield f"Asks for {rule.obligation.quorum} different people."
    if rule.obligation.roles:
        yield f"Asks for the role {' or '.join(sorted(rule.obligation.roles))}."
    if rule.obligation.watchers:
        yield f"Asks that somebody watches while it runs: {' or '.join(sorted(rule.obligation.watchers))}."


def _clauses(text: str) -> Iterator[tuple[str, str]]:
    """`when` or `unless` and what stands in its braces, in one line; what stands in strings is left as it is."""
    word, depth, body = "", 0, ""
    for match in _TOKEN.finditer(text):
        piece = " " if match["blank"] else match[0]
        if depth == 0 and piece in ("when", "unless"):
            word = piece
        elif word:
            depth += (piece == "{") - (piece == "}")
            body += piece
            if depth == 0 and piece == "}":
                yield word, body.strip()[1:-1].strip()
                word, body = "", ""
