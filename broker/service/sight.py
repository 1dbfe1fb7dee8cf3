"""The classifier, remembered: by one ruleset the same bytes are looked at once, however many prompts show them.

`look` comes before a transaction that asks for `classify`: reading a line that is made to be hard takes a tenth of a
second, and the store's one writer, which all tenants share, must not be held for it. Nor must the loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import lru_cache

from policy.ruleset import Ruleset
from policy.shell import Verdict

AT_ONCE = 512
"""Bytes of a line that is looked at on the loop; a longer one may cost the parser too much for everybody there."""
_KEPT = 1_024
"""Verdicts; their commands have at most 16 KiB each."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """A ruleset as its version: the same texts, read twice, say the same."""

    version: str
    rules: Ruleset = field(compare=False)


def classify(rules: Ruleset, command: bytes) -> Verdict:
    """As `Ruleset.classify`, which is pure."""
    return _classified(_Rules(rules.version, rules), command)


async def look(rules: Ruleset, command: bytes) -> Verdict:
    """As `classify`, without holding the loop; who asks next finds it remembered."""
    if len(command) <= AT_ONCE:
        return classify(rules, command)
    return await asyncio.to_thread(classify, rules, command)


@lru_cache(maxsize=_KEPT)
def _classified(by: _Rules, command: bytes) -> Verdict:
    return by.rules.classify(command)
