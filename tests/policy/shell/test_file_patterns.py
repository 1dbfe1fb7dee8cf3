"""Patterns of file names where a value stands: a read only where no file's name can become an action."""

from __future__ import annotations

import pytest

from policy.classes import CommandClass
from policy.shell import Classified, classify


@pytest.mark.parametrize(
    "command",
    [
        "find /var/named -type f -name *.db",
        "find . -name *~ -print",
        "find . -iname a*.{log,txt}",
        "find . -name app-*",
        "while IFS=: read -r user _ uid _; do echo $user; done",
        "read -r _ b",
    ],
)
def test_what_no_name_can_change(command: str) -> None:
    """A file's name ends in what the pattern ends in, and no action of find does; `_` is set by bash itself anyway."""
    verdict = classify(command.encode())
    assert isinstance(verdict, Classified)
    assert verdict.command_class is CommandClass.READ


@pytest.mark.parametrize(
    "command",
    [
        "find . -name *te",
        "find . -name *",
        "find . -name *-ls",
        "find . -name $x.db",
        "find . -name *.x -newer -delete",
        "find . -name *.gz -type f",
        "find . -name *.x -exec rm {} +",
        "find . *.db",
        "find . -name *.db $x",
        "read -r _ PATH",
        "read -r _ <<< 'a[$(touch m)]'; ((_))",
    ],
)
def test_what_a_name_may_change(command: str) -> None:
    """I-16: a pattern that a file called like an action would match is never a read."""
    verdict = classify(command.encode())
    assert isinstance(verdict, Classified)
    assert verdict.command_class > CommandClass.READ
