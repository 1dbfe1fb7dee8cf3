"""Looking things up for a caller: what is not there and what is not theirs give the same answer (I-46)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, assert_never

from broker.core.action import Action
from broker.core.database import PostgresSettings
from broker.core.errors import Blame, Refusal, conflict, forbidden, invalid, not_found
from broker.core.grant import Grant
from broker.core.identity import Caller, Identity, IdentityStatus, Target
from broker.core.ids import GrantId, IdentityId
from broker.core.kinds import SecretSettings, SshSettings, TargetKind, pin_of
from broker.core.roles import TEAM_BOUND, Role
from broker.core.sshwire import parse_line
from broker.service.live import frozen
from broker.service.ports import FreezeOrder, Tx
from policy.classes import CommandClass

_MAX_KEY = 64
_PINS_KEPT = 1_024
"""Host keys whose digests are remembered: every use of a grant compares its target's."""


def not_frozen(tx: Tx) -> None:
    """Refuses while the tenant is frozen (I-61)."""
    order = standing_freeze(tx)
    if order is not None:
        raise frozen(order.told())


def standing_freeze(tx: Tx) -> FreezeOrder | None:
    """The tenant's freeze as the store has it, with the name of whoever pulled the switch."""
    row = tx.freezes.active()
    if row is None:
        return None
    person = tx.identities.get(IdentityId(row.frozen_by))
    return FreezeOrder(
        tenant=row.tenant, by=row.frozen_by, name=person.name if person else "", reason=row.reason, at=row.at
    )


def active(tx: Tx, identity: IdentityId) -> Identity:
    """The identity's row, if it may act at all."""
    row = tx.identities.get(identity)
    if row is None or row.status is not IdentityStatus.ACTIVE:
        raise Refusal("identity_suspended", "this identity is suspended", blame=Blame.UNAUTHENTICATED)
    return row


def own_grant(tx: Tx, caller: Caller, grant_id: GrantId) -> Grant:
    """A grant that the caller itself may use: made for its identity and its very key (I-08)."""
    grant = tx.grants.get(grant_id)
    if grant is None or grant.identity != caller.identity:
        raise not_found("grant")
    if grant.identity_key != caller.key:
        raise forbidden("key_changed", "the grant was made for another key of yours", "request access again")
    return grant


def target_of(tx: Tx, grant: Grant) -> Target:
    """The host that a grant is on, if it is still pinned to the key that was approved (I-14, I-25)."""
    target = pinned_target(tx, grant)
    if target.kind is not TargetKind.SSH:
        raise wrong_kind(target.kind)
    return target


def pinned_target(tx: Tx, grant: Grant) -> Target:
    """The grant's target of whatever kind, if it is still what was approved (I-14, I-25)."""
    target = tx.targets.get(grant.target_id)
    if target is None:
        raise not_found("target")
    if host_key_sha256(target) != grant.host_key:
        raise conflict(
            "target_changed", "what the target is pinned to changed since this was approved", "request access again"
        )
    return target


def wrong_kind(kind: TargetKind) -> Refusal:
    """The refusal of a use that a target of this kind does not have."""
    return invalid("wrong_kind", f"this is not how a target of kind {kind} is used", _WAYS[kind])


_WAYS: Final[Mapping[TargetKind, str]] = MappingProxyType(
    {
        TargetKind.SSH: "use grantctl run or ssh",
        TargetKind.POSTGRES: "use grantctl db",
        TargetKind.SECRET: "use grantctl secret",
    }
)


def host_key_sha256(target: Target) -> bytes:
    """SHA-256 of the pinned host public key blob, 32 bytes; on other kinds of all that a grant would give."""
    match target.settings:
        case SshSettings():
            return _sha256_of_line(target.host_key)
        case PostgresSettings() | SecretSettings() as settings:
            return pin_of(settings, host=target.host, port=target.port)
        case _:
            assert_never(target.settings)


@lru_cache(maxsize=_PINS_KEPT)
def _sha256_of_line(line: str) -> bytes:
    return parse_line(line).sha256()


def sees_target(caller: Caller, target: Target | None) -> bool:
    """Whether the caller's role lets it see what happens on a target: all for Owner, Admin, Viewer.

    Own teams for a Manager.
    """
    if caller.role is Role.AGENT:
        return False
    if caller.role in TEAM_BOUND:
        return target is not None and bool(caller.teams & target.teams)
    return True


def once(
    tx: Tx, caller: Caller, *, method: str, key: str, content: bytes, find: Callable[[str], object | None]
) -> object | None:
    """What an earlier call with this idempotency key made, or None for a new one.

    Raises:
        Refusal: the key is malformed, or was used for something else.
    """
    checked_key(key)
    earlier = tx.idempotency.find(caller.identity, method, key)
    if earlier is None:
        return None
    if earlier[0] != hashlib.sha256(content).digest():
        raise conflict(
            "idempotency_key_reused", "this idempotency key was used for another request", "choose a new key"
        )
    return find(earlier[1])


def checked_key(key: str) -> str:
    """`key`, if it can be an idempotency key."""
    if not key or len(key) > _MAX_KEY or not key.isascii() or not key.isprintable():
        raise invalid("bad_idempotency_key", "the idempotency key must be 1 to 64 printable characters")
    return key


def only_reads(action: Action) -> bool:
    """Whether an action was classed as nothing but observing."""
    return action.command_class is CommandClass.READ and not action.opaque


def effective_login(target: Target, login: str, *, reads: bool) -> str:
    """The login that a command runs as: the grant's, or for reads the unprivileged one that stands in for it.

    Raises:
        Refusal: the target no longer has this login.
    """
    entry = next((known for known in target.logins if known.name == login), None)
    if entry is None:
        raise conflict("target_changed", "the target no longer has this login", "request access again")
    return (entry.read_login or entry.name) if reads else entry.name
