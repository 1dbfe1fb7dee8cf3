"""A policy in words: every condition of it, and nothing else."""

from __future__ import annotations

import pytest

from policy.reading import read
from policy.telling import told

HEAD = 'permit (principal, action == Action::"request", resource)'


@pytest.mark.parametrize(
    ("clauses", "lines"),
    [
        (
            'when { context.claimed.ticket like "https://jira/*" }\n  unless { context.claimed.reason }',
            ['If: context.claimed.ticket like "https://jira/*"', "Unless: context.claimed.reason"],
        ),
        ('when { principal.id == "}; unless { x" }', ['If: principal.id == "}; unless { x"']),
        ('when { principal.id == "a  b" // c }\r && true }', ['If: principal.id == "a  b" && true']),
        ("when {{ a: 1 }.a ==\n 1} unless {false}", ["If: { a: 1 }.a == 1", "Unless: false"]),
        ("", []),
    ],
)
def test_every_condition_as_it_is_written(clauses: str, lines: list[str]) -> None:
    """A condition that is left out of an explanation would make a policy look wider, or narrower, than it is."""
    (rule,) = read({"x.cedar": f'@id("x") @description("when {{ nothing }};") {HEAD} {clauses};'}).rules
    assert list(told(rule)[2:]) == lines
