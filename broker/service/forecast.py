"""A dry run of a command under a grant: what policy would say, who could say yes, and what would be milder.

Writes nothing and starts no TTL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from broker.core.grant import Grant
from broker.core.identity import Caller, Identity, IdentityStatus, Target
from broker.core.ids import GrantId
from broker.core.roles import Permission, holds
from broker.service import lookup
from broker.service.policies import ask_action, ask_approve, possible_presence
from broker.service.ports import Tx
from broker.service.sight import AT_ONCE, classify, look
from policy.advice import Advice, advise
from policy.classes import CommandClass
from policy.engine import Decision, Deny, NeedsApproval, Permit
from policy.ruleset import Ruleset
from policy.shell import Classified, Verdict

_KEPT = 256
"""Answers remembered; their commands have at most 16 KiB each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A change that would lead to a milder decision; `what` is unescaped text."""

    what: str
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What would happen. `decision` is None where the classifier refused."""

    verdict: Verdict
    advice: tuple[Advice, ...] = ()
    decision: Decision | None = None
    approvers: tuple[str, ...] = ()
    """Names; empty for a caller who may not read the directory."""
    alternatives: tuple[Alternative, ...] = ()


@lru_cache(maxsize=_KEPT)
def advice_on(rules: Ruleset, line: bytes) -> tuple[Advice, ...]:
    """What would lower the class of a command line; pure, so it is worked out once."""
    return advise(rules.catalogue, line, classify(rules, line))


async def foreseen(rules: Ruleset, line: bytes) -> None:
    """Works out all that a forecast asks of the classifier, without holding the loop; it is remembered."""
    if len(line) <= AT_ONCE:
        return
    for piece in await asyncio.to_thread(advice_on, rules, line):
        await look(rules, piece.applied(line))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One classified command of one caller, looked at under one of its grants."""

    policies: Ruleset
    caller: Caller
    grant_id: GrantId
    line: bytes
    seen: Classified
    now: datetime

    def forecast(self, tx: Tx) -> Forecast:
        """Asks policy what it would say; runs in one transaction that only reads."""
        grant = lookup.own_grant(tx, self.caller, self.grant_id)
        identity, target = lookup.active(tx, self.caller.identity), lookup.target_of(tx, grant)
        decision = self._decided(tx, identity, target, grant, self.seen)
        return Forecast(
            verdict=self.seen,
            advice=advice_on(self.policies, self.line),
            decision=decision,
            approvers=tuple(sorted(self._approvers(tx, identity, target, decision))),
            alternatives=tuple(self._milder(tx, identity, target, grant, decision)),
        )

    def _decided(self, tx: Tx, identity: Identity, target: Target, grant: Grant, seen: Classified) -> Decision:
        return ask_action(self.policies, tx, identity, target, grant, seen, verified=False, now=self.now)

    def _approvers(self, tx: Tx, requester: Identity, target: Target, decision: Decision) -> Iterator[str]:
        """Who could say yes as things stand: the role, a key to sign with, and policy's word."""
        if not isinstance(decision, NeedsApproval) or not holds(self.caller.role, Permission.DIRECTORY_READ):
            return
        for person in tx.identities.all():
            if person.status is not IdentityStatus.ACTIVE or person.role not in decision.roles:
                continue
            answer = ask_approve(
                self.policies, tx, person, requester, target, subject="action", level=self.seen.command_class,
                presence=possible_presence(person), now=self.now,
            )  # fmt: skip
            if person.approval_keys and isinstance(answer, Permit):
                yield person.name

    def _milder(
        self, tx: Tx, identity: Identity, target: Target, grant: Grant, decision: Decision
    ) -> Iterator[Alternative]:
        for piece in advice_on(self.policies, self.line):
            changed = classify(self.policies, piece.applied(self.line))
            if isinstance(changed, Classified):
                after = self._decided(tx, identity, target, grant, changed)
                if _mildness(after) > _mildness(decision):
                    yield Alternative(what=piece.say, decision=after)
        needed = max(self.seen.command_class, CommandClass.EXECUTE) if self.seen.opaque else self.seen.command_class
        if needed > grant.ceiling:
            after = self._decided(tx, identity, target, replace(grant, ceiling=needed), self.seen)
            if _mildness(after) > _mildness(decision):
                yield Alternative(what=f"a grant whose ceiling is {needed.word}", decision=after)


def _mildness(decision: Decision) -> int:
    return (Deny, NeedsApproval, Permit).index(type(decision))
