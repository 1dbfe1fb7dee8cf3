"""What the engine puts to Cedar: the whole question, as the schema has it, and no question twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import cedarpy
import pytest

from policy.cedar import schema_text
from policy.classes import Tier
from policy.engine import (
    ActionQuery,
    Deny,
    Permit,
    PolicySet,
    Query,
    shipped_policy,
)
from policy.narrowing import Narrowed
from tests.policy.questions import (
    AGENT,
    APPROVER,
    INSTALL,
    NOW,
    PERMIT_ALL,
    TARGET,
    WRITE,
    access,
    action,
    approve,
)

SHIPPED = PolicySet.load(shipped_policy())
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
    "login": replace(action(), login="root"),
    "opaque": action(opaque=True),
    "egress": replace(action(), egress=True),
    "outlives": replace(action(), outlives=True),
    "weekday": replace(action(), now=NOW + timedelta(days=1)),
    "verified": action(verified=True),
    "class": action(WRITE),
    "ceiling": action(ceiling=INSTALL),
    "flags": replace(action(), flags=frozenset({"shell"})),
    "now": replace(action(), now=NOW + timedelta(seconds=1)),
    "name": action(target=replace(TARGET, name="web2")),
    "tier": action(tier=Tier.TRUSTED),
    "target's teams": action(target=replace(TARGET, teams=frozenset({"db"}))),
    "labels": action(target=replace(TARGET, labels={"env": "test"})),
    "principal": action(principal=replace(AGENT, id="builder")),
}


@pytest.mark.parametrize("different", OTHERS.values(), ids=OTHERS.keys())
def test_an_answer_is_remembered_for_the_very_same_question_alone(different: ActionQuery) -> None:
    """Whatever a policy can see is part of the question: one difference, and it is asked anew."""
    policies = PolicySet.load({"x.cedar": LOOKS_AT_EVERYTHING})
    assert isinstance(policies.decide(action()), Permit)
    assert isinstance(policies.decide(different), Deny)
    assert isinstance(policies.decide(action()), Permit)


@pytest.mark.parametrize("query", [action(WRITE), access(), approve(APPROVER)], ids=lambda query: type(query).__name__)
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
