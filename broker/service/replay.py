"""Asking policies again what was asked once: of an action as it is recorded, with the rest as it is today.

Recorded and used: the command's bytes, the moment, the login, ceiling and flags of its grant, the tier it was decided
under. Not kept, so today's: teams, role and owner of who asked; name, teams and labels of the target. Never writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.action import Action, ActionState
from broker.core.flags import rights
from broker.core.grant import Grant
from broker.service.policies import decided_with, principal, resource
from broker.service.ports import Tx
from broker.service.sight import classify
from policy.classes import CommandClass
from policy.decision import ActionQuery, Decision, Deny, NeedsApproval, Permit, Principal, Resource
from policy.ruleset import Ruleset
from policy.shell import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An action, and everything that policies are asked about it."""

    action: Action
    grant: Grant
    identity_name: str
    principal: Principal
    target: Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a set of policies answers. `rules` is empty for what was recorded: they are not kept."""

    decision: str
    """`permit`, `needs_approval`, `deny` or `refused`."""
    quorum: int
    roles: frozenset[str]
    rules: tuple[str, ...]
    command_class: CommandClass | None
    opaque: bool
    watchers: frozenset[str] | None = frozenset()
    """Roles of whom one must watch while it runs; None for what was recorded: they are not kept."""

    def same(self, other: Answer) -> bool:
        """Whether it makes no difference to anybody: the ids of policies, and the class, may differ."""
        watched = None in (self.watchers, other.watchers) or self.watchers == other.watchers
        return watched and (self.decision, self.quorum, self.roles) == (other.decision, other.quorum, other.roles)


def question_of(tx: Tx, action: Action) -> Question | None:
    """The question behind an action; None where somebody or something that it is about is no more."""
    grant, identity = tx.grants.get(action.grant_id), tx.identities.get(action.identity)
    target = tx.targets.get(action.target_id)
    if grant is None or identity is None or target is None:
        return None
    return Question(
        action=action,
        grant=grant,
        identity_name=identity.name,
        principal=principal(tx, identity),
        target=resource(tx, target, tier=action.tier),
    )


def answer(rules: Ruleset, question: Question) -> Answer:
    """What these policies and programs answer, as of when the action was proposed."""
    action, grant = question.action, question.grant
    seen = classify(rules, action.command)
    if isinstance(seen, Refused):
        return _answer("refused", command_class=None, opaque=False)
    decision = rules.decide(
        ActionQuery(
            principal=question.principal, target=question.target, login=grant.login, command_class=seen.command_class,
            opaque=seen.opaque, egress=seen.egress, outlives=seen.outlives, ceiling=grant.ceiling,
            verified=action.verification is not None, flags=rights(grant.flags), now=action.proposed_at,
        )
    )  # fmt: skip
    return _of(decided_with(grant, seen, decision), command_class=seen.command_class, opaque=seen.opaque)


def recorded(action: Action) -> Answer:
    """What was decided then. Somebody was asked exactly where a quorum is recorded."""
    if action.quorum:
        return _answer(
            "needs_approval", command_class=action.command_class, opaque=action.opaque, quorum=action.quorum,
            roles=action.approver_roles, watchers=None,
        )  # fmt: skip
    decision = "deny" if action.state is ActionState.DENIED else "permit"
    return _answer(decision, command_class=action.command_class, opaque=action.opaque, watchers=None)


def _of(decision: Decision, *, command_class: CommandClass, opaque: bool) -> Answer:
    match decision:
        case Permit(reasons=rules, watchers=watchers):
            return _answer("permit", command_class=command_class, opaque=opaque, rules=rules, watchers=watchers)
        case Deny(reasons=rules):
            return _answer("deny", command_class=command_class, opaque=opaque, rules=rules)
        case NeedsApproval(quorum=quorum, roles=roles, reasons=rules, watchers=watchers):
            return _answer(
                "needs_approval", command_class=command_class, opaque=opaque, quorum=quorum, roles=roles, rules=rules,
                watchers=watchers,
            )  # fmt: skip


def _answer(
    decision: str, *, command_class: CommandClass | None, opaque: bool, quorum: int = 0,
    roles: frozenset[str] = frozenset(), rules: tuple[str, ...] = (), watchers: frozenset[str] | None = frozenset(),
) -> Answer:  # fmt: skip
    return Answer(
        decision=decision,
        quorum=quorum,
        roles=roles,
        rules=rules,
        command_class=command_class,
        opaque=opaque,
        watchers=watchers,
    )
