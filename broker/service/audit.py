"""Reading the audit log: every read names its reader and reason in the log itself, before it is answered (I-33)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from broker.core.events import AuditEvent
from broker.core.identity import Caller
from broker.core.request import checked_text
from broker.service import story
from broker.service.ports import AuditLog, AuditRecord, ConsistencyProof, InclusionProof, SignedHead
from broker.service.session import given_reason
from broker.service.world import World

_PAGE = 100
_MAX_PAGE = 500
MAX_REASON_BYTES = 512


class AuditService:
    """ListEvents, GetCheckpoint, the proofs, ExportBundle."""

    def __init__(self, world: World, log: AuditLog) -> None:
        self._world, self._log = world, log

    async def entries(self, caller: Caller, *, from_seq: int, limit: int, reason: str) -> Sequence[AuditRecord]:
        """A page of entries with what is disclosed of them."""
        await self._tell(caller, "audit.viewed", reason, from_seq=from_seq)
        return await self._log.entries(caller.tenant, from_seq=from_seq, limit=min(limit or _PAGE, _MAX_PAGE))

    async def head(self, caller: Caller) -> SignedHead | None:
        """The newest checkpoint; it says nothing about anybody, so reading it is not written down."""
        return await self._log.head(caller.tenant)

    async def prove_inclusion(self, caller: Caller, *, seq: int, size: int | None) -> InclusionProof:
        """That an entry is in the tree."""
        return await self._log.prove_inclusion(caller.tenant, seq=seq, size=size)

    async def prove_consistency(self, caller: Caller, *, old_size: int, size: int | None) -> ConsistencyProof:
        """That a head continues an older one."""
        return await self._log.prove_consistency(caller.tenant, old_size=old_size, size=size)

    async def export(
        self, caller: Caller, *, reason: str, recordings: bool, disclosures: bool
    ) -> AsyncIterator[tuple[str, bytes]]:
        """The files of a bundle that anybody can check offline."""
        await self._tell(caller, "audit.exported", reason, recordings=int(recordings), disclosures=int(disclosures))
        return self._log.export_bundle(caller.tenant, recordings=recordings, disclosures=disclosures)

    async def _tell(self, caller: Caller, name: str, reason: str, **facts: int) -> None:
        if name == "audit.exported":
            given_reason(reason)
        checked_text("reason", reason, MAX_REASON_BYTES)
        event = AuditEvent(
            tenant=caller.tenant,
            name=name,
            actor=caller.identity,
            facts=facts,
            personal=story.personal(caller.identity, reason=reason),
        )
        await self._world.store.run(caller.tenant, lambda tx: tx.audit.append(event, self._world.clock.now()))
