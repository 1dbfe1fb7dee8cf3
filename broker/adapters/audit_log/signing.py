"""The key that signs heads, and the names that it signs them under. Never leaves the process, signs nothing else.

One key for every log of a cluster: a head says whose log it is in its signed text, and the name of the verifier key is
that same origin, so a head of one log is no head of another.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.adapters.audit_log.errors import LogForked
from broker.adapters.audit_log.tree import Head
from broker.core.clock import micros
from broker.core.errors import Fault, invalid
from broker.core.events import AuditEvent
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.core.keymaterial import KEY_BYTES, must_be_strong
from broker.core.secret import Secret
from broker.service.ports import Entropy, Store, Tx
from recorder.checkpoint import Checkpoint, sign, vkey

SECRET_NAME: Final = "audit-head-key"  # noqa: S105  the name of a vault secret of `_system`, not its value
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?")
_CLUSTER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNames:
    """Where the origins of this cluster's logs come from: `<domain>/<cluster>/audit/<tenant>`."""

    domain: str
    cluster: str

    def __post_init__(self) -> None:
        if not _DOMAIN.fullmatch(self.domain) or not _CLUSTER.fullmatch(self.cluster):
            raise invalid(
                "bad_log_name", "the cluster's domain and id name its logs for ever", "lower case, digits, dots, dashes"
            )

    def origin(self, tenant: TenantId, epoch: int = 0) -> str:
        """The name of a tenant's log. Each epoch after a restore has its own: its heads continue no earlier one's."""
        return f"{self.domain}/{self.cluster}/audit/{tenant}" + (f"/e{epoch}" if epoch else "")


class HeadKey:
    """An Ed25519 key, opened."""

    def __init__(self, names: LogNames, seed: Secret[bytes]) -> None:
        """`seed`: 32 bytes. Raises WeakKey."""
        must_be_strong(seed.reveal())
        self._names = names
        self._epochs: dict[TenantId, int] = {}
        self._private = Ed25519PrivateKey.from_private_bytes(seed.reveal())
        self._public = self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"HeadKey({self._public.hex()})"

    def enter(self, tenant: TenantId, epoch: int) -> None:
        """From now on it signs for this epoch of a log."""
        self._epochs[tenant] = epoch

    def origin(self, tenant: TenantId) -> str:
        """The name of a log in its present epoch."""
        return self._names.origin(tenant, self._epochs.get(tenant, 0))

    def vkey(self, tenant: TenantId) -> str:
        """What anyone needs to check heads of this log."""
        return vkey(self.origin(tenant), self._public)

    def sign(self, tenant: TenantId, head: Head, now: datetime) -> tuple[Checkpoint, bytes]:
        """The head as a checkpoint and as its signed note, checked. The caller has asked the guard first."""
        checkpoint = Checkpoint(
            origin=self.origin(tenant), size=head.size, root=head.root, time_s=micros(now) // _SECOND_US
        )
        return checkpoint, sign(checkpoint, public_key=self._public, signer=self._private.sign)


async def open_head_key(store: Store, names: LogNames, entropy: Entropy, now: datetime, *, first: bool) -> HeadKey:
    """The cluster's key; made, and its making audited, where there is none and this is the `first` start.

    Raises:
        LogForked: there is no key, although heads were signed before.
    """
    seed = await store.read(SYSTEM_TENANT, lambda tx: tx.keys.secret(SECRET_NAME))
    if seed is None and not first:
        raise LogForked("heads are kept here, and the key that signed them is gone")
    if seed is None:
        seed = await store.run(SYSTEM_TENANT, lambda tx: _make(tx, entropy, now))
    return HeadKey(names, seed)


def _make(tx: Tx, entropy: Entropy, now: datetime) -> Secret[bytes]:
    found = tx.keys.secret(SECRET_NAME)
    if found is not None:
        return found
    seed = Secret(entropy.token(KEY_BYTES))
    sealed = tx.keys.put_secret(SECRET_NAME, seed)
    facts: dict[str, str | int] = {
        "secret": hashlib.sha256(SECRET_NAME.encode()).hexdigest(),
        "version": sealed.version,
        "blob": sealed.sha256.hex(),
    }
    tx.audit.append(AuditEvent(tenant=SYSTEM_TENANT, name="secret.updated", facts=facts), now)
    tx.audit.append(AuditEvent(tenant=SYSTEM_TENANT, name="key.created", facts={"purpose": "audit_heads"}), now)
    return seed


class Keyring:
    """The opened key, once the log has started. What needs it before that is refused."""

    def __init__(self) -> None:
        self._key: HeadKey | None = None

    def put(self, key: HeadKey) -> None:
        """From now on heads can be signed and named."""
        self._key = key

    def get(self) -> HeadKey:
        """Raises Fault before the start."""
        if self._key is None:
            raise Fault("the audit log has not started")
        return self._key
