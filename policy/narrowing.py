"""Which policies a question can meet at all, so that a large set costs what a small one does.

By a policy's head always: Cedar tests it before any condition, so what it rules out would have been passed over without
an error. By the facts of principal and target only for plain permits, and only up to the first condition that those
facts do not settle: whoever got this wrong would lose a permission, never a `forbid`, a quorum or an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from policy.cedar import Compiled, Parsed
from policy.reading import ACTIONS, PLAIN, PRINCIPALS, Rule

WORTH: Final = 32
"""Policies that a head must leave over before facts are looked at: fewer are asked as fast."""
_PAIRS_KEPT = 512
_SETS_KEPT = 32

Facts = Mapping[str, Mapping[str, Any]]
"""What is known of `principal` and `resource`, as Cedar's JSON of entities."""


class Narrowed:
    """Rules by action and kind of principal, and by the facts of a pair where that is worth it."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._heads = {
            (action, kind): tuple(rule for rule in rules if action in rule.actions and kind in rule.principals)
            for action in ACTIONS
            for kind in PRINCIPALS
        }
        self._by_id = {rule.id: rule for rule in rules}
        self._names_read = lru_cache(maxsize=None)(self._read_by)
        self._of_pair = lru_cache(maxsize=_PAIRS_KEPT)(self._ids_of_pair)
        self._of_head = lru_cache(maxsize=None)(self._ids_of_head)
        self._compiled = lru_cache(maxsize=_SETS_KEPT)(self._compile)

    def of_context(self, actions: Sequence[str], kind: str, context: Mapping[str, object]) -> Mapping[str, object]:
        """What of a context any policy of these heads can see: questions that differ in the rest are one question."""
        names = self._names_read(tuple(actions), kind)
        return context if names is None else {name: value for name, value in context.items() if name in names}

    def of(self, actions: Sequence[str], kind: str, entities: str) -> Iterator[tuple[Sequence[str], Compiled]]:
        """What to ask, and which of the actions of it: several small sets are one question to Cedar.

        `entities` are the principal and the target, as Cedar's JSON, in this order.
        """
        if all(len(self._heads[action, kind]) <= WORTH for action in actions):
            yield actions, self._compiled(frozenset().union(*(self._of_head(action, kind) for action in actions)))
            return
        for action in actions:
            few = len(self._heads[action, kind]) <= WORTH
            ids = self._of_head(action, kind) if few else self._of_pair(action, kind, entities)
            yield (action,), self._compiled(ids)

    def _read_by(self, actions: Sequence[str], kind: str) -> frozenset[str] | None:
        rules = [rule for action in actions for rule in self._heads[action, kind]]
        read = [names_of_context(condition["body"]) for rule in rules for condition in rule.parsed["conditions"]]
        return None if None in read else frozenset().union(*(names for names in read if names is not None))

    def _ids_of_head(self, action: str, kind: str) -> frozenset[str]:
        return frozenset(rule.id for rule in self._heads[action, kind])

    def _ids_of_pair(self, action: str, kind: str, entities: str) -> frozenset[str]:
        principal, resource = json.loads(entities)
        facts = {"principal": principal, "resource": resource}
        return frozenset(rule.id for rule in self._heads[action, kind] if may_apply(rule, facts))

    def _compile(self, ids: frozenset[str]) -> Compiled:
        return Compiled({name: self._by_id[name].parsed for name in sorted(ids)})


def names_of_context(expression: object) -> frozenset[str] | None:
    """The attributes of `context` that an expression reads or asks for; None where it may read all of them."""
    match expression:
        case {"Var": "context"}:
            return None
        case {".": {"left": {"Var": "context"}, "attr": str(name)}}:
            return frozenset({name})
        case {"has": {"left": {"Var": "context"}, "attr": str(name)}}:
            return frozenset({name})
        case Mapping() | list():
            parts = expression.values() if isinstance(expression, Mapping) else expression
            found = [names_of_context(part) for part in parts]
            return None if None in found else frozenset().union(*(names for names in found if names is not None))
        case _:
            return frozenset()


def may_apply(rule: Rule, facts: Facts) -> bool:
    """False only for a plain permit with a condition that these facts make false before anything else is looked at."""
    if rule.effect != "permit" or rule.obligation != PLAIN:
        return True
    for condition in rule.parsed["conditions"]:
        for conjunct in _conjuncts(condition["body"]) if condition["kind"] == "when" else (None,):
            if (holds := _settled(conjunct, facts)) is not True:
                return holds is None
    return True


def _conjuncts(body: Parsed) -> Iterator[Parsed]:
    """The parts of `a && b && c`, in the order Cedar evaluates them."""
    if "&&" in body:
        yield from _conjuncts(body["&&"]["left"])
        yield from _conjuncts(body["&&"]["right"])
    else:
        yield body


def _settled(conjunct: Parsed | None, facts: Facts) -> bool | None:
    """Whether it holds, of the few shapes whose answer the facts alone give; None for all others."""
    match conjunct:
        case {"==": {"left": left, "right": {"Value": str(word)}}}:
            known = _known(left, facts)
            return known == word if isinstance(known, str) else None
        case {"contains": {"left": left, "right": {"Value": {"__entity": dict(member)}}}}:
            known = _known(left, facts)
            return {"__entity": member} in known if isinstance(known, list) else None
        case {"containsAny": {"left": left, "right": right}}:
            one, other = _known(left, facts), _known(right, facts)
            if isinstance(one, list) and isinstance(other, list):
                return any(member in other for member in one)
            return None
        case {"hasTag": {"left": {"Var": "resource"}, "right": {"Value": str(name)}}}:
            return name in facts["resource"]["tags"]
        case _:
            return None


def _known(expression: Parsed, facts: Facts) -> str | list[Any] | None:
    """The value of `principal.x`, `resource.x` or `resource.getTag("x")`, where there is one."""
    found: object = None
    match expression:
        case {".": {"left": {"Var": ("principal" | "resource") as whose}, "attr": str(name)}}:
            found = facts[whose]["attrs"].get(name)
        case {"getTag": {"left": {"Var": "resource"}, "right": {"Value": str(name)}}}:
            found = facts["resource"]["tags"].get(name)
        case _:
            pass
    return found if isinstance(found, str | list) else None
