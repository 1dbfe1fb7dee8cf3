"""The session of one `shell` request: opened and recorded as a whole, and every line in it an action of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import structlog

from broker.core.action import Outcome
from broker.core.errors import Fault, Refusal
from broker.proxy.shell.console import Console
from broker.proxy.shell.dialogue import Dialogue
from broker.proxy.shell.plain import Look, look_of
from broker.proxy.shell.runner import NOT_RUN, UNABLE, Runner, in_words
from broker.proxy.shell.script import Script
from broker.proxy.shell.wire import Wire
from broker.proxy.shell.words import Place
from broker.proxy.steering import ClientSteering
from broker.service.gateway import Admission
from broker.service.shell import ShellTicket
from recorder.grec import Kind
from recorder.sink import RecordingSink

if TYPE_CHECKING:
    from broker.proxy.channel import GatewayChannel
    from broker.proxy.connection import GatewayConnection

log = structlog.get_logger()
_WELCOME: Final = "each line is decided and recorded; `help` says more"


class ShellSession(Wire):
    """One gated shell on one channel."""

    def __init__(
        self, connection: GatewayConnection, channel: GatewayChannel, admission: Admission, steering: ClientSteering
    ) -> None:
        super().__init__(connection, channel, steering)
        self._admission = admission
        self._task: asyncio.Task[None] | None = None

    def begin(self, environment: Mapping[str, str]) -> None:
        """Opens it; the target hears nothing of it (I-23)."""
        self.connection.command_runs()
        self._task = self.connection.door.spawn(self._serve(environment))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what runs is cut, what waits is taken back."""
        super().connection_lost(exc)
        if self._task is not None:
            self._task.cancel()

    async def _serve(self, environment: Mapping[str, str]) -> None:
        status = NOT_RUN
        try:
            status = await self._held(environment)
        except ConnectionError:
            return
        except Refusal as refusal:
            self._say_unrecorded(in_words(refusal))
        except Fault as fault:
            log.warning("gateway.shell_failed", cause=fault.what)
            self._say_unrecorded(UNABLE)
        finally:
            # also after an error of ours: a client is never left to wait for an answer that does not come
            if not self.gone:
                self.channel.exit(status)
            self.channel.abort()
            self.connection.command_ended()

    def _say_unrecorded(self, line: str) -> None:
        """Fixed phrases, where there is no recording to speak of: nothing was opened."""
        if not self.gone:
            self.channel.write(f"grantd: {line}\r\n".encode(), 1)

    async def _held(self, environment: Mapping[str, str]) -> int:
        sessions = self.connection.door.sessions
        ticket = await sessions.control.open_shell(self._admission)
        look = look_of(environment.get("TERM", ""))
        console = Console(self, terminal=self.steering.has_terminal, plain=look is Look.PLAIN)
        runner = Runner(self.connection.door, self._admission, environment, ticket.session.id)

        async def body(sink: RecordingSink) -> Outcome:
            console.record_to(sink)
            await self._head(console, environment)
            status = await self._talk(console, runner, ticket, look)
            await console.note(Kind.EXIT, json.dumps({"status": status}).encode())
            return Outcome(exit_status=status, signal="", reason="")

        outcome = await sessions.shells.hold(ticket, console, body)
        return NOT_RUN if outcome.exit_status is None else outcome.exit_status

    async def _head(self, console: Console, environment: Mapping[str, str]) -> None:
        """What a player needs first: that this is a terminal, and its size."""
        head = {"argv": "", "shell": True, "env": dict(environment), "pty": console.terminal}
        await console.note(Kind.EXEC, json.dumps(head, sort_keys=True).encode())
        if console.terminal:
            size = self.steering.terminal.size
            await console.note(Kind.RESIZE, size.columns.to_bytes(2, "big") + size.rows.to_bytes(2, "big"))

    async def _talk(self, console: Console, runner: Runner, ticket: ShellTicket, look: Look) -> int:
        if not console.terminal:
            return await Script(console, runner).run()
        grant = ticket.grant
        place = Place(login=grant.login, target=ticket.target_name, tier=ticket.tier, ceiling=grant.ceiling)
        await console.say(_WELCOME)
        return await Dialogue(console, runner, place, look, left_s=ticket.seconds_left).run()
