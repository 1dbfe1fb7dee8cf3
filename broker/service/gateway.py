"""Admission at the SSH door.

A certificate that completed authentication, turned into a caller and a grant by its row (I-08, I-24).

A valid signature is never enough; the user name carries no authority, it must merely agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker.core.cert import gateway_user
from broker.core.errors import Blame, Refusal
from broker.core.events import AuditEvent
from broker.core.grant import Grant, must_be_usable
from broker.core.identity import Caller, Identity
from broker.core.ids import GrantId, is_id
from broker.service import lookup
from broker.service.ending import Ending
from broker.service.identify import caller_of
from broker.service.ports import Tx
from broker.service.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the client showed and proved possession of."""

    user: str
    """What ssh was told to log in as: the principal, or its login alone."""
    key_id: str
    serial: int
    key_sha256: bytes
    """Of the public key blob whose signature completed authentication."""
    principals: tuple[str, ...]
    valid_after: datetime
    valid_before: datetime
    options: frozenset[str]
    """Names of critical options."""
    extensions: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """One connection's grant: it never changes while the connection lives (I-22)."""

    caller: Caller
    grant: Grant


class GatewayService:
    """Admits connections, and tells the log what was refused on them."""

    def __init__(self, world: World, ending: Ending) -> None:
        self._world, self._ending = world, ending

    async def admit(self, shown: Shown) -> Admission:
        """The caller and the grant behind a certificate.

        Raises:
            Refusal: `not_admitted`, always the same words; the reason stands in the log.
        """
        now = self._world.instant().wall
        grant_id = GrantId(shown.key_id)
        # (1) the certificate is one that we could have issued
        _must_be_well_made(shown, now)
        if self._ending.is_ended(grant_id):
            raise _not_admitted("its grant is over")
        # (2) its row says whose it is, and for which key
        for tenant in await self._world.store.tenants():
            found = await self._world.store.read(tenant, lambda tx: _admitted(tx, shown, now))
            if found is not None:
                return found
        raise _not_admitted("no row of that serial")

    async def is_over(self, admission: Admission) -> bool:
        """Whether nothing may start any more under a connection's grant: it ended, or its tenant is frozen."""
        now = self._world.reading().wall
        if self._ending.is_ended(admission.grant.id):
            return True
        return await self._world.store.read(admission.caller.tenant, lambda tx: _is_over(tx, admission, now))

    async def refused(self, admission: Admission, feature: str) -> None:
        """A feature was asked for that is not granted: audited, one fixed phrase for the client (I-20)."""
        event = AuditEvent(
            tenant=admission.caller.tenant,
            name="session.feature_refused",
            actor=admission.caller.identity,
            facts={"grant": admission.grant.id, "feature": feature, "door": "ssh"},
        )
        now = self._world.clock.now()
        await self._world.store.run(admission.caller.tenant, lambda tx: tx.audit.append(event, now))
        self._world.meter.count("features_refused", feature=feature)

    async def rejected(self, reason: str) -> None:
        """A connection that was not admitted at all: counted, and an event of the system's own log."""
        self._world.meter.count("connections_refused", reason=reason)


def _must_be_well_made(shown: Shown, now: datetime) -> None:
    """What no certificate of ours is like, each by its name. Raises Refusal."""
    wrong = {
        "the key id is no grant's": not is_id(shown.key_id),
        "not exactly one principal": len(shown.principals) != 1,
        "a critical option": bool(shown.options),
        "an extension that is not granted": not shown.extensions <= {"permit-pty"},
        "not valid yet": now < shown.valid_after,
        "no longer valid": now >= shown.valid_before,
    }
    for rule, holds in wrong.items():
        if holds:
            raise _not_admitted(rule)


def _admitted(tx: Tx, shown: Shown, now: datetime) -> Admission | None:
    row = tx.credentials.by_serial("ssh", str(shown.serial))
    if row is None:
        return None
    if row.grant_id != shown.key_id:
        raise _not_admitted("its row is another grant's")
    if row.key != shown.key_sha256:
        raise _not_admitted("its row is for another key")
    # a longer life than the row's is not what was issued, whoever signed it (threats.md M3)
    if now >= row.not_after or shown.valid_before > row.not_after:
        raise _not_admitted("it lives longer than its row")
    grant = tx.grants.get(row.grant_id)
    identity = None if grant is None else tx.identities.get(grant.identity)
    if grant is None or identity is None:
        raise _not_admitted("its grant is gone")
    return _if_usable(tx, shown, grant, identity, now)


def _is_over(tx: Tx, admission: Admission, now: datetime) -> bool:
    grant = tx.grants.get(admission.grant.id)
    if grant is None:
        return True
    try:
        lookup.not_frozen(tx)
        lookup.active(tx, admission.caller.identity)
        must_be_usable(grant, now)
    except Refusal:
        return True
    return False


def _if_usable(tx: Tx, shown: Shown, grant: Grant, identity: Identity, now: datetime) -> Admission:
    try:
        lookup.not_frozen(tx)
        lookup.active(tx, identity.id)
        must_be_usable(grant, now)
        target = lookup.target_of(tx, grant)
    except Refusal as refusal:
        raise _not_admitted(refusal.code) from refusal
    # (3) key, certificate, user name and row agree; the bare login is what `ssh deploy@host` cannot help but send
    principal = gateway_user(grant.login, target.name)
    if shown.principals != (principal,):
        raise _not_admitted("its principal is not its grant's")
    if shown.user not in (principal, grant.login):
        raise _not_admitted("asked for under another name")
    if identity.key != grant.identity_key:
        raise _not_admitted("its grant is for an earlier key of this identity")
    return Admission(caller=caller_of(identity), grant=grant)


def _not_admitted(rule: str) -> Refusal:
    return Refusal(
        "not_admitted", "access denied", blame=Blame.UNAUTHENTICATED, way_out="request access again", rule=rule
    )
