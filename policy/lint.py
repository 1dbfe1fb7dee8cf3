"""What loads and is probably not meant: a policy that can never apply, a word that nothing has, a default that is gone.

Warnings only. It claims no completeness: that a policy is silent here proves nothing about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from policy.cedar import Parsed
from policy.complaints import offset_of
from policy.reading import Position, Problem, Rule, read
from policy.vocabulary import CLOSED, LEVELS, OPEN, meant

_HELD_IN_PYTHON: Final = {
    "tenant.isolation": "no decision crosses a tenant",
    "grant.ceiling": "nothing exceeds the grant's ceiling",
    "opaque.asks": "what was not understood always needs a person",
    "approve.not_oneself": "nobody approves what they or their agent asked for",
    "approve.tenant": "nobody approves across tenants",
}
"""Shipped forbids that the broker enforces by itself as well: a set without them is as safe."""
_NEEDED: Final = {
    "request": "nobody can ask for access",
    "run": "whatever does not run unattended is denied, never asked",
    "approve": "nobody can say yes to anything",
}
_ORDER: Final = ("==", "<", "<=", ">", ">=")


def warnings(rules: Sequence[Rule], shipped: Mapping[str, str]) -> tuple[Problem, ...]:
    """What is suspicious about rules that load as one set, beside the sources of the shipped policy."""
    of_rules = [problem for rule in rules for problem in _of_rule(rule)]
    return (*sorted(of_rules), *_of_set(rules, shipped))


def unknown_teams(rules: Sequence[Rule], known: Iterable[str]) -> Iterator[Problem]:
    """Teams that policies name and that are none of `known`, each with its tenant: `main/ops`."""
    teams = frozenset(known)
    for rule in rules:
        for node in _nodes([condition["body"] for condition in rule.parsed["conditions"]]):
            match node.get("__entity"):
                case {"type": "Team", "id": str(name)} if name not in teams and "/" in name:
                    yield _warning(rule, f'"{name}"', f'there is no team "{name}"{meant(name, teams)}')
                case _:
                    pass


def _of_rule(rule: Rule) -> Iterator[Problem]:
    if rule.obligation.quorum > 1 or rule.obligation.roles:
        yield from _of_obligation(rule)
    if rule.obligation.watchers and (rule.effect == "forbid" or not rule.actions & {"run", "run_unattended"}):
        yield _warning(rule, "watched", "@watched counts only on a permit of `run` or `run_unattended`")
    for node in _nodes([condition["body"] for condition in rule.parsed["conditions"]]):
        yield from _of_word(rule, node)
        yield from _of_level(rule, node)
        yield from _of_team(rule, node)
    if why := _contradiction(rule.parsed["conditions"]):
        yield _warning(rule, "", f"it can never apply: {why}")


def _of_obligation(rule: Rule) -> Iterator[Problem]:
    """What asks for people where nobody is asked."""
    if rule.effect == "forbid" or not rule.actions & {"run", "request"}:
        yield _warning(rule, "@", "@approvers and @roles count only on a permit of `run` or `request`")
    elif alone := sorted(rule.actions & {"run_unattended", "request_unattended"}):
        yield _warning(rule, "@", f"it asks for people, and permits {' and '.join(alone)}, where nobody is asked")


def _nodes(value: object) -> Iterator[Parsed]:
    """Every operator of an expression, outermost first."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def _of_word(rule: Rule, node: Parsed) -> Iterator[Problem]:
    """A text compared with what only ever holds one of a few."""
    for operator in ("==", "!=", "contains"):
        match node.get(operator):
            case {"left": left, "right": {"Value": str(word)}}:
                known = CLOSED.get(_path(left))
                if known and word not in known and not word.startswith(OPEN.get(_path(left), ("\0",))):
                    yield _warning(rule, f'"{word}"', f'{_path(left)} is never "{word}"{meant(word, known)}')
            case _:
                pass


def _of_level(rule: Rule, node: Parsed) -> Iterator[Problem]:
    for operator in _ORDER:
        match node.get(operator):
            case {"left": left, "right": {"Value": int(number)}} if (span := LEVELS.get(_path(left))) is not None:
                if number not in span:
                    said = f"{_path(left)} is always from {span[0]} to {span[-1]}, never {number}"
                    yield _warning(rule, str(number), said)
            case _:
                pass


def _of_team(rule: Rule, node: Parsed) -> Iterator[Problem]:
    match node.get("__entity"):
        case {"type": "Team", "id": str(name)} if "/" not in name:
            yield _warning(rule, f'"{name}"', f'a team is written with its tenant: Team::"TENANT/{name}"')
        case _:
            pass


def _contradiction(conditions: Sequence[Parsed]) -> str:
    """Why no question meets the conditions, as far as it is plain from their parts; "" where it is not."""
    wanted: dict[str, object] = {}
    for condition in conditions:
        never = condition["kind"] == "unless"
        if condition["body"].get("Value") is never:
            return f"`{condition['kind']} {{ {str(never).lower()} }}`"
        for part in () if never else _parts(condition["body"]):
            match part:
                case {"Value": False}:
                    return "`false` is one of its conditions"
                case {"==": {"left": left, "right": {"Value": value}}} if _path(left):
                    if wanted.setdefault(_path(left), value) != value:
                        return f"{_path(left)} cannot be {wanted[_path(left)]!r} and {value!r}"
                case _:
                    pass
    return ""


def _parts(body: Parsed) -> Iterator[Parsed]:
    if "&&" in body:
        yield from _parts(body["&&"]["left"])
        yield from _parts(body["&&"]["right"])
    else:
        yield body


def _path(expression: Any) -> str:  # noqa: ANN401  a node of Cedar's JSON
    """`principal.role` for such an attribute, "" for anything else."""
    match expression:
        case {".": {"left": {"Var": str(whose)}, "attr": str(name)}}:
            return f"{whose}.{name}"
        case _:
            return ""


def _of_set(rules: Sequence[Rule], shipped: Mapping[str, str]) -> Iterator[Problem]:
    """What a set lacks. A default that differs is only named: that is what policies are edited for."""
    have = {rule.id: rule for rule in rules}
    whole = Position(file="the set", line=1, column=1)
    for default in read(shipped).rules:
        mine = have.get(default.id)
        if mine is None and default.effect == "forbid":
            held = _HELD_IN_PYTHON.get(default.id)
            safe = f"still safe: the broker itself holds that {held}" if held else "nothing else holds it"
            said = f"the shipped `{default.id}` is not in it; {safe}"
            yield Problem(where=whole, policy="", message=said, warning=True)
        elif mine is not None and mine.effect != default.effect:
            yield _warning(mine, "@id", f"it has the name of a shipped {default.effect}, and is a {mine.effect}")
    for action, lack in _NEEDED.items():
        if not any(rule.effect == "permit" and action in rule.actions for rule in rules):
            yield Problem(where=whole, policy="", message=f"no policy permits `{action}`: {lack}", warning=True)


def _warning(rule: Rule, word: str, message: str) -> Problem:
    before = rule.text[: offset_of(rule.text, word)]
    lines = before.count("\n")
    column = len(before) - before.rfind("\n") if lines else rule.where.column + len(before)
    where = Position(file=rule.where.file, line=rule.where.line + lines, column=column)
    return Problem(where=where, policy=rule.id, message=message, warning=True)
