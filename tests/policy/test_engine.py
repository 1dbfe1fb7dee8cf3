"""The laws of deciding, first as tables and then as properties over policies that say otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.classes import CommandClass, Tier
from policy.engine import (
    AccessQuery,
    Claims,
    Decision,
    Deny,
    NeedsApproval,
    Permit,
    PolicySet,
    shipped_policy,
)
from tests.policy.questions import (
    AGENT,
    APPROVER,
    EXECUTE,
    NOW,
    PERMIT_ALL,
    READ,
    TARGET,
    WRITE,
    access,
    action,
    approve,
    load,
)

SHIPPED = PolicySet.load(shipped_policy())


def _kind(decision: Decision) -> str:
    return {Permit: "runs", NeedsApproval: "asks", Deny: "never"}[type(decision)]


TIERS = {
    (Tier.APPROVAL, False): ["runs", "asks", "asks", "asks", "asks"],
    (Tier.APPROVAL, True): ["runs", "asks", "asks", "asks", "asks"],
    (Tier.TRUSTED, False): ["runs", "runs", "asks", "asks", "asks"],
    (Tier.TRUSTED, True): ["runs", "runs", "asks", "asks", "asks"],
    (Tier.CLOSED_LOOP, False): ["runs", "asks", "asks", "asks", "asks"],
    (Tier.CLOSED_LOOP, True): ["runs", "runs", "runs", "runs", "asks"],
}


@pytest.mark.parametrize(("tier", "verified"), TIERS, ids=str)
def test_the_tier_table(tier: Tier, *, verified: bool) -> None:
    """I-18: which classes run unattended, by tier and verification; reboot always asks, and a loop must be closed."""
    got = [_kind(SHIPPED.decide(action(cls, tier=tier, verified=verified))) for cls in CommandClass]
    assert got == TIERS[tier, verified]


@pytest.mark.parametrize(("tier", "cls", "verified"), list(product(Tier, CommandClass, (False, True))))
def test_opaque_always_asks(tier: Tier, cls: CommandClass, *, verified: bool) -> None:
    """I-16: what was not understood needs a person, whatever the tier."""
    assert _kind(SHIPPED.decide(action(cls, tier=tier, verified=verified, opaque=True))) == "asks"


@given(
    cls=st.sampled_from(CommandClass),
    ceiling=st.sampled_from(CommandClass),
    tier=st.sampled_from(Tier),
    opaque=st.booleans(),
    verified=st.booleans(),
)
@settings(max_examples=60)
def test_laws_hold_under_a_policy_that_permits_everything(
    cls: CommandClass, ceiling: CommandClass, tier: Tier, *, opaque: bool, verified: bool
) -> None:
    """I-04, I-16: no policy lifts the ceiling, and none lets an opaque command run without a person."""
    decision = load(PERMIT_ALL).decide(action(cls, tier=tier, opaque=opaque, verified=verified, ceiling=ceiling))
    level = max(cls, EXECUTE) if opaque else cls
    if level > ceiling:
        assert decision == Deny(reasons=("grant.ceiling",))
    else:
        assert _kind(decision) == ("asks" if opaque else "runs")


@given(cls=st.sampled_from(CommandClass), tier=st.sampled_from(Tier), opaque=st.booleans())
@settings(max_examples=40)
def test_the_ceiling_holds_in_cedar_too(cls: CommandClass, tier: Tier, *, opaque: bool) -> None:
    """I-04: the shipped policy itself forbids what exceeds the ceiling, so either layer alone would do."""
    query = action(cls, tier=tier, opaque=opaque, ceiling=READ)
    context = {"login": "l", "level": int(cls), "opaque": opaque, "egress": False, "ceiling": 1, "verified": True}
    context |= {"outlives": False, "weekday": 7}
    answers = SHIPPED._ask(  # noqa: SLF001 - the layer below the one that decides
        query.principal, query.target, ("run", "run_unattended"), context | {"flags": [], "now": _now()}
    )
    assert all(answer.allowed == (cls is READ and not (opaque and index)) for index, answer in enumerate(answers))


def _now() -> object:
    return {"__extn": {"fn": "datetime", "arg": "2026-11-22T03:00:00Z"}}


FORBIDS = {
    "run": 'forbid (principal, action == Action::"run", resource)',
    "both": 'forbid (principal, action in [Action::"run", Action::"run_unattended"], resource)',
    "everything": "forbid (principal, action, resource)",
}


@pytest.mark.parametrize(("forbid", "cls", "opaque"), list(product(FORBIDS, CommandClass, (False, True))))
def test_forbid_wins(forbid: str, cls: CommandClass, *, opaque: bool) -> None:
    """A forbid of running denies, whatever else permits, and the decision names it."""
    policies = load(f'{PERMIT_ALL} @id("freeze") {FORBIDS[forbid]};')
    assert policies.decide(action(cls, opaque=opaque)) == Deny(reasons=("freeze",))


def test_a_forbid_of_the_unattended_asks() -> None:
    """Forbidding only the unattended run leaves the asking."""
    policies = load(f'{PERMIT_ALL} @id("freeze") forbid (principal, action == Action::"run_unattended", resource);')
    assert _kind(policies.decide(action(READ))) == "asks"


@pytest.mark.parametrize("effect", ["permit", "forbid"])
@pytest.mark.parametrize("verb", ["run", "run_unattended"])
def test_any_error_while_deciding_denies(effect: str, verb: str) -> None:
    """I-16: Cedar skips a policy that fails and would allow; here any diagnostic denies."""
    scope = f'(principal, action == Action::"{verb}", resource)'
    broken = f'@id("bad") {effect} {scope} when {{ 9223372036854775807 + context.level > 0 }};'
    decision = load(f"{PERMIT_ALL} {broken}").decide(action(READ))
    assert isinstance(decision, Deny)
    assert decision.reasons[0].startswith("policy error: ")


@pytest.mark.parametrize("effect", ["permit", "forbid"])
def test_any_error_while_approving_denies(effect: str) -> None:
    """I-12: an approver is not let through by a policy that fails."""
    scope = '(principal, action == Action::"approve", resource)'
    broken = f'@id("bad") {effect} {scope} when {{ 9223372036854775807 + context.level > 0 }};'
    decision = load(f"{PERMIT_ALL} {broken}").decide(approve(APPROVER))
    assert isinstance(decision, Deny)
    assert decision.reasons[0].startswith("policy error: ")


@pytest.mark.parametrize("tier", Tier)
def test_what_an_operator_adds_does_not_lift_what_always_asks(tier: Tier) -> None:
    """I-16: beside a permit of everything unattended, the shipped forbids still make reboots and opaque ones ask."""
    lax = '@id("lax") permit (principal, action == Action::"run_unattended", resource);'
    policies = PolicySet.load({**shipped_policy(), "site.cedar": lax})
    assert [_kind(policies.decide(action(cls, tier=tier))) for cls in CommandClass] == ["runs"] * 4 + ["asks"]
    assert [_kind(policies.decide(action(cls, tier=tier, opaque=True))) for cls in CommandClass] == ["asks"] * 5


def test_a_failing_engine_denies() -> None:
    """A question that the engine cannot even take is denied, not raised."""
    query = action(READ, principal=replace(AGENT, id="\ud800"))
    decision = load(PERMIT_ALL).decide(query)
    assert isinstance(decision, Deny)
    assert decision.reasons[0].startswith("policy error: ")


@pytest.mark.parametrize("policies", [SHIPPED, load(PERMIT_ALL)], ids=["shipped", "permit-all"])
def test_no_decision_crosses_a_tenant(policies: PolicySet) -> None:
    """I-40: another tenant's principal is denied for every kind of question, also by a policy that permits all."""
    stranger = replace(AGENT, tenant="t2")
    outsider = replace(APPROVER, tenant="t2", role="owner")
    denied = Deny(reasons=("tenant.isolation",))
    assert policies.decide(action(READ, principal=stranger)) == denied
    assert policies.decide(access(principal=stranger)) == denied
    assert policies.decide(approve(outsider)) == denied
    assert policies.decide(approve(APPROVER, requester=stranger)) == denied
    assert policies.decide(approve(APPROVER, target=replace(TARGET, tenant="t2"))) == denied


def test_equal_team_names_of_two_tenants_are_two_teams() -> None:
    """I-40: in Cedar as well: the shipped policy alone denies a stranger whose team has the same name."""
    stranger = replace(AGENT, tenant="t2")
    context = {"login": "l", "level": 1, "opaque": False, "egress": False, "ceiling": 5, "verified": False}
    context |= {"outlives": False, "weekday": 7}
    answers = SHIPPED._ask(stranger, TARGET, ("run", "run_unattended"), context | {"flags": [], "now": _now()})  # noqa: SLF001
    assert [answer.reasons for answer in answers] == [("tenant.isolation",)] * 2


@pytest.mark.parametrize("policies", [SHIPPED, load(PERMIT_ALL)], ids=["shipped", "permit-all"])
def test_nobody_approves_what_is_their_own(policies: PolicySet) -> None:
    """I-12: not their own request, not their agent's, not an agent at all; also for Owners and any policy."""
    denied = Deny(reasons=("approve.not_oneself",))
    boss = replace(APPROVER, role="owner")
    assert policies.decide(approve(boss, requester=boss)) == denied
    assert policies.decide(approve(boss, requester=replace(AGENT, owner=boss.id))) == denied
    assert policies.decide(approve(AGENT, requester=replace(AGENT, id="other", owner=""))) == denied


@pytest.mark.parametrize("owner", [True, False])
def test_cedar_refuses_the_own_request_too(*, owner: bool) -> None:
    """I-12: the second layer, asked alone."""
    context = {
        "requester": "x" if owner else APPROVER.id,
        "requester_kind": "agent" if owner else "person",
        "requester_tenant": "t1",
        "requester_owner": APPROVER.id if owner else "",
        "subject": "action",
        "level": 2,
        "security_key": False,
        "user_verified": False,
        "weekday": 7,
        "now": _now(),
    }
    (answer,) = SHIPPED._ask(APPROVER, TARGET, ("approve",), context)  # noqa: SLF001
    assert (answer.allowed, answer.reasons) == (False, ("approve.not_oneself",))


@pytest.mark.parametrize(
    ("role", "teams", "allowed"),
    [
        ("owner", {"other"}, True),
        ("admin", set(), True),
        ("manager", {"ops"}, True),
        ("manager", {"other"}, False),
        ("viewer", {"ops"}, False),
        ("", {"ops"}, False),
    ],
)
def test_who_may_approve(role: str, teams: set[str], *, allowed: bool) -> None:
    """Owners and admins everywhere, managers for their team's targets, nobody else."""
    decision = SHIPPED.decide(approve(replace(APPROVER, role=role, teams=frozenset(teams))))
    assert isinstance(decision, Permit) == allowed


@pytest.mark.parametrize(
    ("condition", "holds", "fails"),
    [
        ('context.subject == "access" && context.level <= 2', {"subject": "access"}, {}),
        ("context.security_key", {"security_key": True}, {}),
        ("context.user_verified", {"user_verified": True}, {"security_key": True}),
        ("context.weekday == 7", {}, {"now": NOW + timedelta(days=1)}),
    ],
)
def test_what_an_approval_is_asked_with(condition: str, holds: dict[str, Any], fails: dict[str, Any]) -> None:
    """I-12: what is decided, and how the approver signed, reach policies."""
    policies = load(f'@id("a") permit (principal, action == Action::"approve", resource) when {{ {condition} }};')
    assert isinstance(policies.decide(replace(approve(APPROVER), **holds)), Permit)
    assert isinstance(policies.decide(replace(approve(APPROVER), **fails)), Deny)


@pytest.mark.parametrize(
    ("condition", "claimed"),
    [
        ('context.claimed.ticket like "CHG-*"', Claims(ticket="CHG-1", reason=True, evidence=False)),
        ("!context.claimed.reason", Claims(ticket="", reason=False, evidence=False)),
        ("context.claimed.evidence", Claims(ticket="", reason=True, evidence=True)),
    ],
)
def test_claims_reach_policies_as_claims(condition: str, claimed: Claims) -> None:
    """What the requester merely says is under `claimed`, and nowhere else."""
    policies = load(f'@id("a") permit (principal, action == Action::"request", resource) when {{ {condition} }};')
    assert isinstance(policies.decide(replace(access(), claimed=claimed)), NeedsApproval)
    assert isinstance(policies.decide(access()), Deny)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (access(), "runs"),
        (access(flags=frozenset({"sftp"})), "asks"),
        (access(principal=APPROVER), "asks"),
        (access(ttl=timedelta(hours=8)), "runs"),
        (access(ttl=timedelta(hours=8, milliseconds=1)), "never"),
        (access(ttl=timedelta(0)), "never"),
        (access(ttl=timedelta(seconds=-1)), "never"),
        (access(ttl=timedelta(days=3650)), "never"),
        (access(principal=replace(AGENT, teams=frozenset({"other"}))), "never"),
    ],
)
def test_access_requests(query: AccessQuery, expected: str) -> None:
    """Agents of the target's team get plain access unasked; flags and people ask; everything else is denied."""
    assert _kind(SHIPPED.decide(query)) == expected


@given(st.lists(st.integers(1, 10), max_size=4))
@settings(max_examples=30)
def test_the_largest_quorum_counts(numbers: list[int]) -> None:
    """`@approvers` of every permit that applies is asked for; the strictest wins, one is the least."""
    extra = "".join(
        f'@id("q{index}") @approvers("{number}") permit (principal, action == Action::"run", resource);'
        for index, number in enumerate(numbers)
    )
    decision = load(f'@id("base") permit (principal, action == Action::"run", resource); {extra}').decide(action(WRITE))
    assert isinstance(decision, NeedsApproval)
    assert decision.quorum == max([1, *numbers])


def test_roles_are_narrowed() -> None:
    """`@roles` narrows who may approve; roles that exclude one another leave nobody, which denies."""
    first = '@id("a") @roles("owner admin") permit (principal, action == Action::"run", resource);'
    second = '@id("b") @roles("manager") permit (principal, action == Action::"run", resource);'
    decision = load(first).decide(action(WRITE))
    assert isinstance(decision, NeedsApproval)
    assert decision.roles == {"owner", "admin"}
    assert isinstance(load(first + second).decide(action(WRITE)), Deny)


@pytest.mark.parametrize(
    ("annotations", "watchers"),
    [
        ([], set()),
        (["@watched"], {"owner", "admin", "manager"}),
        (['@watched("")'], {"owner", "admin", "manager"}),
        (['@watched("owner admin")', "", "@watched"], {"owner", "admin"}),
        (['@watched("owner admin")', '@watched("admin manager")'], {"admin"}),
    ],
    ids=["nobody", "plain", "empty", "several", "both"],
)
def test_who_must_watch(annotations: list[str], watchers: set[str]) -> None:
    """F14: `@watched` of every permit that applies narrows who; it counts also where nobody has to approve."""
    head = "permit (principal, action == Action::"
    asks = "".join(f'@id("r{n}") {each} {head}"run", resource);' for n, each in enumerate(annotations))
    asked = load(asks + f'@id("run") {head}"run", resource);').decide(action(WRITE))
    alone = load(asks + '@id("all") permit (principal, action, resource);').decide(action(WRITE))
    assert isinstance(asked, NeedsApproval)
    assert isinstance(alone, Permit)
    assert asked.watchers == alone.watchers == watchers


def test_whom_nobody_may_watch_is_denied() -> None:
    """Roles that exclude one another leave nobody; what does not apply asks for nothing."""
    one, other = '@id("a") @watched("owner")', '@id("b") @watched("manager")'
    permit = 'permit (principal, action == Action::"run", resource)'
    assert isinstance(load(f"{one} {permit};{other} {permit};").decide(action(WRITE)), Deny)
    elsewhere = load(f"{one} {permit};{other} {permit} when {{ context.level == 5 }};").decide(action(WRITE))
    assert isinstance(elsewhere, NeedsApproval)
    assert elsewhere.watchers == {"owner"}
    unattended = 'permit (principal, action == Action::"run_unattended", resource)'
    runs = load(f"{one} {unattended};").decide(action(WRITE))
    assert runs == Permit(reasons=("a",), watchers=frozenset({"owner"}))


def test_only_permitted_unattended() -> None:
    """A permit of the unattended run alone runs; an opaque command then has nobody to ask."""
    policies = load('@id("u") permit (principal, action == Action::"run_unattended", resource);')
    assert policies.decide(action(WRITE)) == Permit(reasons=("u",))
    assert policies.decide(action(WRITE, opaque=True)) == Deny(reasons=("opaque.asks",))


def test_what_keeps_it_from_going_alone_is_told() -> None:
    """A forbid of the unattended run is a reason of the asking, beside the rule that permits it with a person."""
    ask = '@id("ours") forbid (principal, action == Action::"run_unattended", resource) when { context.level == 2 };'
    policies = PolicySet.load({**shipped_policy(), "ours.cedar": ask})
    decision = policies.decide(action(WRITE))
    assert isinstance(decision, NeedsApproval)
    assert decision.reasons == ("run.team", "ours")
    decision = policies.decide(action(WRITE, opaque=True))
    assert isinstance(decision, NeedsApproval)
    assert decision.reasons == ("run.team", "opaque.asks")


def test_labels_time_and_login_reach_policies() -> None:
    """What the schema promises is there: labels as tags, the time, the login."""
    text = """@id("window") permit (principal, action == Action::"run_unattended", resource) when {
      resource.hasTag("env") && resource.getTag("env") == "prod" && context.login == "deploy" &&
      context.now < datetime("2026-11-22T04:00:00Z") && resource.name like "web*" };"""
    assert isinstance(load(text).decide(action(WRITE)), Permit)
    assert isinstance(load(text).decide(action(WRITE, target=replace(TARGET, labels={}))), Deny)
    assert isinstance(load(text).decide(replace(action(WRITE), now=NOW + timedelta(hours=1))), Deny)
