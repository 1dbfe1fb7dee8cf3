"""A narrowed set answers as the whole one does: law first, over policies that match, miss and fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.cedar import Answer, CedarError, Compiled, parse
from policy.narrowing import WORTH, Narrowed, may_apply, names_of_context
from policy.reading import ACTIONS, Rule, read

HEADS = (
    "principal, action, resource",
    'principal, action == Action::"run", resource',
    'principal, action in [Action::"run", Action::"run_unattended"], resource',
    'principal is Agent, action == Action::"run_unattended", resource',
    'principal == Agent::"t/a", action == Action::"run", resource',
    'principal is Person, action == Action::"approve", resource',
    'principal, action, resource == Target::"t/web2"',
)
FAILS = "9223372036854775807 + context.ceiling > 0"
CONDITIONS = (
    'principal.teams.contains(Team::"t/ops")',
    'principal.teams.contains(Team::"t/db")',
    "principal.teams.containsAny(resource.teams)",
    'resource.name == "web1"',
    'resource.tier == "trusted"',
    'principal.id == "b"',
    'resource.hasTag("env") && resource.getTag("env") == "prod"',
    '!(resource.name == "web2") || resource.tier == "trusted"',
    'context.login == "deploy"',
    "context.level <= 2",
    "context has verified && !context.verified",
    'context.now < datetime("2026-11-23T00:00:00Z")',
    'if context.egress then context.flags.isEmpty() else ["a", context.login].contains("deploy")',
    FAILS,
)
UNSETTLED = "principal.tenant == resource.tenant"
BARE = 'principal.teams.contains(Team::"t/ops")'


def _context() -> dict[str, object]:
    common = {"now": {"__extn": {"fn": "datetime", "arg": "2026-11-22T03:00:00Z"}}}
    run = {
        "login": "deploy",
        "level": 2,
        "opaque": False,
        "egress": False,
        "ceiling": 5,
        "verified": False,
        "flags": [],
        "outlives": False,
        "weekday": 7,
    }
    return common | run


def _entities(kind: str, name: str, *, teams: list[str], tags: dict[str, str]) -> str:
    found = [{"__entity": {"type": "Team", "id": f"t/{team}"}} for team in teams]
    who = {"id": name, "tenant": "t", "teams": found} | ({"owner": ""} if kind == "Agent" else {"role": "owner"})
    what = {"name": "web1", "tenant": "t", "tier": "approval", "teams": [found[0]] if found else []}
    return json.dumps(
        [
            {"uid": {"type": kind, "id": f"t/{name}"}, "attrs": who, "parents": []},
            {"uid": {"type": "Target", "id": "t/web1"}, "attrs": what, "parents": [], "tags": tags},
        ]
    )


@st.composite
def _rules(draw: st.DrawFn) -> list[Rule]:
    """Some that load, of every head and condition, with and without what they ask of an approval."""
    texts = []
    for index in range(draw(st.integers(1, 12))):
        head, effect = draw(st.sampled_from(HEADS)), draw(st.sampled_from(("permit", "permit", "forbid")))
        note = draw(st.sampled_from(("", '@approvers("2")', '@roles("owner")', "@watched")))
        parts = draw(st.lists(st.sampled_from(CONDITIONS), max_size=3))
        kind = draw(st.sampled_from(("when", "unless")))
        body = f" {kind} {{ {' && '.join(parts)} }}" if parts else ""
        texts.append(f'@id("p{index}") {note} {effect} ({head}){body};')
    return list(read({"x.cedar": "\n".join(texts)}).rules)


def _ask(
    compiled: Compiled, kind: str, name: str, action: str, entities: str, context: Mapping[str, object] | None = None
) -> Answer:
    seen = json.dumps(_context() if context is None else context)
    (answer,) = compiled.ask((kind, f"t/{name}"), (action,), "t/web1", seen, entities)
    return answer


def _one(narrowed: Narrowed, kind: str, name: str, action: str, entities: str) -> Answer:
    ((some, compiled),) = narrowed.of((action,), kind, entities)
    assert some == (action,)
    return _ask(compiled, kind, name, action, entities, narrowed.of_context((action,), kind, _context()))


def _both(narrowed: Narrowed, kind: str, name: str, entities: str) -> list[Answer]:
    """With and without a person, in one question where the sets are small."""
    asked = narrowed.of(("run", "run_unattended"), kind, entities)
    who = (kind, f"t/{name}")
    seen = json.dumps(narrowed.of_context(("run", "run_unattended"), kind, _context()))
    return [one for some, compiled in asked for one in compiled.ask(who, some, "t/web1", seen, entities)]


@pytest.mark.timeout(300)  # of many examples under load
@given(
    rules=_rules(),
    kind=st.sampled_from(("Agent", "Person")),
    name=st.sampled_from("ab"),
    action=st.sampled_from(("run", "run_unattended")),
    teams=st.lists(st.sampled_from(("ops", "db")), unique=True),
    tags=st.dictionaries(st.just("env"), st.sampled_from(("prod", "test"))),
)
def test_narrowing_changes_no_answer(
    rules: list[Rule], kind: str, name: str, action: str, teams: list[str], tags: dict[str, str]
) -> None:
    """I-16: decision, reasons and errors of what is left are those of the whole set, by head and by facts."""
    entities = _entities(kind, name, teams=teams, tags=tags)
    whole = _ask(Compiled({rule.id: rule.parsed for rule in rules}), kind, name, action, entities)
    facts = dict(zip(("principal", "resource"), json.loads(entities), strict=True))
    left = [rule for rule in rules if action in rule.actions and kind in rule.principals and may_apply(rule, facts)]
    assert _ask(Compiled({rule.id: rule.parsed for rule in left}), kind, name, action, entities) == whole
    assert _one(Narrowed(rules), kind, name, action, entities) == whole
    assert _both(Narrowed(rules), kind, name, entities)[action == "run_unattended"] == whole


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("true", set()),
        ("context.level <= 2", {"level"}),
        ('context has now && context.now < datetime("2026-11-23T00:00:00Z")', {"now"}),
        ('[context.login, "a"].contains(context.login) || context.flags.isEmpty()', {"login", "flags"}),
        ("if context.egress then context.opaque else context.verified", {"egress", "opaque", "verified"}),
        ("context == {} || context.level <= 2", None),
    ],
)
def test_a_policy_sees_of_the_context_what_it_names(condition: str, names: set[str] | None) -> None:
    """I-16: what is left out of a question is what no policy could have looked at; a whole context is kept whole."""
    (policy,) = parse(f'@id("x") permit (principal, action, resource) when {{ {condition} }};')
    assert names_of_context(policy["conditions"][0]["body"]) == names


@pytest.mark.parametrize(
    ("rule", "stays"),
    [
        (f"permit (principal, action, resource) when {{ {BARE} }};", False),
        (f'permit (principal, action, resource) when {{ {BARE} && principal.tenant == "t" }};', False),
        (f"permit (principal, action, resource) when {{ {UNSETTLED} && {BARE} }};", True),
        (f"permit (principal, action, resource) when {{ {UNSETTLED} }} when {{ {BARE} }};", True),
        (f"permit (principal, action, resource) unless {{ {BARE} }};", True),
        (f"forbid (principal, action, resource) when {{ {BARE} }};", True),
        (f'@approvers("2") permit (principal, action, resource) when {{ {BARE} }};', True),
        (f"@watched permit (principal, action, resource) when {{ {BARE} }};", True),
        (f'@roles("owner") permit (principal, action, resource) when {{ {BARE} }};', True),
        (f'permit (principal, action, resource) when {{ {BARE} || principal.id == "a" }};', True),
        (f"permit (principal, action, resource) when {{ !{BARE} }};", True),
    ],
)  # fmt: skip
def test_only_a_plain_permit_is_left_out(rule: str, *, stays: bool) -> None:
    """I-16: never a forbid, a quorum or a role, nor what stands behind a condition that facts do not settle."""
    (read_rule,) = read({"x.cedar": f'@id("x") {rule}'}).rules
    facts = dict(zip(("principal", "resource"), json.loads(_entities("Agent", "a", teams=[], tags={})), strict=True))
    assert may_apply(read_rule, facts) is stays


def test_a_thousand_policies_are_few_questions() -> None:
    """Of many plain permits of other teams, none is asked; a forbid among them still is."""
    texts = [
        f'@id("p{index}") permit (principal, action == Action::"{action}", resource) '
        f'when {{ principal.teams.contains(Team::"t/team{index}") }};'
        for index, action in zip(range(1000), ACTIONS * 200, strict=True)
    ]
    texts.append('@id("stop") forbid (principal, action == Action::"run", resource) when { resource.name == "web1" };')
    narrowed = Narrowed(read({"x.cedar": "\n".join(texts)}).rules)
    entities = _entities("Agent", "a", teams=["team2", "team7"], tags={})
    ids = narrowed._of_pair("run", "Agent", entities)  # noqa: SLF001 - how few are left is the point
    assert len(texts) // len(ACTIONS) > WORTH
    assert ids == {"p2", "p7", "stop"}
    answer = _one(narrowed, "Agent", "a", "run", entities)
    assert (answer.allowed, answer.reasons) == (False, ("stop",))


def test_a_failing_forbid_still_denies_in_a_large_set() -> None:
    """I-16: a forbid that fails inside is asked however many policies stand around it, and its error is told."""
    many = [
        f'@id("p{n}") permit (principal, action, resource) when {{ resource.name == "h{n}" }};' for n in range(WORTH)
    ]
    both = 'action in [Action::"run", Action::"run_unattended"]'
    bad = f'@id("bad") forbid (principal, {both}, resource) when {{ resource.name == "web1" && {FAILS} }};'
    every = '@id("all") permit (principal, action, resource);'
    narrowed = Narrowed(read({"x.cedar": "\n".join([*many, bad, every])}).rules)
    entities = _entities("Agent", "a", teams=[], tags={})
    for kind, action in product(("Agent", "Person"), ("run", "run_unattended")):
        given_kind = _entities(kind, "a", teams=[], tags={})
        answer = _one(narrowed, kind, "a", action, given_kind)
        assert not answer.allowed
        assert "bad" in answer.error
    assert len(narrowed._of_pair("run", "Agent", entities)) == 2  # noqa: SLF001


def test_what_cedar_cannot_read_is_an_error() -> None:
    """The module under the reading raises one kind of error for a text that is no policy."""
    with pytest.raises(CedarError):
        parse("permit (")
