"""ActionService: classify, preview, wait, take back; Execute has a file of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

from broker.core.ids import ActionId, GrantId
from broker.rpc.call import Call, Send
from broker.rpc.convert.action import STATES_OF, action_out, classification_out, command_of, preview_out
from broker.rpc.convert.scalars import span
from broker.rpc.execute import Execution
from broker.service.issue import IssueService
from broker.service.propose import ProposeService
from broker.service.run import RunService
from broker.service.starting import StartingService
from broker.service.waiting import WaitingService
from grantd.v1 import action_pb2 as pb


class ActionServicer:
    """Translates; broker.service.propose, run and waiting do the work."""

    def __init__(
        self, propose: ProposeService, starting: StartingService, run: RunService, issue: IssueService,
        waiting: WaitingService,
    ) -> None:  # fmt: skip
        self._propose, self._starting, self._run, self._issue = propose, starting, run, issue
        self._waiting = waiting

    async def Classify(self, request: pb.ClassifyRequest, call: Call) -> pb.ClassifyResponse:
        seen = await self._propose.explain(call.caller, request.line)
        return pb.ClassifyResponse(classification=classification_out(seen.verdict, seen.advice))

    async def Preview(self, request: pb.PreviewRequest, call: Call) -> pb.PreviewResponse:
        grant, command = GrantId(request.grant_id), command_of(request.command)
        return preview_out(await self._propose.preview(call.caller, grant, command))

    async def Execute(
        self, requests: AsyncIterator[pb.ExecuteRequest], call: Call, send: Send[pb.ExecuteResponse]
    ) -> None:
        stream = Execution(self._propose, self._starting, self._run, self._issue, call, requests, send)
        await stream.conduct()

    async def WaitAction(self, request: pb.WaitActionRequest, call: Call) -> pb.WaitActionResponse:
        action = await self._waiting.wait(
            call.caller,
            ActionId(request.action_id),
            unless=STATES_OF.get(request.unless),
            at_most=span("timeout", request.timeout),
        )
        return pb.WaitActionResponse(action=action_out(action))

    async def CancelAction(self, request: pb.CancelActionRequest, call: Call) -> pb.CancelActionResponse:
        action = await self._waiting.cancel(call.caller, ActionId(request.action_id))
        return pb.CancelActionResponse(action=action_out(action))
