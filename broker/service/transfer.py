"""One file session between a door and a target's SFTP server, beside the pump of commands.

What is copied is not recorded, what is done is: the door notes each operation, and the note is accepted before the
operation is sent. Lets nothing above the action's own class through to the target, whatever the door says.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from broker.core import sftp
from broker.core.action import Outcome
from broker.core.errors import Fault, TargetFault
from broker.service.oversight import Oversight
from broker.service.ports import ExecPlan, Stream, TargetProcess, Targets
from broker.service.pump import CutShort, Warned, decision_of, exit_payload, once_input_flows
from broker.service.shield import to_the_end
from broker.service.start import Ticket
from policy.classes import CommandClass
from recorder.grec import Kind
from recorder.sink import RecordingSink

_CHANNEL: Final = 0
_LEAVES_WITHIN_S: Final = 5.0
"""A server whose stdin has ended ends by itself; one that does not is cut."""
_LENGTH: Final = struct.Struct(">I")


class NotAllowed(Fault):
    """A door wants to send what the action does not cover: a defect, and nothing of it was sent."""


class Link:
    """What a conversation may do with the target's SFTP server."""

    def __init__(
        self, process: TargetProcess, sink: RecordingSink, oversight: Oversight, ceiling: CommandClass, *,
        max_notes: int,
    ) -> None:  # fmt: skip
        self._process, self._sink, self._oversight = process, sink, oversight
        self._ceiling, self._room = ceiling, max_notes
        self.outcome: Outcome | None = None
        """How the server ended, once `hear` said nothing more comes."""

    async def note(self, event: Mapping[str, object]) -> None:
        """Records what is done or was answered; returns once the recorder has it (I-30)."""
        payload = json.dumps(event, ensure_ascii=False).encode()
        self._take_room(len(payload))
        await self._sink.event(Kind.SFTP, _CHANNEL, payload)

    async def greet(self) -> None:
        """The first packet: our version."""
        await self._process.write(_framed([bytes([sftp.INIT]) + _LENGTH.pack(sftp.VERSION)]))

    async def say(self, packets: Sequence[bytes]) -> None:
        """Sends requests that were noted; waits while input is held, and while the target does not read.

        Raises:
            NotAllowed: one is above what the session's command covers, or no operation at all.
        """
        for packet in packets:
            command_class = sftp.class_of(packet)
            if command_class is None or command_class > self._ceiling:
                raise NotAllowed("a file operation above its session's class")
        await self._oversight.until_flows()
        await self._process.write(_framed(packets))

    async def hear(self) -> bytes:
        """What the server says next; empty once it has ended. What it writes to stderr is recorded, and goes no way."""
        while self.outcome is None:
            try:
                item = await self._process.read()
            except TargetFault as fault:
                item = Outcome(exit_status=None, signal="", reason=fault.code)
            if isinstance(item, Outcome):
                self.outcome = item
            elif item.stream is Stream.OUT:
                return item.data
            else:
                self._take_room(len(item.data))
                await self._sink.event(Kind.ERR, _CHANNEL, item.data)
        return b""

    def _take_room(self, size: int) -> None:
        """A recording has an end, whoever fills it: the client with operations, the target with complaints (I-60)."""
        self._room -= size
        if self._room < 0:
            raise CutShort("output_limit")

    async def leave(self) -> Outcome:
        """Ends the server's input and waits for its end, not for ever."""
        try:
            async with asyncio.timeout(_LEAVES_WITHIN_S):
                await self._process.write_eof()
                while await self.hear():
                    pass
        except (TimeoutError, TargetFault):
            return self.outcome or Outcome(exit_status=None, signal="", reason="too_slow")
        return self.outcome or Outcome(exit_status=None, signal="", reason="connection_lost")


class Conversation(Warned, Protocol):
    """A door's half of a file session."""

    async def converse(self, link: Link) -> None:
        """Returns when the client has ended, or the server. ConnectionError means the caller is gone."""
        ...


class Transfer:
    """One file session's run."""

    def __init__(
        self, ticket: Ticket, sink: RecordingSink, conversation: Conversation, oversight: Oversight, *, max_notes: int
    ) -> None:
        self._ticket, self._sink, self._conversation, self._room = ticket, sink, conversation, max_notes
        self._oversight = oversight

    async def run(self, targets: Targets, plan: ExecPlan) -> Outcome:
        """Starts the server and lets the door converse with it.

        However this is left, the server is ended on the target.
        """
        action = self._ticket.action
        told = {"argv": action.command.decode(), "cwd": "", "env": {}, "subsystem": "sftp"}
        await self._sink.event(Kind.EXEC, _CHANNEL, json.dumps(told, sort_keys=True).encode())
        await self._sink.marker(*decision_of(action))
        plan = await once_input_flows(self._oversight, plan)
        try:
            process = await targets.start(plan)
        except TargetFault as fault:
            return Outcome(exit_status=None, signal="", reason=fault.code)
        link = Link(process, self._sink, self._oversight, sftp.ceiling_of(action.command), max_notes=self._room)
        try:
            await self._conversation.converse(link)
            outcome = await link.leave()
        except ConnectionError:
            raise CutShort("caller_gone") from None
        finally:
            await to_the_end(process.cut())
        await self._sink.event(Kind.EXIT, _CHANNEL, exit_payload(outcome))
        return outcome


def _framed(packets: Sequence[bytes]) -> bytes:
    return b"".join(part for packet in packets for part in (_LENGTH.pack(len(packet)), packet))
