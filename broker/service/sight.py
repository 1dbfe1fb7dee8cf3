"""The classifier, remembered: under one ruleset the same bytes are looked at once, however many prompts show them."""

from __future__ import annotations

from functools import lru_cache

from policy.ruleset import Ruleset
from policy.shell import Verdict

_KEPT = 1_024
"""Verdicts; their commands have at most 16 KiB each."""


@lru_cache(maxsize=_KEPT)
def classify(rules: Ruleset, command: bytes) -> Verdict:
    """As `Ruleset.classify`, which is pure."""
    return rules.classify(command)
