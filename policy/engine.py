"""Policies an operator edits (Cedar), decided fail-closed.

Some laws stand above every policy and are held here as well as in Cedar: no decision crosses a tenant, nothing exceeds
the grant's ceiling, nobody approves what they or their agent asked for, and what was not understood always needs a
person. Any error while a policy is evaluated is a denial: Cedar itself would skip the policy, and a skipped `forbid`
allows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType
from typing import assert_never

from policy.cedar import Answer
from policy.classes import CommandClass
from policy.decision import (
    AccessQuery,
    ActionQuery,
    ApproveQuery,
    Claims,
    Decision,
    Deny,
    NeedsApproval,
    Permit,
    Principal,
    Query,
    Resource,
)
from policy.narrowing import Narrowed
from policy.reading import PolicyError, Rule, read
from policy.vocabulary import APPROVER_ROLES

__all__ = [
    "CEILING",
    "AccessQuery",
    "ActionQuery",
    "ApproveQuery",
    "Claims",
    "Decision",
    "Deny",
    "NeedsApproval",
    "Permit",
    "PolicyError",
    "PolicySet",
    "Principal",
    "Query",
    "Resource",
    "shipped_policy",
]

CEILING = "grant.ceiling"
"""The id under which a command is denied that is above its grant's ceiling; of a policy too."""
_REMEMBERED = 1_024
"""Answers kept for a set of policies. The clock is in the question, to the second, where a policy looks at it."""


@cache
def shipped_policy() -> Mapping[str, str]:
    """The default policy: file name to text, as `PolicySet.load` takes it."""
    return {"tiers.cedar": resources.files("policy").joinpath("tiers.cedar").read_text("utf-8")}


class PolicySet:
    """A validated set of policies; immutable, safe to share."""

    def __init__(self, *, version: str, rules: Sequence[Rule]) -> None:
        self.version = version
        self.rules: Mapping[str, Rule] = MappingProxyType({rule.id: rule for rule in rules})
        """By id."""
        self._narrowed = Narrowed(rules)
        # The same question has the same answer: policies are pure, and everything they can see is in the question.
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._asked)

    @classmethod
    def load(cls, sources: Mapping[str, str]) -> PolicySet:
        """Read policies from the texts of files.

        Args:
            sources: file name to Cedar text.

        Raises:
            PolicyError: a syntax error, an attribute or action that the schema does not have, a missing or repeated
                @id, an annotation that means nothing here, or no policy at all.
        """
        reading = read(sources)
        if reading.problems:
            more = f" (and {len(reading.problems) - 1} more)" if len(reading.problems) > 1 else ""
            raise PolicyError(f"{reading.problems[0]}{more}", reading.problems)
        version = hashlib.sha256(json.dumps(dict(sources), sort_keys=True).encode()).hexdigest()
        return cls(version=version, rules=reading.rules)

    def decide(self, query: Query) -> Decision:
        """The answer to one question. Never raises: what cannot be decided is denied."""
        match query:
            case AccessQuery():
                return self._access(query)
            case ActionQuery():
                return self._action(query)
            case ApproveQuery():
                return self._approve(query)
            case _:
                assert_never(query)

    def forget(self) -> None:
        """Forgets its answers; the next question of each kind costs what the first did."""
        self._remembered.cache_clear()

    def _access(self, query: AccessQuery) -> Decision:
        if query.ttl <= timedelta(0):
            return Deny(reasons=("request.ttl",))
        context = {
            "login": query.login,
            "ceiling": int(query.ceiling),
            "flags": sorted(query.flags),
            "ttl": _duration(query.ttl),
            "claimed": _claimed(query.claimed),
            **_clock(query.now),
        }
        return self._with_or_without(query.principal, query.target, "request", context, person_needed=False)

    def _action(self, query: ActionQuery) -> Decision:
        level = max(query.command_class, CommandClass.EXECUTE) if query.opaque else query.command_class
        if level > query.ceiling:
            return Deny(reasons=(CEILING,))
        context = {
            "login": query.login,
            "level": int(level),
            "opaque": query.opaque,
            "egress": query.egress,
            "outlives": query.outlives,
            "ceiling": int(query.ceiling),
            "verified": query.verified,
            "flags": sorted(query.flags),
            **_clock(query.now),
        }
        return self._with_or_without(query.principal, query.target, "run", context, person_needed=query.opaque)

    def _approve(self, query: ApproveQuery) -> Decision:
        approver, requester = query.principal, query.requester
        if not approver.tenant == requester.tenant == query.target.tenant:
            return Deny(reasons=("tenant.isolation",))
        if _is_their_own(approver, requester):
            return Deny(reasons=("approve.not_oneself",))
        context = {
            "requester": requester.id,
            "requester_kind": requester.kind,
            "requester_tenant": requester.tenant,
            "requester_owner": requester.owner,
            "subject": query.subject,
            "level": int(query.level),
            "security_key": query.security_key,
            "user_verified": query.user_verified,
            **_clock(query.now),
        }
        (answer,) = self._ask(approver, query.target, ("approve",), context)
        return Permit(reasons=answer.reasons) if answer.allowed else _denied(answer)

    def _with_or_without(
        self, principal: Principal, target: Resource, verb: str, context: Mapping[str, object], *, person_needed: bool
    ) -> Decision:
        """Permit if it may go unattended, else ask people if it may go at all, else deny.

        A forbid of the verb itself denies both.
        """
        if principal.tenant != target.tenant:
            return Deny(reasons=("tenant.isolation",))
        attended, alone = self._ask(principal, target, (verb, f"{verb}_unattended"), context)
        forbidden = not attended.allowed and bool(attended.reasons)
        if attended.error or alone.error or forbidden or not (attended.allowed or alone.allowed):
            return _denied(attended, alone)
        watchers = self._watchers([name for answer in (attended, alone) if answer.allowed for name in answer.reasons])
        if watchers is None:
            return Deny(reasons=(*alone.reasons, *attended.reasons, "no role may watch this"))
        if alone.allowed and not person_needed:
            return Permit(reasons=alone.reasons, watchers=watchers)
        if not attended.allowed:
            return Deny(reasons=("opaque.asks",))
        return self._approval(attended.reasons, watchers, forbids=() if alone.allowed else alone.reasons)

    def _watchers(self, reasons: Sequence[str]) -> frozenset[str] | None:
        """Whom all the permits that apply would have watch, with and without a person; None where that is nobody."""
        demanded = [roles for name in reasons if (roles := self.rules[name].obligation.watchers)]
        return (APPROVER_ROLES.intersection(*demanded) or None) if demanded else frozenset()

    def _approval(self, reasons: Sequence[str], watchers: frozenset[str], *, forbids: Sequence[str]) -> Decision:
        """The strictest of what the permits ask for; `forbids` are told as what keeps it from going unattended."""
        obligations = [self.rules[name].obligation for name in reasons]
        roles = APPROVER_ROLES.intersection(*(o.roles for o in obligations if o.roles))
        if not roles:
            return Deny(reasons=(*reasons, "no role may approve this"))
        return NeedsApproval(
            quorum=max((o.quorum for o in obligations), default=1), roles=roles, reasons=(*reasons, *forbids),
            watchers=watchers,
        )  # fmt: skip

    def _ask(
        self, principal: Principal, target: Resource, actions: Sequence[str], context: Mapping[str, object]
    ) -> tuple[Answer, ...]:
        who = {"type": principal.kind.capitalize(), "id": f"{principal.tenant}/{principal.id}"}
        what = {"type": "Target", "id": f"{target.tenant}/{target.id}"}
        entities = [_principal_entity(who, principal), _target_entity(what, target)]
        context = self._narrowed.of_context(actions, who["type"], context)
        try:
            return self._remembered(
                (who["type"], who["id"]), what["id"], tuple(actions), json.dumps(context), json.dumps(entities)
            )
        except Exception as error:  # noqa: BLE001 - one place where every failure of the engine is a denial
            return tuple(Answer(allowed=False, reasons=(), error=f"{type(error).__name__}: {error}") for _ in actions)

    def _asked(
        self, who: tuple[str, str], target: str, actions: tuple[str, ...], context: str, entities: str
    ) -> tuple[Answer, ...]:
        """What Cedar answers. Whatever it raises is remembered by nobody."""
        return tuple(
            answer
            for some, compiled in self._narrowed.of(actions, who[0], entities)
            for answer in compiled.ask(who, some, target, context, entities)
        )


def _is_their_own(approver: Principal, requester: Principal) -> bool:
    """Whether who decides is also who asked, in person or as the owner of the agent; an agent decides nothing."""
    return approver.kind != "person" or approver.id in (requester.id, requester.owner)


def _denied(*answers: Answer) -> Deny:
    errors = tuple(f"policy error: {answer.error}" for answer in answers if answer.error)
    forbids = tuple(reason for answer in answers[:1] if not answer.allowed for reason in answer.reasons)
    return Deny(reasons=errors or forbids or ("no policy permits it",))


def _principal_entity(uid: Mapping[str, str], principal: Principal) -> dict[str, object]:
    attrs: dict[str, object] = {
        "id": principal.id,
        "tenant": principal.tenant,
        "teams": _teams(principal.tenant, principal.teams),
    }
    attrs |= {"owner": principal.owner} if principal.kind == "agent" else {"role": principal.role}
    return {"uid": uid, "attrs": attrs, "parents": []}


def _target_entity(uid: Mapping[str, str], target: Resource) -> dict[str, object]:
    attrs = {
        "name": target.name,
        "tenant": target.tenant,
        "tier": str(target.tier),
        "teams": _teams(target.tenant, target.teams),
    }
    return {"uid": uid, "attrs": attrs, "parents": [], "tags": dict(target.labels)}


def _teams(tenant: str, teams: frozenset[str]) -> list[dict[str, dict[str, str]]]:
    """Team ids carry the tenant, so equal names of two tenants are two teams."""
    return [{"__entity": {"type": "Team", "id": f"{tenant}/{team}"}} for team in sorted(teams)]


def _claimed(claims: Claims) -> dict[str, object]:
    return {"ticket": claims.ticket, "reason": claims.reason, "evidence": claims.evidence}


def _duration(ttl: timedelta) -> dict[str, dict[str, str]]:
    return {"__extn": {"fn": "duration", "arg": f"{ttl // timedelta(milliseconds=1)}ms"}}


def _clock(now: datetime) -> dict[str, object]:
    utc = now.astimezone(UTC)
    return {
        "now": {"__extn": {"fn": "datetime", "arg": utc.strftime("%Y-%m-%dT%H:%M:%SZ")}},
        "weekday": utc.isoweekday(),
    }
