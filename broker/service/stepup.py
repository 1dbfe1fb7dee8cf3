"""Step-up.

A fresh signature over one administrative change, by the caller and, where it raises power, by a second person (I-17,
I-43).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.core.clock import from_micros
from broker.core.errors import Blame, Refusal
from broker.core.identity import Caller, Identity, IdentityKind, IdentityStatus
from broker.core.ids import IdentityId
from broker.core.records import CHANGE_NAMESPACE, change_record
from broker.core.roles import Permission, holds
from broker.core.sshsig import verify
from broker.service.ports import Tx

OWN_FRESH = timedelta(minutes=5)
SECOND_FRESH = timedelta(minutes=10)
_AHEAD = timedelta(minutes=1)
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUp:
    """One person's signature as it came in."""

    person: IdentityId
    signed_at_us: int
    nonce: bytes
    signature: bytes
    trust_signature: bytes = b""
    """Over the statement of the change for the signer, where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is being changed: the RPC's full name and its deterministic request bytes without the signatures."""

    method: str
    payload: bytes
    step_ups: Sequence[StepUp]
    trust: bytes = b""
    """The statement for the signer; it counts by its own signatures alone."""


def signed_by(
    tx: Tx, caller: Caller, change: Change, *, permission: Permission, second: bool, now: datetime,
    besides: IdentityId | None = None,
) -> tuple[IdentityId, ...]:  # fmt: skip
    """Who signed: the caller, and where `second` and the tenant has two who could, another person who could.

    `besides` is whom the change is about: that person is not asked and does not count.

    Raises:
        Refusal: `step_up_needed`, `second_person_needed`, `bad_signature`; a nonce works once.
    """
    signers = tuple(_signer(tx, change, step_up, caller=caller, now=now) for step_up in change.step_ups)
    if caller.identity not in {s.id for s in signers}:
        raise _needed("step_up_needed", "this change needs a fresh signature by your approval key", "sign it")
    others = [s for s in signers if s.id not in (caller.identity, besides) and holds(s.role, permission)]
    if second and not others and _could(tx, permission, besides) > 1:
        raise _needed(
            "second_person_needed", "this change needs a second person's signature", "have a colleague sign it"
        )
    return tuple(s.id for s in signers)


def _signer(tx: Tx, change: Change, step_up: StepUp, *, caller: Caller, now: datetime) -> Identity:
    person = tx.identities.get(step_up.person)
    at = from_micros(step_up.signed_at_us)
    fresh_for = OWN_FRESH if step_up.person == caller.identity else SECOND_FRESH
    fresh = -_AHEAD <= now - at <= fresh_for and len(step_up.nonce) == _NONCE_BYTES
    if (
        person is None
        or person.kind is not IdentityKind.PERSON
        or person.status is not IdentityStatus.ACTIVE
        or not fresh
    ):
        raise _needed("step_up_needed", "a signature is too old or not a person's", "sign it again")
    record = change_record(
        tenant=caller.tenant,
        person=step_up.person,
        method=change.method,
        payload_sha256=hashlib.sha256(change.payload).digest(),
        at=at,
        nonce=step_up.nonce,
    )
    verify(step_up.signature, record, CHANGE_NAMESPACE, person.approval_keys)
    if not tx.seen.first_time("change", step_up.nonce, now + SECOND_FRESH + _AHEAD):
        raise _needed("step_up_needed", "a signature was used before", "sign it again")
    return person


def _could(tx: Tx, permission: Permission, besides: IdentityId | None) -> int:
    """How many people of the tenant could make this change."""
    people = [row for row in tx.identities.all() if row.kind is IdentityKind.PERSON and row.id != besides]
    return sum(1 for row in people if row.status is IdentityStatus.ACTIVE and holds(row.role, permission))


def _needed(code: str, message: str, way_out: str) -> Refusal:
    return Refusal(code, message, blame=Blame.FORBIDDEN, way_out=way_out)
