"""Running a started command: recorder first, then the target; every byte is recorded, then sent.

Always ends in the store.

Three things can end it beside the command itself: its own deadline, a cut from outside, a recorder that fails. The
reaper or the wrapper on the target is a fourth that needs nobody here. Which bytes flow where is in pump.py. Decides
nothing and writes nothing itself: for that it asks control.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import structlog

from broker.core.action import Action, Outcome
from broker.core.errors import Fault, Refusal
from broker.core.ids import SessionId
from broker.service.closing import CALLER_GONE, Ended, cut
from broker.service.holding import hold
from broker.service.live import LiveSession, nobody
from broker.service.oversight import Oversight
from broker.service.plan import plan_of
from broker.service.ports import ExecPlan
from broker.service.pump import CutShort, Inlet, Outlet, Pump, Steering, Warned, guard, last_lines, say_why
from broker.service.sealing import failed_to_run, first, note_checkpoints
from broker.service.shield import settled, to_the_end
from broker.service.site import Site
from broker.service.start import Ticket
from broker.service.transfer import Conversation, Transfer
from recorder.errors import RecorderFailed
from recorder.sink import RecordingSink
from recorder.track import Commitment

log = structlog.get_logger()
Move: TypeAlias = Callable[[RecordingSink, Oversight], Awaitable[Outcome]]
"""What moves the bytes of a session, given its recording."""


class RunService:
    """Runs what was started."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def run(
        self, ticket: Ticket, inlet: Inlet, outlet: Outlet, steering: Steering | None = None, *,
        within: SessionId | None = None,
    ) -> Action:  # fmt: skip
        """Runs it to its end and returns the finished action; the recording is sealed and the row durable by then.

        An action with a pty gets the terminal of `steering`, and a usual one without it. Whoever watches the session
        `within` which it runs, such as a shell, watches it too.

        Cancelling it cuts the command on the target, and still seals and writes before the cancellation goes on.
        """
        room, keeps = self._site.max_output_bytes, self._site.keeps_input

        def move(sink: RecordingSink, oversight: Oversight) -> Awaitable[Outcome]:
            pump = Pump(ticket, sink, inlet, outlet, oversight, max_output=room, steering=steering, keeps=keeps)
            return pump.run(self._site.targets, self._plan(ticket, steering))

        return await self._session(ticket, outlet, move, within)

    async def transfer(
        self, ticket: Ticket, conversation: Conversation, *, within: SessionId | None = None
    ) -> Action:  # fmt: skip
        """As `run`, for an action that is a file session: the door speaks with the target's SFTP server by itself."""
        room, plan = self._site.max_output_bytes, self._plan(ticket, None, files=True)

        def move(sink: RecordingSink, oversight: Oversight) -> Awaitable[Outcome]:
            return Transfer(ticket, sink, conversation, oversight, max_notes=room).run(self._site.targets, plan)

        return await self._session(ticket, conversation, move, within)

    async def _session(self, ticket: Ticket, warned: Warned, move: Move, within: SessionId | None) -> Action:
        session, control = ticket.session, self._site.control
        started = self._site.clock.monotonic()
        cancelled: asyncio.CancelledError | None = None
        commitment: Commitment | None = None
        ended = cut(CALLER_GONE)
        try:
            async with control.running(session, watchers=ticket.watchers, within=within) as live:
                sink, gone = await settled(self._site.recordings.create(ticket.meta))
                live.recorded_by(sink)
                live.farewell = lambda: warned.over(last_lines(live, live.reason))
                if live.reason:  # cut while its recording was made: nobody was let go then
                    live.let_go()
                try:
                    if gone is not None:  # what was begun is sealed all the same
                        raise gone
                    ended = await self._attempt(ticket, live, sink, warned, move)
                finally:
                    live.farewell = nobody  # how it ended stands from here on
                    if live.reason:  # it was told so; that its caller left, or it came to its end, was afterwards
                        ended = cut(live.reason)
                    # whoever was told of the end may leave while it is sealed: the seal counts all the same
                    commitment, cancelled = await settled(self._site.turns.seal(sink, ended))
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
        seconds = self._site.clock.monotonic() - started
        finished = await to_the_end(control.finish(ticket, ended, commitment, seconds=seconds))
        if cancelled is not None:
            raise cancelled
        return finished

    async def _attempt(
        self, ticket: Ticket, live: LiveSession, sink: RecordingSink, warned: Warned, move: Move
    ) -> Ended:
        """The command under its guards. A guard that fires cancels what moves, which ends it on the target."""
        unwatched_for = self._site.unwatched_for.total_seconds()
        left = ticket.seconds_left - (self._site.clock.monotonic() - ticket.instant.mono)
        if left <= 0:
            live.cut("expired")
        if live.reason:  # nothing is asked of the target any more, not even what would be cut at once
            return cut(live.reason)
        outcome: Outcome | None = None
        short: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                guards = [
                    group.create_task(guard(live, sink, warned, left)),
                    group.create_task(hold(live, warned, unwatched_for=unwatched_for)),
                    group.create_task(note_checkpoints(self._site.control, ticket.session, sink)),
                ]
                outcome = await move(sink, live.oversight)
                for task in guards:
                    task.cancel()
        except* (CutShort, RecorderFailed, Refusal, Fault) as several:
            short = first(several)
        if isinstance(short, CutShort):
            live.cut(short.reason)  # where nobody did: whoever is in it is let go by this as well
            return cut(live.reason)
        if short is not None:
            log.warning("session.failed", session_id=ticket.session.id, cause=repr(short))
            return failed_to_run(short)
        return cut(CALLER_GONE) if outcome is None else Ended(outcome=outcome, cut=False)

    def _plan(self, ticket: Ticket, steering: Steering | None, *, files: bool = False) -> ExecPlan:
        return plan_of(
            ticket,
            serial=int.from_bytes(self._site.entropy.token(8), "big") or 1,
            announce=partial(self._site.control.announce, ticket),
            files=files,
            terminal=steering.terminal if steering is not None else None,
        )
