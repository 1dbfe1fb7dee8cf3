"""Secrets that people put in, and agents and people check out: names and versions here, values only in passing.

Getting a value is a matter of grants and of their issuer; this is about what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.core.errors import conflict, invalid, not_found
from broker.core.events import AuditEvent
from broker.core.identity import Caller
from broker.core.ids import is_name
from broker.core.records import pae
from broker.core.request import checked_text
from broker.service import story
from broker.service.ports import SecretCheckout, SecretVersion, Tx
from broker.service.world import World

MAX_BYTES: Final = 65_536
_MAX_REASON_BYTES: Final = 512
_DOMAIN: Final = b"grantd/secret/put/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A value on its way in."""

    name: str
    upload_key: bytes
    sealed: bytes
    replaces: int
    """The version that it takes the place of; 0 for the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretStanding:
    """A secret without its value."""

    newest: SecretVersion
    kept: bool
    """False once the value was deleted."""
    out: int
    """Leases on the newest version that run."""
    due_since: datetime | None
    """When the first lease on it ended: whoever had it still knows it."""


class SecretsService:
    """GetUploadKey, PutSecret, ListSecrets, DeleteSecret."""

    def __init__(self, world: World) -> None:
        self._world = world

    def upload_key(self) -> bytes:
        """What to seal the next value to."""
        return self._world.uploads.public_key()

    async def put(self, caller: Caller, upload: Upload) -> int:
        """Keeps a value, or the next version of it; the one before is gone. Returns the version.

        Raises:
            Refusal: `bad_name`, `upload_key_gone`, `bad_upload`, `bad_value`, `secret_changed`.
        """
        if not is_name(upload.name):
            raise invalid("bad_name", "a secret's name is lower case letters, digits, '.', '_', '-'")
        now = self._world.ready(caller.tenant).wall
        info = pae([_DOMAIN, caller.tenant.encode(), caller.identity.encode(), upload.name.encode()])
        with self._world.uploads.opened(upload.upload_key, upload.sealed, info) as value:
            if not 1 <= len(value) <= MAX_BYTES:
                raise invalid("bad_value", f"a value has 1 to {MAX_BYTES} bytes")
            return await self._world.store.run(caller.tenant, lambda tx: _put(tx, caller, upload, value, now))

    async def all(self, caller: Caller) -> Sequence[SecretStanding]:
        """What there is, by name."""

        def unit(tx: Tx) -> Sequence[SecretStanding]:
            kept = tx.secrets.kept()
            return [
                _standing(one, tx.secrets.checkouts(one.name, one.version), kept=one.name in kept)
                for one in tx.secrets.all()
            ]

        return await self._world.store.read(caller.tenant, unit)

    async def delete(self, caller: Caller, name: str, reason: str) -> None:
        """Deletes the value; its history stays, and a new one can be put. Repeating it is harmless."""
        checked_text("reason", reason, _MAX_REASON_BYTES)
        now = self._world.instant().wall

        def unit(tx: Tx) -> None:
            version = tx.secrets.newest(name)
            if not version:
                raise not_found("secret")
            if tx.keys.drop_secret(name):
                event = AuditEvent(
                    tenant=caller.tenant, name="secret.deleted", actor=caller.identity,
                    facts={"secret": story.named(name), "version": version},
                    personal=story.personal(caller.identity, reason=reason),
                )  # fmt: skip
                tx.audit.append(event, now)

        await self._world.store.run(caller.tenant, unit)


def _put(tx: Tx, caller: Caller, upload: Upload, value: bytearray, now: datetime) -> int:
    newest = tx.secrets.newest(upload.name)
    if upload.replaces != newest:
        raise conflict("secret_changed", f"the newest version is {newest}, not {upload.replaces}", "look at it again")
    if not newest and upload.name in tx.secrets.kept():
        raise invalid("bad_name", "a secret of the broker's own has this name", "choose another")
    version = newest + 1
    sealed = tx.keys.put_value(upload.name, value, version=version)
    tx.secrets.add_version(
        SecretVersion(tenant=caller.tenant, name=upload.name, version=version, put_by=caller.identity, put_at=now)
    )
    tx.audit.append(story.of_secret(caller.tenant, sealed, actor=caller.identity), now)
    return version


def _standing(newest: SecretVersion, taken: Sequence[SecretCheckout], *, kept: bool) -> SecretStanding:
    ended = [one.ended_at for one in taken if one.ended_at is not None]
    return SecretStanding(
        newest=newest, kept=kept, out=len(taken) - len(ended), due_since=min(ended) if ended and kept else None
    )
