"""ApprovalService: what waits for a person, as a list and as a stream, and the person's signed decision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from broker.rpc.call import Call
from broker.rpc.convert.approval import pending_list_out, pending_out, vote_of
from broker.rpc.convert.glass import glass_out
from broker.service.approval import ApprovalService, Pending
from broker.service.glass import GlassService
from grantd.v1 import approval_pb2 as pb


class ApprovalServicer:
    """Translates; broker.service.approval does the work."""

    def __init__(self, approval: ApprovalService, glass: GlassService) -> None:
        self._approval, self._glass = approval, glass

    async def ListPending(self, request: pb.ListPendingRequest, call: Call) -> pb.ListPendingResponse:
        return pending_list_out([pending_out(item) for item in await self._approval.pending(call.caller)])

    async def WatchPending(self, request: pb.WatchPendingRequest, call: Call) -> AsyncIterator[pb.WatchPendingResponse]:
        shown: Mapping[str, Pending] = {}
        rung: frozenset[str] = frozenset()
        async for waits in self._approval.watch(call.caller):
            for item in waits.values():
                if shown.get(item.id) != item:  # new, or somebody else said yes meanwhile
                    yield pb.WatchPendingResponse(added=pending_out(item))
            for gone in shown.keys() - waits.keys():
                state = await self._approval.state_of(call.caller.tenant, gone)
                yield pb.WatchPendingResponse(gone=pb.PendingGone(id=gone, state=state))
            shown = waits
            alarms = {each.glass.id: each for each in await self._glass.alarms(call.caller)}
            for new in alarms.keys() - rung:
                yield pb.WatchPendingResponse(alarm=glass_out(alarms[new]))
            rung = frozenset(alarms)
            yield pb.WatchPendingResponse(in_step=True)

    async def GetPending(self, request: pb.GetPendingRequest, call: Call) -> pb.GetPendingResponse:
        return pb.GetPendingResponse(item=pending_out(await self._approval.get(call.caller, request.id)))

    async def Decide(self, request: pb.DecideRequest, call: Call) -> pb.DecideResponse:
        standing = await self._approval.decide(call.caller, vote_of(request))
        return pb.DecideResponse(state=standing.state, missing=standing.missing)
