"""Why something was decided: one policy in words, or one action with the policies behind its answer. Writes nothing.

The ids of the policies that decided are not recorded with an action. They are found by asking the very version that
decided again, with the teams, labels and role of today.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broker.core.action import Action
from broker.core.errors import not_found
from broker.core.identity import Caller
from broker.core.ids import PREFIXES, ActionId, TenantId, is_id
from broker.service import lookup
from broker.service.policies import Policies
from broker.service.ports import PolicyVersion, Store, Tx
from broker.service.replay import Answer, Question, answer, question_of, recorded
from broker.service.world import World
from policy.reading import Rule
from policy.ruleset import Ruleset, RulesetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """An action: what was decided then, and what the version that decided answers with the facts of today."""

    action: Action
    identity_name: str
    target_name: str
    decided: Answer
    replayed: Answer | None
    """None where that version, or somebody or something it is asked about, is no more, or no more to be read."""


class ExplainService:
    """ExplainPolicy."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def explain(self, caller: Caller, subject: str) -> Rule | Decided:
        """A policy in force by its id, or an action that the caller's role sees."""
        if is_action(subject):
            return await decided(self._world.store, self._world.policies, caller.tenant, ActionId(subject), caller)
        rules = await self._world.store.read(caller.tenant, self._world.policies.in_force)
        if subject not in rules.policies.rules:
            raise not_found("policy")
        return rules.policies.rules[subject]


def is_action(subject: str) -> bool:
    """Whether this is an action's id, not a policy's."""
    return is_id(subject) and subject.startswith(f"{PREFIXES['action']}_")


async def decided(
    store: Store, policies: Policies, tenant: TenantId, action_id: ActionId, caller: Caller | None
) -> Decided:
    """What was decided for an action; for a caller, only what its role sees."""

    def unit(tx: Tx) -> tuple[Action, Question | None, Ruleset | PolicyVersion | None]:
        action = tx.actions.get(action_id)
        if action is None or (caller and not lookup.sees_target(caller, tx.targets.get(action.target_id))):
            raise not_found("action")
        known = policies.known(tx, action.policy_version) or tx.policies.by_version(action.policy_version)
        return action, question_of(tx, action), known

    action, question, found = await store.read(tenant, unit)
    if isinstance(found, PolicyVersion):
        found = await asyncio.to_thread(_still_loaded, policies, found)
    return Decided(
        action=action,
        identity_name=question.identity_name if question else "",
        target_name=question.target.name if question else "",
        decided=recorded(action),
        replayed=answer(found, question) if found and question else None,
    )


def _still_loaded(policies: Policies, stored: PolicyVersion) -> Ruleset | None:
    """An older version, as this release reads it; None where it would refuse it."""
    try:
        return policies.parsed(stored)
    except RulesetError:
        return None
