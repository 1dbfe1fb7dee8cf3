"""The rules in force of a tenant, and values turned into what they are asked.

Parsed once a version; the version is read from the store in the very transaction that decides (I-14).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from broker.core.errors import Fault
from broker.core.flags import forwards, rights
from broker.core.forward import forwarded
from broker.core.grant import Grant
from broker.core.identity import Identity, IdentityKind, Target
from broker.core.ids import IdentityId, TeamId, TenantId
from broker.core.kinds import level_of
from broker.core.roles import Role
from broker.core.sshsig import Presence
from broker.core.sshwire import KeyKind, parse_line
from broker.service.ports import PolicyVersion, Store, Tx
from policy.classes import CommandClass, Tier, stricter
from policy.decision import stricter_of
from policy.engine import (
    AccessQuery,
    ActionQuery,
    ApproveQuery,
    Claims,
    Decision,
    NeedsApproval,
    Permit,
    Principal,
    Resource,
    shipped_policy,
)
from policy.ruleset import Ruleset, RulesetError, must_hold
from policy.shell import Classified

_KEPT = 64
"""Parsed sets kept in memory; a tenant has one in force."""

K = TypeVar("K")


class Policies:
    """Parsed rulesets by version."""

    @classmethod
    def tried(cls) -> Policies:
        """After every example of the shipped catalogue held: a broker whose classifier errs does not start.

        Raises:
            Fault: naming the first that did not.
        """
        try:
            must_hold()
        except RulesetError as error:
            raise Fault(f"the classifier is not what was shipped: {error}") from error
        return cls()

    def __init__(self) -> None:
        self._shipped = Ruleset.load(shipped_policy())
        self._parsed: OrderedDict[str, Ruleset] = OrderedDict()
        self._seen: OrderedDict[TenantId, Ruleset] = OrderedDict()

    @property
    def shipped(self) -> Mapping[str, str]:
        """Sources of the shipped default."""
        return shipped_policy()

    def in_force(self, tx: Tx) -> Ruleset:
        """The tenant's set, or the shipped default where it never put one."""
        stored = tx.policies.current()
        if stored is None:
            return self._shipped
        parsed = self._parsed.get(stored.version) or self.parsed(stored)
        _keep(self._parsed, stored.version, parsed)
        _keep(self._seen, stored.tenant, parsed)
        return parsed

    def known(self, tx: Tx, version: str) -> Ruleset | None:
        """The set of a version, where it is in force or the shipped one; others are read from the store first."""
        return next((rules for rules in (self.in_force(tx), self._shipped) if rules.version == version), None)

    def parsed(self, stored: PolicyVersion) -> Ruleset:
        """A stored set, read; its examples were tried when it was put, and a shipped entry may have risen since."""
        return Ruleset.load(stored.sources, tried=True)

    async def current(self, store: Store, tenant: TenantId) -> Ruleset:
        """As `last_seen`, and never the shipped default for a tenant that has a set of its own."""
        seen = self._seen.get(tenant)
        if seen is None:
            rules = await store.read(tenant, self.in_force)
            seen = self._seen.setdefault(tenant, rules)
            _keep(self._seen, tenant, seen)
        return seen

    def last_seen(self, tenant: TenantId) -> Ruleset:
        """The set that this process last decided by; to look at a command before the transaction that decides.

        Whatever rests on it is looked at again under `in_force`.
        """
        return self._seen.get(tenant, self._shipped)


def _keep(kept: OrderedDict[K, Ruleset], key: K, rules: Ruleset) -> None:
    kept[key] = rules
    while len(kept) > _KEPT:
        kept.popitem(last=False)


def principal(tx: Tx, identity: Identity) -> Principal:
    """An identity as policy sees it; teams by name."""
    return Principal(
        kind="agent" if identity.kind is IdentityKind.AGENT else "person",
        id=identity.id,
        tenant=identity.tenant,
        teams=team_names(tx, identity.teams),
        role="" if identity.role is Role.AGENT else identity.role,
        owner=identity.owner or "",
    )


def resource(tx: Tx, target: Target, *, tier: Tier | None = None) -> Resource:
    """A target as policy sees it, under the given tier where that is not its own; teams by name."""
    return Resource(
        id=target.id,
        name=target.name,
        tenant=target.tenant,
        tier=tier or target.tier,
        teams=team_names(tx, target.teams),
        labels=target.labels,
    )


def team_names(tx: Tx, ids: frozenset[TeamId]) -> frozenset[str]:
    """Names of teams, for people and policies; an id without a row is left out."""
    return frozenset(team.name for of in ids if (team := tx.teams.get(of)) is not None)


def ask_access(
    policies: Ruleset, tx: Tx, identity: Identity, target: Target, *, login: str, ceiling: CommandClass,
    flags: frozenset[str], ttl: timedelta, claimed: Claims, now: datetime,
) -> Decision:  # fmt: skip
    """May this access request be made, and granted unattended?

    What happens under it on a target that is no SSH host is not seen: there the request is also decided as a command
    of its class would be, and the stricter answer counts.
    """
    who, where = principal(tx, identity), resource(tx, target)
    asked = policies.decide(
        AccessQuery(
            principal=who, target=where, login=login, ceiling=ceiling, flags=rights(flags), ttl=ttl, claimed=claimed,
            now=now,
        )
    )  # fmt: skip
    level = level_of(target.settings, login)
    if level is None:
        return asked
    used = policies.decide(
        ActionQuery(
            principal=who, target=where, login=login, command_class=level, opaque=False, egress=False, outlives=False,
            ceiling=ceiling, verified=False, flags=frozenset(), now=now,
        )
    )  # fmt: skip
    return stricter_of(asked, used)


def ask_action(
    policies: Ruleset, tx: Tx, identity: Identity, target: Target, grant: Grant, seen: Classified, *,
    verified: bool, now: datetime,
) -> Decision:  # fmt: skip
    """May this command run under this grant, unattended or with a person?

    A connection to a destination that the grant names was decided with the grant: policy may still deny it, and asks
    nobody a second time.
    """
    decision = policies.decide(
        ActionQuery(
            principal=principal(tx, identity),
            target=resource(tx, target, tier=stricter(target.tier, grant.tier)),
            login=grant.login, command_class=seen.command_class, opaque=seen.opaque, egress=seen.egress,
            outlives=seen.outlives, ceiling=grant.ceiling, verified=verified, flags=rights(grant.flags), now=now,
        )
    )  # fmt: skip
    return decided_with(grant, seen, decision)


def decided_with(grant: Grant, seen: Classified, decision: Decision) -> Decision:
    """The answer to a command, where its grant decided it already."""
    if isinstance(decision, NeedsApproval) and forwarded(seen) in forwards(grant.flags):
        return Permit(reasons=("grant.forward",), watchers=decision.watchers)
    return decision


def ask_approve(
    policies: Ruleset, tx: Tx, approver: Identity, requester: Identity, target: Target, *,
    subject: Literal["access", "action"], level: CommandClass, presence: Presence, now: datetime,
) -> Decision:  # fmt: skip
    """May this person decide this?"""
    return policies.decide(
        ApproveQuery(
            principal=principal(tx, approver), requester=principal(tx, requester), target=resource(tx, target),
            subject=subject, level=level, security_key=presence.security_key, user_verified=presence.user_verified,
            now=now,
        )
    )  # fmt: skip


def possible_presence(person: Identity) -> Presence:
    """The most that a signature of this person could say, by the keys they have."""
    has_token = any(parse_line(line).kind is KeyKind.SK_ED25519 for line in person.approval_keys)
    return Presence(security_key=has_token, user_verified=has_token)


def claims(*, ticket: str, reason: str, evidence: str) -> Claims:
    """What a requester wrote, as policy sees it: blanks are nothing."""
    return Claims(ticket=ticket.strip(), reason=bool(reason.strip()), evidence=bool(evidence.strip()))


def claims_of(tx: Tx, grant: Grant) -> Claims:
    """What the request behind a grant claimed; nothing where it is gone."""
    ticket, reason, evidence = tx.requests.claimed(grant.request_id) or ("", "", "")
    return claims(ticket=ticket, reason=reason, evidence=evidence)


def owner_or_self(identity: Identity) -> IdentityId:
    """Who is behind a request: the agent's owner where it has one, else the identity itself."""
    return identity.owner or identity.id
