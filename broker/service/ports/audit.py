"""The audit log as services and jobs see it. Appending is the store's AuditRows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from broker.core.ids import (
    TenantId,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One row of a tenant's log, checked against the tree before it is handed out."""

    seq: int
    """Leaf index."""
    entry: bytes
    """The exact leaf: canonical JSON (recorder.entry)."""
    disclosures: tuple[bytes, ...]
    """Texts whose digests stand in the entry; fewer than digests only where a `subject.erased` row says so."""
    at: datetime
    code: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """The newest published checkpoint of a log."""

    note: bytes
    """C2SP signed note."""
    vkey: str
    """Verifier key of the log, `origin+id+key`."""
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """That leaf `seq` is in the tree of `size` leaves (RFC 6962)."""

    seq: int
    size: int
    leaf_hash: bytes
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyProof:
    """That the tree of `old_size` leaves is a prefix of the tree of `size` leaves (RFC 6962)."""

    old_size: int
    size: int
    hashes: tuple[bytes, ...]


class AuditHealth(Protocol):
    """Whether what happens now can still be proved later. Asked before anything is granted, signed or run (I-31)."""

    def refuse_if_broken(self, tenant: TenantId) -> None:
        """Raises Refusal `audit_log_forked` or `audit_log_late`; never waits, never touches the store."""
        ...

    def forked(self, tenant: TenantId) -> bool:
        """Whether this log, or that of `_system`, does not continue what was signed: the database may be an older one.

        Known from the start of the process on.
        """
        ...


class AuditLog(Protocol):
    """Reading a tenant's log. Who reads, and why, is the service's to write down first (I-33)."""

    async def entries(self, tenant: TenantId, *, from_seq: int, limit: int) -> Sequence[AuditRecord]:
        """In order, at most `limit` (1 to 1000). Raises Fault when a row or a disclosure is not what the tree holds."""
        ...

    async def head(self, tenant: TenantId) -> SignedHead | None:
        """The newest checkpoint; None before the first."""
        ...

    async def prove_inclusion(self, tenant: TenantId, *, seq: int, size: int | None) -> InclusionProof:
        """In the tree of `size`, None = the newest checkpoint's. Raises Refusal `no_such_leaf`, `no_such_size`."""
        ...

    async def prove_consistency(self, tenant: TenantId, *, old_size: int, size: int | None) -> ConsistencyProof:
        """From `old_size` to `size`, None = the newest checkpoint's. Raises Refusal `no_such_size`."""
        ...

    def export_bundle(
        self, tenant: TenantId, *, recordings: bool, disclosures: bool
    ) -> AsyncIterator[tuple[str, bytes]]:
        """The files of a bundle (recorder.bundle) as (relative path, at most 256 KiB).

        The same path again continues it.

        Made at the newest checkpoint, which never moves under it. Raises Refusal `no_checkpoint`.
        """
        ...


class AuditKeeper(Protocol):
    """What keeps a log growing; driven by broker.jobs.sequencer alone. Every call raises Fault when it could not."""

    async def start(self, now: datetime) -> None:
        """Opens or makes the signing key, holds every kept head against the log. Nothing is served before this."""
        ...

    async def waiting(self, *, sweep: bool) -> Sequence[TenantId]:
        """Logs with something to sequence, as far as this broker knows; `sweep` looks into every log."""
        ...

    async def sequence(self, tenant: TenantId) -> int:
        """Gives waiting entries their places, at most one batch, durably. Returns how many."""
        ...

    def unsigned(self) -> Sequence[TenantId]:
        """Logs that have grown since their last signed head."""
        ...

    async def sign_head(self, tenant: TenantId, now: datetime) -> bool:
        """Proves that the log continues its last signed head, signs, keeps outside the database, publishes.

        False if nothing is new. A log that does not continue is broken from then on: AuditHealth refuses.
        """
        ...

    async def beat(self, now: datetime) -> Sequence[TenantId]:
        """Appends `system.heartbeat` to each log whose last signed head is an hour old, so that silence can be seen."""
        ...

    def report(self) -> None:
        """Lag and state to the meter."""
        ...
