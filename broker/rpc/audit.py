"""AuditService: the log, its heads, its proofs, and bundles that anybody can check offline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from broker.core.errors import not_found
from broker.rpc.call import Call
from broker.rpc.convert.audit import consistency_out, head_out, inclusion_out, record_out
from broker.service.audit import AuditService
from grantd.v1 import audit_pb2 as pb

_PAGE = 100
_ROOM = 900 * 1024
"""Bytes of a page: what does not fit comes with the next one."""


class AuditServicer:
    """Translates; broker.service.audit does the work."""

    def __init__(self, audit: AuditService) -> None:
        self._audit = audit

    async def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        size = request.page_size or _PAGE
        records = await self._audit.entries(call.caller, from_seq=request.from_seq, limit=size, reason=request.reason)
        events = _fitting([record_out(record) for record in records])
        more = len(events) < len(records) or len(records) == size
        return pb.ListEventsResponse(events=events, next_seq=events[-1].seq + 1 if events and more else 0)

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, call: Call) -> pb.GetCheckpointResponse:
        head = await self._audit.head(call.caller)
        if head is None:
            raise not_found("checkpoint")
        return head_out(head)

    async def ProveInclusion(self, request: pb.ProveInclusionRequest, call: Call) -> pb.ProveInclusionResponse:
        proof = await self._audit.prove_inclusion(call.caller, seq=request.seq, size=request.size or None)
        return inclusion_out(proof)

    async def ProveConsistency(self, request: pb.ProveConsistencyRequest, call: Call) -> pb.ProveConsistencyResponse:
        proof = await self._audit.prove_consistency(
            call.caller, old_size=request.from_size, size=request.to_size or None
        )
        return consistency_out(proof)

    async def ExportBundle(self, request: pb.ExportBundleRequest, call: Call) -> AsyncIterator[pb.ExportBundleResponse]:
        files = await self._audit.export(
            call.caller, reason=request.reason, recordings=request.recordings, disclosures=request.disclosures
        )
        async for path, data in files:
            yield pb.ExportBundleResponse(path=path, data=data)


def _fitting(events: Sequence[pb.AuditEvent]) -> list[pb.AuditEvent]:
    """As many from the front as fit one message, at least one."""
    fitting: list[pb.AuditEvent] = []
    room = _ROOM
    for event in events:
        room -= event.ByteSize()
        if fitting and room < 0:
            break
        fitting.append(event)
    return fitting
