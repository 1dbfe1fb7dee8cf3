"""What must hold before a grant issues anything, of whatever kind, and what its first use changes.

Parts of one transaction: never opens its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from broker.core import ids
from broker.core.clock import Instant
from broker.core.credential import CredentialState
from broker.core.errors import exhausted, forbidden, not_found
from broker.core.grant import Grant, GrantState, first_use
from broker.core.identity import Caller, Target
from broker.core.ids import CredentialId, GrantId
from broker.core.kinds import TargetKind
from broker.service import lookup, story
from broker.service.policies import ask_access, claims_of
from broker.service.ports import Credential, Tx
from broker.service.world import World
from policy.engine import Deny

ISSUED_KINDS: Final = ("ssh", "token", TargetKind.POSTGRES.value, TargetKind.SECRET.value)
"""What counts against a grant's cap; egress certificates are the broker's own."""


def allowed(world: World, tx: Tx, caller: Caller, grant_id: GrantId, instant: Instant) -> tuple[Grant, Target]:
    """The caller's own grant and its target, where policy still allows it and the grant may issue one more.

    Raises:
        Refusal: frozen, suspended, not the caller's, changed since it was approved, denied, `too_many_credentials`.
    """
    lookup.not_frozen(tx)
    identity = lookup.active(tx, caller.identity)
    grant = lookup.own_grant(tx, caller, grant_id)
    target = lookup.pinned_target(tx, grant)
    answer = ask_access(
        world.policies.in_force(tx), tx, identity, target, login=grant.login, ceiling=grant.ceiling, flags=grant.flags,
        ttl=grant.ttl, claimed=claims_of(tx, grant), now=instant.wall,
    )  # fmt: skip
    if isinstance(answer, Deny):
        raise forbidden("policy_denied", f"policy no longer allows this: {', '.join(answer.reasons)}")
    if tx.credentials.count(grant_id, ISSUED_KINDS) >= world.limits.credentials_per_grant:
        raise exhausted("too_many_credentials", "the grant has issued as many as it may", "use one of them")
    return grant, target


def activated(world: World, tx: Tx, caller: Caller, before: Grant, instant: Instant) -> Grant:
    """The grant in use: its end is set and expected from now on, and its row says so.

    Raises:
        Refusal: it is over, by either clock.
    """
    grant = first_use(before, instant.wall)
    world.leases.must_last(grant, instant)
    if before.state is GrantState.APPROVED:
        tx.grants.put(grant)
        world.ends.expect(grant.tenant, grant.deadline(), grant.id)
        tx.audit.append(story.of_grant("grant.activated", grant, actor=caller.identity), instant.wall)
    return grant


def row_of(
    grant: Grant, *, kind: str, serial: str, key: bytes, state: CredentialState, now: datetime, random16: bytes
) -> Credential:
    """A new credential of a grant in use, until the grant's end."""
    if grant.not_after is None:
        raise not_found("grant")
    return Credential(
        tenant=grant.tenant,
        id=CredentialId(ids.render("credential", random16)),
        grant_id=grant.id,
        kind=kind,
        serial=serial,
        key=key,
        state=state,
        issued_at=now,
        not_after=grant.not_after,
        ended_at=None,
    )
