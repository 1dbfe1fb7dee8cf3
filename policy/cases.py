"""Cases: what an operator expects of a set of policies, as `given` and `expect` in a TOML file, and whether it holds.

A case that names a command sends it through the classifier, the tenant's own programs included. Keys are strict: a
misspelt one would otherwise be a case that proves nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policy.classes import CommandClass
from policy.engine import Decision, Deny, NeedsApproval, Permit, shipped_policy
from policy.explain import word_of
from policy.given import CaseError, Table, asked, number, table, word, words
from policy.ruleset import Ruleset
from policy.shell import Verdict
from policy.vocabulary import APPROVER_ROLES

__all__ = ["SUFFIX", "CaseError", "Outcome", "run_cases"]

SUFFIX: Final = ".test.toml"
SHIPPED: Final = "shipped"
"""In `policies`: the policy that ships, instead of a file."""
DECISIONS: Final = ("permit", "needs_approval", "deny", "refused")
_FILE_KEYS: Final = ("policies", "given", "case")
_CASE_KEYS: Final = ("name", "given", "expect")
_EXPECT_KEYS: Final = ("decision", "quorum", "roles", "watched", "rules", "class")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One case, tried. `differences` are empty if it holds; `got` is the whole answer in one line."""

    file: str
    name: str
    differences: tuple[str, ...]
    got: str


def run_cases(file: str, text: str, sources: Mapping[str, str]) -> Sequence[Outcome]:
    """Try every case of a file against the sources beside it (file name to text).

    Raises:
        CaseError: the file is not one of cases: not TOML, an unknown key, a value of the wrong kind, no case in it.
        RulesetError: the policies do not load.
    """
    try:
        whole = tomllib.loads(text)
        known = table(whole, _FILE_KEYS, "the file")
        rules = Ruleset.load(_chosen(known, sources))
        defaults = known.get("given", {})
        cases = known.get("case", [])
        if not isinstance(cases, list) or not cases:
            raise CaseError("no [[case]] in it")
        return [_tried(file, index, case, defaults, rules) for index, case in enumerate(cases, 1)]
    except (tomllib.TOMLDecodeError, RecursionError, CaseError) as error:
        raise CaseError(f"{file}: {error}") from None


def _chosen(known: Table, sources: Mapping[str, str]) -> Mapping[str, str]:
    """What the cases are tried against: all that stands beside the file, or what `policies` lists."""
    if "policies" not in known:
        return sources
    chosen: dict[str, str] = {}
    for name in words(known, "policies", ()):
        if name == SHIPPED:
            chosen.update(shipped_policy())
        elif name in sources:
            chosen[name] = sources[name]
        else:
            raise CaseError(f"policies: there is no {name!r} beside it")
    return chosen


def _tried(file: str, index: int, case: object, defaults: object, rules: Ruleset) -> Outcome:
    parts = table(case, _CASE_KEYS, f"case {index}")
    name = word(parts, "name", f"case {index}")
    try:
        expected = table(parts.get("expect"), _EXPECT_KEYS, "expect")
        asking = asked(defaults, parts.get("given", {}), rules.classify)
        decision = None if asking.query is None else rules.decide(asking.query)
        got = _answer(decision, asking.verdict)
        return Outcome(file=file, name=name, differences=tuple(_differences(expected, got)), got=_line(got))
    except CaseError as error:
        raise CaseError(f"{name}: {error}") from None


def _answer(decision: Decision | None, verdict: Verdict | None) -> dict[str, Any]:
    """An answer under the names that `expect` has for its parts."""
    seen = {} if verdict is None else {"class": word_of(verdict)}
    match decision:
        case None:
            return {"decision": "refused", **seen}
        case Permit(reasons=reasons, watchers=watchers):
            return {"decision": "permit", **_watched(watchers), "rules": sorted(reasons), **seen}
        case Deny(reasons=reasons):
            return {"decision": "deny", "rules": sorted(reasons), **seen}
        case NeedsApproval(quorum=quorum, roles=roles, watchers=watchers, reasons=reasons):
            asks = {"quorum": quorum, "roles": sorted(roles), **_watched(watchers)}
            return {"decision": "needs_approval", **asks, "rules": sorted(reasons), **seen}


def _watched(watchers: frozenset[str]) -> dict[str, Any]:
    return {"watched": sorted(watchers)} if watchers else {}


def _differences(expected: Table, got: Mapping[str, Any]) -> Sequence[str]:
    wanted: dict[str, Any] = {}
    if "decision" not in expected:
        raise CaseError("expect: no decision")
    wanted["decision"] = word(expected, "decision", "", among=DECISIONS)
    if "quorum" in expected:
        wanted["quorum"] = number(expected, "quorum")
    for key, among in (("roles", tuple(sorted(APPROVER_ROLES))), ("rules", ())):
        if key in expected:
            wanted[key] = sorted(words(expected, key, (), among=among))
    if "watched" in expected:
        wanted["watched"] = sorted(words(expected, "watched", (), among=tuple(sorted(APPROVER_ROLES)))) or None
    if "class" in expected:
        wanted["class"] = word(expected, "class", "", among=(*(cls.word for cls in CommandClass), "refused"))
    return [
        f"{key}: expected {_shown(value)}, got {_shown(got.get(key))}"
        for key, value in wanted.items()
        if got.get(key) != value
    ]


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case list():
            return ", ".join(map(str, value)) or "none"
        case _:
            return str(value)


def _line(got: Mapping[str, Any]) -> str:
    return "; ".join(f"{key} {_shown(value)}" for key, value in got.items())
