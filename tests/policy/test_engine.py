"""The laws of deciding, first as tables and then as properties over policies that say otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.cedar import schema_text
from policy.classes import CommandClass, Tier
from policy.engine import (
    AccessQuery,
    ActionQuery,
    ApproveQuery,
    Claims,
    Decision,
    Deny,
    NeedsApproval,
    Permit,
    PolicyError,
    PolicySet,
    Principal,
    Query,
    Resource,
    shipped_policy,
)
from policy.narrowing import Narrowed

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
READ, WRITE, EXECUTE, INSTALL, REBOOT = CommandClass
SHIPPED = PolicySet.load(shipped_policy())
AGENT = Principal(kind="agent", id="deployer", tenant="t1", teams=frozenset({"ops"}), role="", owner="agent-owner")
APPROVER = Principal(kind="person", id="approver", tenant="t1", teams=frozenset({"ops"}), role="manager", owner="")
TARGET = Resource(
    id="web1", name="web1", tenant="t1", tier=Tier.APPROVAL, teams=frozenset({"ops"}), labels={"env": "prod"}
)
PERMIT_ALL = '@id("all") permit (principal, action, resource);'


def _action(
    command_class: CommandClass = READ,
    *,
    tier: Tier = Tier.APPROVAL,
    opaque: bool = False,
    verified: bool = False,
    ceiling: CommandClass = REBOOT,
    principal: Principal = AGENT,
    target: Resource = TARGET,
) -> ActionQuery:
    return ActionQuery(
        principal=principal,
        target=replace(target, tier=tier),
        login="deploy",
        command_class=command_class,
        opaque=opaque,
        egress=False,
        outlives=False,
        ceiling=ceiling,
        verified=verified,
        flags=frozenset(),
        now=NOW,
    )


def _access(
    ttl: timedelta = timedelta(hours=1), flags: frozenset[str] = frozenset(), principal: Principal = AGENT
) -> AccessQuery:
    return AccessQuery(
        principal=principal,
        target=TARGET,
        login="deploy",
        ceiling=EXECUTE,
        flags=flags,
        ttl=ttl,
        claimed=Claims(ticket="", reason=True, evidence=False),
        now=NOW,
    )


def _approve(approver: Principal, requester: Principal = AGENT, target: Resource = TARGET) -> ApproveQuery:
    return ApproveQuery(
        principal=approver,
        requester=requester,
        target=target,
        subject="action",
        level=WRITE,
        security_key=False,
        user_verified=False,
        now=NOW,
    )


def _load(text: str) -> PolicySet:
    return PolicySet.load({"test.cedar": text})


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
    got = [_kind(SHIPPED.decide(_action(cls, tier=tier, verified=verified))) for cls in CommandClass]
    assert got == TIERS[tier, verified]


@pytest.mark.parametrize(("tier", "cls", "verified"), list(product(Tier, CommandClass, (False, True))))
def test_opaque_always_asks(tier: Tier, cls: CommandClass, *, verified: bool) -> None:
    """I-16: what was not understood needs a person, whatever the tier."""
    assert _kind(SHIPPED.decide(_action(cls, tier=tier, verified=verified, opaque=True))) == "asks"


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
    decision = _load(PERMIT_ALL).decide(_action(cls, tier=tier, opaque=opaque, verified=verified, ceiling=ceiling))
    level = max(cls, EXECUTE) if opaque else cls
    if level > ceiling:
        assert decision == Deny(reasons=("grant.ceiling",))
    else:
        assert _kind(decision) == ("asks" if opaque else "runs")


@given(cls=st.sampled_from(CommandClass), tier=st.sampled_from(Tier), opaque=st.booleans())
@settings(max_examples=40)
def test_the_ceiling_holds_in_cedar_too(cls: CommandClass, tier: Tier, *, opaque: bool) -> None:
    """I-04: the shipped policy itself forbids what exceeds the ceiling, so either layer alone would do."""
    query = _action(cls, tier=tier, opaque=opaque, ceiling=READ)
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
    policies = _load(f'{PERMIT_ALL} @id("freeze") {FORBIDS[forbid]};')
    assert policies.decide(_action(cls, opaque=opaque)) == Deny(reasons=("freeze",))


def test_a_forbid_of_the_unattended_asks() -> None:
    """Forbidding only the unattended run leaves the asking."""
    policies = _load(f'{PERMIT_ALL} @id("freeze") forbid (principal, action == Action::"run_unattended", resource);')
    assert _kind(policies.decide(_action(READ))) == "asks"


@pytest.mark.parametrize("effect", ["permit", "forbid"])
@pytest.mark.parametrize("verb", ["run", "run_unattended"])
def test_any_error_while_deciding_denies(effect: str, verb: str) -> None:
    """I-16: Cedar skips a policy that fails and would allow; here any diagnostic denies."""
    scope = f'(principal, action == Action::"{verb}", resource)'
    broken = f'@id("bad") {effect} {scope} when {{ 9223372036854775807 + context.level > 0 }};'
    decision = _load(f"{PERMIT_ALL} {broken}").decide(_action(READ))
    assert isinstance(decision, Deny)
    assert decision.reasons[0].startswith("policy error: ")


@pytest.mark.parametrize("effect", ["permit", "forbid"])
def test_any_error_while_approving_denies(effect: str) -> None:
    """I-12: an approver is not let through by a policy that fails."""
    scope = '(principal, action == Action::"approve", resource)'
    broken = f'@id("bad") {effect} {scope} when {{ 9223372036854775807 + context.level > 0 }};'
    decision = _load(f"{PERMIT_ALL} {broken}").decide(_approve(APPROVER))
    assert isinstance(decision, Deny)
    assert decision.reasons[0].startswith("policy error: ")


@pytest.mark.parametrize("tier", Tier)
def test_what_an_operator_adds_does_not_lift_what_always_asks(tier: Tier) -> None:
    """I-16: beside a permit of everything unattended, the shipped forbids still make reboots and opaque ones ask."""
    lax = '@id("lax") permit (principal, action == Action::"run_unattended", resource);'
    policies = PolicySet.load({**shipped_policy(), "site.cedar": lax})
    assert [_kind(policies.decide(_action(cls, tier=tier))) for cls in CommandClass] == ["runs"] * 4 + ["asks"]
    assert [_kind(policies.decide(_action(cls, tier=tier, opaque=True))) for cls in CommandClass] == ["asks"] * 5


def test_a_failing_engine_denies() -> None:
    """A question that the engine cannot even take is denied, not raised."""
    query = _action(READ, principal=replace(AGENT, id="\ud800"))
    decision = _load(PERMIT_ALL).decide(query)
    assert isinstance(decision, Deny)
    assert decision.reasons[0].startswith("policy error: ")


@pytest.mark.parametrize("policies", [SHIPPED, _load(PERMIT_ALL)], ids=["shipped", "permit-all"])
def test_no_decision_crosses_a_tenant(policies: PolicySet) -> None:
    """I-40: another tenant's principal is denied for every kind of question, also by a policy that permits all."""
    stranger = replace(AGENT, tenant="t2")
    outsider = replace(APPROVER, tenant="t2", role="owner")
    denied = Deny(reasons=("tenant.isolation",))
    assert policies.decide(_action(READ, principal=stranger)) == denied
    assert policies.decide(_access(principal=stranger)) == denied
    assert policies.decide(_approve(outsider)) == denied
    assert policies.decide(_approve(APPROVER, requester=stranger)) == denied
    assert policies.decide(_approve(APPROVER, target=replace(TARGET, tenant="t2"))) == denied


def test_equal_team_names_of_two_tenants_are_two_teams() -> None:
    """I-40: in Cedar as well: the shipped policy alone denies a stranger whose team has the same name."""
    stranger = replace(AGENT, tenant="t2")
    context = {"login": "l", "level": 1, "opaque": False, "egress": False, "ceiling": 5, "verified": False}
    context |= {"outlives": False, "weekday": 7}
    answers = SHIPPED._ask(stranger, TARGET, ("run", "run_unattended"), context | {"flags": [], "now": _now()})  # noqa: SLF001
    assert [answer.reasons for answer in answers] == [("tenant.isolation",)] * 2


@pytest.mark.parametrize("policies", [SHIPPED, _load(PERMIT_ALL)], ids=["shipped", "permit-all"])
def test_nobody_approves_what_is_their_own(policies: PolicySet) -> None:
    """I-12: not their own request, not their agent's, not an agent at all; also for Owners and any policy."""
    denied = Deny(reasons=("approve.not_oneself",))
    boss = replace(APPROVER, role="owner")
    assert policies.decide(_approve(boss, requester=boss)) == denied
    assert policies.decide(_approve(boss, requester=replace(AGENT, owner=boss.id))) == denied
    assert policies.decide(_approve(AGENT, requester=replace(AGENT, id="other", owner=""))) == denied


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
    decision = SHIPPED.decide(_approve(replace(APPROVER, role=role, teams=frozenset(teams))))
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
    policies = _load(f'@id("a") permit (principal, action == Action::"approve", resource) when {{ {condition} }};')
    assert isinstance(policies.decide(replace(_approve(APPROVER), **holds)), Permit)
    assert isinstance(policies.decide(replace(_approve(APPROVER), **fails)), Deny)


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
    policies = _load(f'@id("a") permit (principal, action == Action::"request", resource) when {{ {condition} }};')
    assert isinstance(policies.decide(replace(_access(), claimed=claimed)), NeedsApproval)
    assert isinstance(policies.decide(_access()), Deny)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (_access(), "runs"),
        (_access(flags=frozenset({"sftp"})), "asks"),
        (_access(principal=APPROVER), "asks"),
        (_access(ttl=timedelta(hours=8)), "runs"),
        (_access(ttl=timedelta(hours=8, milliseconds=1)), "never"),
        (_access(ttl=timedelta(0)), "never"),
        (_access(ttl=timedelta(seconds=-1)), "never"),
        (_access(ttl=timedelta(days=3650)), "never"),
        (_access(principal=replace(AGENT, teams=frozenset({"other"}))), "never"),
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
    decision = _load(f'@id("base") permit (principal, action == Action::"run", resource); {extra}').decide(
        _action(WRITE)
    )
    assert isinstance(decision, NeedsApproval)
    assert decision.quorum == max([1, *numbers])


def test_roles_are_narrowed() -> None:
    """`@roles` narrows who may approve; roles that exclude one another leave nobody, which denies."""
    first = '@id("a") @roles("owner admin") permit (principal, action == Action::"run", resource);'
    second = '@id("b") @roles("manager") permit (principal, action == Action::"run", resource);'
    decision = _load(first).decide(_action(WRITE))
    assert isinstance(decision, NeedsApproval)
    assert decision.roles == {"owner", "admin"}
    assert isinstance(_load(first + second).decide(_action(WRITE)), Deny)


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
    asked = _load(asks + f'@id("run") {head}"run", resource);').decide(_action(WRITE))
    alone = _load(asks + '@id("all") permit (principal, action, resource);').decide(_action(WRITE))
    assert isinstance(asked, NeedsApproval)
    assert isinstance(alone, Permit)
    assert asked.watchers == alone.watchers == watchers


def test_whom_nobody_may_watch_is_denied() -> None:
    """Roles that exclude one another leave nobody; what does not apply asks for nothing."""
    one, other = '@id("a") @watched("owner")', '@id("b") @watched("manager")'
    permit = 'permit (principal, action == Action::"run", resource)'
    assert isinstance(_load(f"{one} {permit};{other} {permit};").decide(_action(WRITE)), Deny)
    elsewhere = _load(f"{one} {permit};{other} {permit} when {{ context.level == 5 }};").decide(_action(WRITE))
    assert isinstance(elsewhere, NeedsApproval)
    assert elsewhere.watchers == {"owner"}
    unattended = 'permit (principal, action == Action::"run_unattended", resource)'
    runs = _load(f"{one} {unattended};").decide(_action(WRITE))
    assert runs == Permit(reasons=("a",), watchers=frozenset({"owner"}))


def test_only_permitted_unattended() -> None:
    """A permit of the unattended run alone runs; an opaque command then has nobody to ask."""
    policies = _load('@id("u") permit (principal, action == Action::"run_unattended", resource);')
    assert policies.decide(_action(WRITE)) == Permit(reasons=("u",))
    assert policies.decide(_action(WRITE, opaque=True)) == Deny(reasons=("opaque.asks",))


def test_what_keeps_it_from_going_alone_is_told() -> None:
    """A forbid of the unattended run is a reason of the asking, beside the rule that permits it with a person."""
    ask = '@id("ours") forbid (principal, action == Action::"run_unattended", resource) when { context.level == 2 };'
    policies = PolicySet.load({**shipped_policy(), "ours.cedar": ask})
    decision = policies.decide(_action(WRITE))
    assert isinstance(decision, NeedsApproval)
    assert decision.reasons == ("run.team", "ours")
    decision = policies.decide(_action(WRITE, opaque=True))
    assert isinstance(decision, NeedsApproval)
    assert decision.reasons == ("run.team", "opaque.asks")


def test_labels_time_and_login_reach_policies() -> None:
    """What the schema promises is there: labels as tags, the time, the login."""
    text = """@id("window") permit (principal, action == Action::"run_unattended", resource) when {
      resource.hasTag("env") && resource.getTag("env") == "prod" && context.login == "deploy" &&
      context.now < datetime("2026-11-22T04:00:00Z") && resource.name like "web*" };"""
    assert isinstance(_load(text).decide(_action(WRITE)), Permit)
    assert isinstance(_load(text).decide(_action(WRITE, target=replace(TARGET, labels={}))), Deny)
    assert isinstance(_load(text).decide(replace(_action(WRITE), now=NOW + timedelta(hours=1))), Deny)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no policy in it"),
        ("// nothing\n", "no policy in it"),
        ("permit (principal, action, resource);", "test.cedar:1:1: every policy needs an @id"),
        ('@id("") permit (principal, action, resource);', "every policy needs an @id"),
        ('@id("a b") permit (principal, action, resource);', "every policy needs an @id"),
        (f"{PERMIT_ALL}\n\n{PERMIT_ALL}", "test.cedar:3:1: all: @id('all') is already taken"),
        ('// x;\n@id("x")\npermit (principal, action, resource', "test.cedar:2:1: unexpected end of input"),
        (f'{PERMIT_ALL}\n@id("x") permit (principal action, resource);', "test.cedar:2:28: unexpected token"),
        ('@id("x") permit (principal, action, resource) when { context.foo == 1 };', "attribute `foo`"),
        ('@id("x") permit (principal, action == Action::"zap", resource);', "unrecognized action"),
        ('@id("x") permit (principal == ?principal, action, resource);', "expected one policy without slots"),
        ('@id("x") @quorum("2") permit (principal, action, resource);', "unknown annotation @quorum"),
        ('@id("x") @approvers("0") permit (principal, action, resource);', "@approvers takes a number"),
        ('@id("x") @approvers("two") permit (principal, action, resource);', "@approvers takes a number"),
        ('@id("x") @watched("boss") permit (principal, action, resource);', "@watched names 'boss'"),
        ('@id("x") @approvers permit (principal, action, resource);', "@approvers takes a number"),
        ('@id("x") @roles("boss") permit (principal, action, resource);', "@roles names"),
        ('@id("x") @roles("") permit (principal, action, resource);', "@roles names nothing"),
        ('@id("x") permit (principal, action, resource) when { principal.tenant == "a;b" } "', "test.cedar:1:1: "),
    ],
)
def test_what_is_not_loaded(text: str, message: str) -> None:
    """I-17: a policy that cannot be used is an error with file and line, before it can decide anything."""
    with pytest.raises(PolicyError, match=r"^test\.cedar") as caught:
        _load(text)
    assert message in str(caught.value)


def test_no_files_are_no_policy() -> None:
    """An empty set would deny everything; it is an error instead."""
    with pytest.raises(PolicyError, match="no policy"):
        PolicySet.load({})


def test_strings_and_comments_do_not_end_a_policy() -> None:
    """A semicolon in a string or a comment belongs to the policy it stands in."""
    text = '@id("x") permit (principal, action, resource) when { // a; b "\n principal.tenant == "t;\\"1" };'
    assert isinstance(_load(text).decide(_action(READ)), Deny)


def test_the_version_names_the_sources() -> None:
    """I-14: the version changes with every byte and every file name, and with nothing else."""
    one = PolicySet.load({"a.cedar": PERMIT_ALL})
    assert one.version == PolicySet.load({"a.cedar": PERMIT_ALL}).version
    assert len(one.version) == 64
    assert one.version != PolicySet.load({"a.cedar": PERMIT_ALL + " "}).version
    assert one.version != PolicySet.load({"b.cedar": PERMIT_ALL}).version


LOOKS_AT_EVERYTHING = (
    PERMIT_ALL
    + """
@id("other") forbid (principal, action in [Action::"run", Action::"run_unattended"], resource) when {
  context.login == "root" || context.opaque || context.egress || context.outlives || context.verified
  || context.level > 1 || context.weekday == 1
  || context.ceiling < 5 || context.flags.contains("shell") || context.now >= datetime("2026-11-22T03:00:01Z")
  || resource.name == "web2" || resource.tier == "trusted" || resource.teams.contains(Team::"t1/db")
  || (resource.hasTag("env") && resource.getTag("env") == "test")
  || principal.id == "builder"
};
"""
)
OTHERS = {
    "login": replace(_action(), login="root"),
    "opaque": _action(opaque=True),
    "egress": replace(_action(), egress=True),
    "outlives": replace(_action(), outlives=True),
    "weekday": replace(_action(), now=NOW + timedelta(days=1)),
    "verified": _action(verified=True),
    "class": _action(WRITE),
    "ceiling": _action(ceiling=INSTALL),
    "flags": replace(_action(), flags=frozenset({"shell"})),
    "now": replace(_action(), now=NOW + timedelta(seconds=1)),
    "name": _action(target=replace(TARGET, name="web2")),
    "tier": _action(tier=Tier.TRUSTED),
    "target's teams": _action(target=replace(TARGET, teams=frozenset({"db"}))),
    "labels": _action(target=replace(TARGET, labels={"env": "test"})),
    "principal": _action(principal=replace(AGENT, id="builder")),
}


@pytest.mark.parametrize("different", OTHERS.values(), ids=OTHERS.keys())
def test_an_answer_is_remembered_for_the_very_same_question_alone(different: ActionQuery) -> None:
    """Whatever a policy can see is part of the question: one difference, and it is asked anew."""
    policies = PolicySet.load({"x.cedar": LOOKS_AT_EVERYTHING})
    assert isinstance(policies.decide(_action()), Permit)
    assert isinstance(policies.decide(different), Deny)
    assert isinstance(policies.decide(_action()), Permit)


@pytest.mark.parametrize(
    "query", [_action(WRITE), _access(), _approve(APPROVER)], ids=lambda query: type(query).__name__
)
def test_every_context_is_what_the_schema_says(query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-16: the schema does not judge contexts while deciding, so each that is built is held to it here."""
    asked: list[dict[str, object]] = []
    real = cedarpy.is_authorized_batch

    def judged(requests: list[Any], policies: cedarpy.PolicySet, entities: cedarpy.Entities, _: None) -> object:
        asked.extend(requests)
        return real(requests, policies, entities, cedarpy.Schema.from_str(schema_text()))

    monkeypatch.setattr(cedarpy, "is_authorized_batch", judged)
    # whole, with what no shipped policy looks at
    monkeypatch.setattr(Narrowed, "of_context", lambda _self, _actions, _kind, context: context)
    SHIPPED.forget()  # an answer from memory would ask nothing
    before = SHIPPED.decide(query)
    assert asked
    assert not any("error" in reason for reason in before.reasons)
    for request in asked:
        broken = {**request, "context": "{}"}
        (result,) = real([broken], cedarpy.PolicySet.from_str(PERMIT_ALL), [], cedarpy.Schema.from_str(schema_text()))
        assert result.decision is not cedarpy.Decision.Allow, "the schema judges, or this test could not fail"
