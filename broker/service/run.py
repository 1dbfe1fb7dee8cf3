"""Running a started command: recorder first, then the target; every byte is recorded, then sent.

Always ends in the store.

Three things can end it beside the command itself: its own deadline, a cut from outside, a recorder that fails. The
reaper or the wrapper on the target is a fourth that needs nobody here. Which bytes flow where is in pump.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TypeAlias

import structlog

from broker.core import ids, sftp
from broker.core.action import Action, ActionState, Outcome, StdinMode
from broker.core.errors import Fault, Refusal, not_found
from broker.core.identity import Caller
from broker.core.ids import ActionId, CredentialId, SessionId
from broker.core.terminal import Terminal
from broker.service import lookup, story
from broker.service.closing import CALLER_GONE, Closing, Ended, cut
from broker.service.holding import hold
from broker.service.live import LiveSession
from broker.service.oversight import Oversight
from broker.service.ports import Credential, ExecPlan, Tx
from broker.service.pump import CutShort, Inlet, Outlet, Pump, Steering, Warned, guard, say_why
from broker.service.sealing import failed_to_run, first, note_checkpoints, seal
from broker.service.shield import settled, to_the_end
from broker.service.start import Start, Ticket
from broker.service.transfer import Conversation, Transfer
from broker.service.wake import heard
from broker.service.world import World
from recorder.errors import RecorderFailed
from recorder.sink import RecordingSink
from recorder.track import Commitment

log = structlog.get_logger()
Move: TypeAlias = Callable[[RecordingSink, Oversight], Awaitable[Outcome]]
"""What moves the bytes of a session, given its recording."""


class RunService:
    """Starts decided actions and runs them."""

    def __init__(self, world: World, start: Start, closing: Closing) -> None:
        self._world, self._start, self._closing = world, start, closing

    async def start(self, caller: Caller, action_id: ActionId, *, door: str) -> Ticket:
        """ALLOWED -> RUNNING for an action that waited.

        Everything is checked again in the transaction that starts it.
        """
        instant = self._world.ready(caller.tenant)

        def unit(tx: Tx) -> Ticket:
            action = tx.actions.get(action_id)
            if action is None or action.identity != caller.identity:
                raise not_found("action")
            grant, target, watchers = self._start.recheck(tx, action, now=instant.wall)
            self._world.leases.must_last(grant, instant)
            return self._start.begin(tx, action, grant, target, watchers=watchers, door=door, instant=instant)

        ticket, cancelled = await settled(self._world.store.run(caller.tenant, unit))
        if cancelled is not None:
            await to_the_end(self._closing.abandon(ticket))
            raise cancelled
        return ticket

    async def until_decided(self, caller: Caller, action_id: ActionId) -> AsyncIterator[Action]:
        """The action now and after each change, until it no longer waits for a person."""
        last: Action | None = None
        with self._world.bell.listen(caller.tenant, action_id) as rung:
            while last is None or last.state is ActionState.AWAITING:
                await heard(rung, 20)
                action = await self._world.store.read(caller.tenant, lambda tx: tx.actions.get(action_id))
                if action is None or action.identity != caller.identity:
                    raise not_found("action")
                if last is None or action.state is not last.state:
                    yield action
                last = action

    async def run(
        self, ticket: Ticket, inlet: Inlet, outlet: Outlet, steering: Steering | None = None, *,
        within: SessionId | None = None,
    ) -> Action:  # fmt: skip
        """Runs it to its end and returns the finished action; the recording is sealed and the row durable by then.

        An action with a pty gets the terminal of `steering`, and a usual one without it. Whoever watches the session
        `within` which it runs, such as a shell, watches it too.

        Cancelling it cuts the command on the target, and still seals and writes before the cancellation goes on.
        """
        room = self._world.limits.max_output_bytes

        def move(sink: RecordingSink, oversight: Oversight) -> Awaitable[Outcome]:
            keeps = self._world.keeps_input
            pump = Pump(ticket, sink, inlet, outlet, oversight, max_output=room, steering=steering, keeps=keeps)
            return pump.run(self._world.targets, self._plan(ticket, steering))

        return await self._session(ticket, outlet, move, within)

    async def transfer(
        self, ticket: Ticket, conversation: Conversation, *, within: SessionId | None = None
    ) -> Action:  # fmt: skip
        """As `run`, for an action that is a file session: the door speaks with the target's SFTP server by itself."""
        room = self._world.limits.max_output_bytes
        plan = replace(
            self._plan(ticket, None), command=sftp.program(ticket.action.command), sealed=True, wants_stdin=True
        )

        def move(sink: RecordingSink, oversight: Oversight) -> Awaitable[Outcome]:
            return Transfer(ticket, sink, conversation, oversight, max_notes=room).run(self._world.targets, plan)

        return await self._session(ticket, conversation, move, within)

    async def _session(self, ticket: Ticket, warned: Warned, move: Move, within: SessionId | None) -> Action:
        session, limits = ticket.session, self._world.limits
        live = LiveSession(tenant=session.tenant, session=session.id, grant=session.grant_id, identity=session.identity)
        live.oversight.demand(ticket.watchers)
        started = self._world.clock.monotonic()
        cancelled: asyncio.CancelledError | None = None
        commitment: Commitment | None = None
        ended = cut(CALLER_GONE)
        try:
            with (
                self._world.live.enter(live, per_grant=limits.sessions_per_grant, in_all=limits.sessions_per_process),
                self._overseen_from(live, within),
            ):
                sink = await self._open(ticket)
                live.recorded_by(sink)
                try:
                    ended = await self._attempt(ticket, live, sink, warned, move)
                finally:
                    commitment = await to_the_end(seal(sink, ended))
            await say_why(live, warned)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception as failure:
            ended = failed_to_run(failure)
            defect = not isinstance(failure, (RecorderFailed, Refusal, Fault))
            log.warning(
                "session.failed",
                session_id=session.id,
                action_id=ticket.action.id,
                cause=repr(failure),
                exc_info=defect,
            )
        finished = await to_the_end(self._closing.write(ticket, ended, commitment))
        self._tell(finished, self._world.clock.monotonic() - started)
        if cancelled is not None:
            raise cancelled
        return finished

    def _overseen_from(self, live: LiveSession, within: SessionId | None) -> AbstractContextManager[None]:
        above = self._world.live.get(live.tenant, within) if within is not None else None
        return nullcontext() if above is None else live.oversight.within(above.oversight)

    async def _open(self, ticket: Ticket) -> RecordingSink:
        return await self._world.recordings.create(ticket.meta)

    async def _attempt(
        self, ticket: Ticket, live: LiveSession, sink: RecordingSink, warned: Warned, move: Move
    ) -> Ended:
        """The command under its guards. A guard that fires cancels what moves, which ends it on the target."""
        unwatched_for = self._world.limits.unwatched_for.total_seconds()
        left = ticket.seconds_left - (self._world.clock.monotonic() - ticket.instant.mono)
        outcome: Outcome | None = None
        short: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                guards = [
                    group.create_task(guard(live, sink, warned, left)),
                    group.create_task(hold(live, warned, unwatched_for=unwatched_for)),
                    group.create_task(note_checkpoints(self._world, ticket.session, sink)),
                ]
                outcome = await move(sink, live.oversight)
                for task in guards:
                    task.cancel()
        except* (CutShort, RecorderFailed, Refusal, Fault) as several:
            short = first(several)
        if isinstance(short, CutShort):
            return cut(short.reason)
        if short is not None:
            log.warning("session.failed", session_id=ticket.session.id, cause=repr(short))
            return failed_to_run(short)
        return cut(CALLER_GONE) if outcome is None else Ended(outcome=outcome, cut=False)

    def _plan(self, ticket: Ticket, steering: Steering | None) -> ExecPlan:
        action, target = ticket.action, ticket.target
        return ExecPlan(
            tenant=action.tenant,
            grant_id=action.grant_id,
            action_id=action.id,
            target=target,
            login=action.login,
            command=action.command,
            cwd=action.cwd,
            env=action.env,
            sealed=target.seal_reads or action.pty or not lookup.only_reads(action),
            wants_stdin=action.stdin_mode != "none",
            serial=int.from_bytes(self._world.entropy.token(8), "big") or 1,
            not_after=action.not_after,
            seconds_left=ticket.seconds_left,
            proof=ticket.proof,
            announce=lambda serial: self._announce(ticket, serial),
            pty=_terminal(action, steering),
        )

    async def _announce(self, ticket: Ticket, serial: int) -> None:
        """The egress certificate's row and audit entry, durable before the signer is asked (I-31)."""
        now = self._world.clock.now()
        credential = Credential(
            tenant=ticket.action.tenant,
            id=CredentialId(ids.render("credential", self._world.entropy.token(16))),
            grant_id=ticket.grant.id,
            kind="egress",
            serial=str(serial),
            key=b"",
            issued_at=now,
            not_after=ticket.action.not_after,
        )

        def unit(tx: Tx) -> None:
            tx.credentials.add(credential)
            tx.audit.append(story.of_credential(credential, actor="", action=ticket.action.id), now)

        await self._world.store.run(ticket.action.tenant, unit)

    def _tell(self, action: Action, seconds: float) -> None:
        meter = self._world.meter
        meter.count("executions", command_class=action.command_class.word, state=action.state)
        meter.observe("execution_duration_seconds", seconds, command_class=action.command_class.word)


def _terminal(action: Action, steering: Steering | None) -> Terminal | None:
    if not action.pty:
        return None
    terminal = steering.terminal if steering is not None else Terminal()
    return terminal.without_keyboard() if action.stdin_mode is StdinMode.NONE else terminal
