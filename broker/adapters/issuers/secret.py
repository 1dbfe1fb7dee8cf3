"""Secrets of the vault as credentials: a value leaves once a grant, sealed to a key of that one call (I-50, I-51).

What was handed out cannot be taken back: at the end of the lease the value is due to be changed, and the log says so.
The value is in one buffer for as long as it takes to seal it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from broker.core.clock import Clock
from broker.core.errors import Refusal, conflict, forbidden, invalid, not_found
from broker.core.events import AuditEvent
from broker.core.hpke import KEY_BYTES, HpkeError, seal
from broker.core.identity import Target
from broker.core.ids import CredentialId, TenantId
from broker.core.kinds import SecretSettings
from broker.core.records import pae
from broker.service.ports import (
    CredentialWish,
    Finding,
    Found,
    Lease,
    Plan,
    SecretCheckout,
    SecretWish,
    Store,
    Tx,
    WrappedSecret,
)
from policy.classes import CommandClass

CEILING: Final = CommandClass.EXECUTE
"""What knowing a value counts as: whatever it opens can be done with it, unseen."""
_DOMAIN: Final = b"grantd/secret/checkout/v1"


class SecretIssuer:
    """ports.CredentialIssuer for targets of kind `secret`."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def plan(self, lease: Lease, wish: CredentialWish) -> Plan:
        if not isinstance(wish, SecretWish) or len(wish.public_key) != KEY_BYTES:
            raise invalid("bad_wish", "a secret is checked out to an X25519 key", "send 32 bytes")
        if lease.ceiling < CEILING:
            raise forbidden(
                "ceiling_too_low",
                "the grant's ceiling is below execute: a value can be used for anything",
                "ask for execute",
            )
        _settings(lease.target)
        return Plan(name=f"checkout-{lease.credential}", key=hashlib.sha256(wish.public_key).digest(), facts={})

    async def create(self, lease: Lease, wish: CredentialWish) -> WrappedSecret:
        self.plan(lease, wish)
        assert isinstance(wish, SecretWish)  # noqa: S101  plan refuses every other
        key, name = wish.public_key, _settings(lease.target).secret
        now = self._clock.now()

        def unit(tx: Tx) -> bytes:
            version = tx.secrets.newest(name)
            taken = SecretCheckout(
                tenant=lease.tenant, credential=lease.credential, grant=lease.grant, name=name, version=version, at=now,
                ended_at=None,
            )  # fmt: skip
            if not tx.secrets.check_out(taken):
                raise conflict("already_checked_out", "this grant has handed its value out", "ask for another grant")
            sealed = tx.keys.use_secret(name, lambda value: _sealed(key, value, lease))
            if sealed is None:
                raise not_found("secret")
            tx.audit.append(_told("secret.read", taken, actor=lease.identity), now)
            return sealed

        try:
            return WrappedSecret(sealed=await self._store.run(lease.tenant, unit))
        except Refusal as refusal:
            # the unit took everything back, its own entry too: that somebody tried is told by itself
            event = _refused(lease, name, refusal.code)
            await self._store.run(lease.tenant, lambda tx: tx.audit.append(event, now))
            raise

    async def end(self, target: Target, credential: CredentialId) -> Found:
        now = self._clock.now()

        def unit(tx: Tx) -> Found:
            taken = tx.secrets.checkout(credential)
            if taken is None or taken.ended_at is not None:
                return Found.NOTHING
            tx.secrets.end_checkout(replace(taken, ended_at=now))
            if taken.version == tx.secrets.newest(taken.name):
                tx.audit.append(_told("secret.due", taken, actor=""), now)
            return Found.SOMETHING

        return await self._store.run(target.tenant, unit)

    async def leftovers(self, target: Target) -> Sequence[CredentialId]:
        found = await self._store.read(target.tenant, lambda tx: tx.secrets.open_on(target.id))
        return [taken.credential for taken in found]

    async def check(self, target: Target, login: str) -> Sequence[Finding]:
        name = _settings(target).secret
        kept = await self._store.read(target.tenant, lambda tx: name in tx.secrets.kept())
        return [Finding(ok=kept, what="a value is kept", advice="" if kept else f"grantctl secret put {name}")]


def context(tenant: TenantId, grant: str, credential: str) -> bytes:
    """What a checked-out value is bound to: opened for anything else, it does not open."""
    return pae([_DOMAIN, tenant.encode(), grant.encode(), credential.encode()])


def _sealed(key: bytes, value: bytearray, lease: Lease) -> bytes:
    try:
        return seal(key, value, context(lease.tenant, lease.grant, lease.credential))
    except HpkeError as error:
        raise invalid("bad_wish", "this is no X25519 key to seal to", "make a fresh one for each call") from error


def _settings(target: Target) -> SecretSettings:
    if not isinstance(target.settings, SecretSettings):
        raise invalid("wrong_kind", "the target is not a secret")
    return target.settings


def _told(name: str, taken: SecretCheckout, *, actor: str) -> AuditEvent:
    facts: dict[str, str | int] = {
        "secret": _named(taken.name), "version": taken.version, "grant": taken.grant, "credential": taken.credential,
    }  # fmt: skip
    return AuditEvent(tenant=taken.tenant, name=name, actor=actor, facts=facts)


def _refused(lease: Lease, name: str, code: str) -> AuditEvent:
    facts: dict[str, str | int] = {
        "secret": _named(name), "grant": lease.grant, "credential": lease.credential, "reason_code": code,
    }  # fmt: skip
    return AuditEvent(tenant=lease.tenant, name="secret.refused", actor=lease.identity, facts=facts)


def _named(name: str) -> str:
    """As the store's entries name a secret, which stand for ever."""
    return hashlib.sha256(name.encode()).hexdigest()
