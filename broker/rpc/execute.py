"""Execute: one command from its first message to its last. Proposes or resumes, waits for the decision, runs it.

Closing the stream while the command waits leaves it waiting; while it runs, its cancellation cuts it (RunService.run).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from broker.core.action import FINISHED, Action, ActionState, StdinMode
from broker.core.errors import conflict, exhausted, forbidden, invalid
from broker.core.ids import ActionId, GrantId
from broker.rpc.call import Call, Send
from broker.rpc.convert.action import action_out, command_of
from broker.rpc.streams import Mouth, declared, nothing, streamed
from broker.service.issue import IssueService
from broker.service.propose import ProposeService
from broker.service.pump import Inlet
from broker.service.run import RunService
from broker.service.start import Ticket
from broker.service.starting import StartingService
from grantd.v1 import action_pb2 as pb

DOOR = "grpc"
FIRST_MESSAGE_S = 10.0
_BEFORE = frozenset({ActionState.AWAITING, ActionState.ALLOWED})
FORGET_S = 0.5
"""For a caller that declared all of its stdin to end its side of the stream; the SDK's has done so long before."""
DRAIN_S = 30.0
"""How long a caller may take to read what is left once the command is over."""


class Execution:
    """One Execute stream."""

    def __init__(
        self, propose: ProposeService, starting: StartingService, run: RunService, issue: IssueService, call: Call,
        requests: AsyncIterator[pb.ExecuteRequest], send: Send[pb.ExecuteResponse],
    ) -> None:  # fmt: skip
        self._propose, self._starting, self._run, self._issue = propose, starting, run, issue
        self._call, self._requests, self._send = call, requests, send

    async def conduct(self) -> None:
        """The whole stream.

        Raises:
            Refusal: no beginning, or what the services refuse. A person's no is no error: it is `finished`.
        """
        first = await self._first()
        starts = first.WhichOneof("message") == "start"
        stdin = first.start.command.stdin if starts else first.resume.stdin
        try:
            await self._conduct(first, stdin)
        finally:
            if stdin:
                await self._forget()

    async def _conduct(self, first: pb.ExecuteRequest, stdin: bytes) -> None:
        if first.WhichOneof("message") == "start":
            action, ticket = await self._started(first.start)
        else:
            action, ticket = await self._decided(ActionId(first.resume.action_id), shown=None), None
        if ticket is None and action.state is ActionState.ALLOWED:
            _must_be_declared(action, stdin)
            ticket = await self._starting.start(self._call.caller, action.id, door=DOOR)
        if ticket is None:
            await self._over(action)
            return
        self._call.ids.note(action_id=ticket.action.id, session_id=ticket.session.id)
        await self._perform(ticket, self._inlet(ticket.action, stdin))

    async def _forget(self) -> None:
        """Reads to the end of what the caller says: until then gRPC holds on to the last message, and its stdin."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FORGET_S):
                await anext(self._requests, None)

    async def _first(self) -> pb.ExecuteRequest:
        try:
            async with asyncio.timeout(FIRST_MESSAGE_S):
                first = await anext(self._requests, None)
        except TimeoutError:
            first = None
        if first is None or first.WhichOneof("message") not in ("start", "resume"):
            raise invalid("no_beginning", "the first message must be `start` or `resume`", "send it within 10 s")
        return first

    async def _started(self, start: pb.ExecuteStart) -> tuple[Action, Ticket | None]:
        proposal = await self._propose.propose(
            self._call.caller,
            await self._grant(start.grant_id),
            command_of(start.command),
            idempotency_key=start.idempotency_key,
            reason=start.reason,
            door=DOOR,
        )
        action = proposal.action
        self._call.ids.note(grant_id=action.grant_id, action_id=action.id)
        if proposal.ticket is None and action.state is ActionState.AWAITING:
            await self._send(pb.ExecuteResponse(action=action_out(action)))
            action = await self._decided(action.id, shown=action.state)
        return action, proposal.ticket

    async def _grant(self, named: str) -> GrantId:
        """The grant of the message, of the token, or of both if they agree (I-08)."""
        if not self._call.token:
            if not named:
                raise invalid("no_grant", "no grant is named", "set grant_id, or send a grant token")
            return GrantId(named)
        grant = await self._issue.grant_of_token(self._call.caller, self._call.token)
        if named and named != grant:
            raise forbidden("bad_token", "the grant token is for another grant", "send one of the two")
        return grant

    async def _decided(self, action_id: ActionId, *, shown: ActionState | None) -> Action:
        """The action once it no longer waits for a person; states before it runs are sent, but for the one `shown`."""
        last: Action | None = None
        async for action in self._starting.until_decided(self._call.caller, action_id):
            if action.state in _BEFORE and action.state is not shown:
                await self._send(pb.ExecuteResponse(action=action_out(action)))
            last = action
        if last is None:
            raise conflict("not_allowed", "the action cannot be followed", "propose it again")
        return last

    async def _over(self, action: Action) -> None:
        """An action that this stream does not run: it is over, or another stream runs it."""
        if action.state not in FINISHED:
            raise conflict(
                "already_running", f"the action is already {action.state}", "wait for its end with WaitAction"
            )
        await self._send(pb.ExecuteResponse(finished=action_out(action)))

    def _inlet(self, action: Action, stdin: bytes) -> Inlet:
        match action.stdin_mode:
            case StdinMode.NONE:
                return nothing()
            case StdinMode.DECLARED:
                return declared(stdin)
            case StdinMode.STREAM:
                return streamed(self._requests)

    async def _perform(self, ticket: Ticket, inlet: Inlet) -> None:
        mouth = Mouth(self._send)
        async with asyncio.TaskGroup() as group:
            speaking = group.create_task(mouth.speak())
            mouth.say(pb.ExecuteResponse(action=action_out(ticket.action)))
            finished = await self._run.run(ticket, inlet, mouth)
            self._call.ids.complete = True
            mouth.finish(pb.ExecuteResponse(finished=action_out(finished)))
            _, late = await asyncio.wait([speaking], timeout=DRAIN_S)
            if late:
                raise exhausted("reads_too_slowly", "what the command wrote was not read in time", "see its recording")


def _must_be_declared(action: Action, stdin: bytes) -> None:
    """The stdin that comes with a resume is the one that was decided on (I-10)."""
    given = hashlib.sha256(stdin).digest() if action.stdin_mode is StdinMode.DECLARED else b""
    if given != action.stdin_sha256 or (stdin and action.stdin_mode is not StdinMode.DECLARED):
        raise invalid("stdin_mismatch", "this stdin is not the one that was declared", "resume with the same bytes")
