"""A gated shell as a session: held under the same guards as a command, sealed and written.

Opens nothing on the target: each line that is typed is proposed and run as an action of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from broker.core.action import Outcome
from broker.core.errors import Fault, Refusal
from broker.service.closing import CALLER_GONE, Ended, cut
from broker.service.live import LiveSession
from broker.service.pump import CutShort, Outlet, guard, say_why
from broker.service.sealing import failed_to_run, first, note_checkpoints
from broker.service.shell import ShellTicket
from broker.service.shield import settled, to_the_end
from broker.service.site import Site
from recorder.errors import RecorderFailed
from recorder.sink import RecordingSink
from recorder.track import Commitment

log = structlog.get_logger()
_FAREWELL_S = 0.3
_CLEARED_WITHIN_S = 0.4
"""For what runs in a shell that was cut, and for its screen, before the person is let go in any case."""
Body = Callable[[RecordingSink], Awaitable[Outcome]]


class ShellRun:
    """Holds shells that were opened."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def hold(self, ticket: ShellTicket, outlet: Outlet, body: Body) -> Outcome:
        """Runs `body` until it returns, its time is over, or it is cut; sealed and durable when this returns.

        `body` records what it shows before it shows it. Cancelling this cuts it, and still seals and writes.
        """
        session, control = ticket.session, self._site.control
        cancelled: asyncio.CancelledError | None = None
        commitment: Commitment | None = None
        ended = cut(CALLER_GONE)
        try:
            async with control.running(session) as live:
                sink, gone = await settled(self._site.recordings.create(ticket.meta))
                live.recorded_by(sink)
                try:
                    if gone is not None:  # what was begun is sealed all the same
                        raise gone
                    ended = await self._attempt(ticket, live, sink, outlet, body)
                finally:
                    if live.reason:  # as a command: whoever was told may have left since
                        ended = cut(live.reason)
                    commitment, cancelled = await settled(self._site.turns.seal(sink, ended))
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception as failure:
            ended = failed_to_run(failure)
            defect = not isinstance(failure, (RecorderFailed, Refusal, Fault))
            log.warning("shell.failed", session_id=session.id, cause=repr(failure), exc_info=defect)
        await to_the_end(control.finish_shell(ticket, ended, commitment))
        if cancelled is not None:
            raise cancelled
        return ended.outcome

    async def _attempt(
        self, ticket: ShellTicket, live: LiveSession, sink: RecordingSink, outlet: Outlet, body: Body
    ) -> Ended:
        cleared = asyncio.Event()
        telling = asyncio.ensure_future(_let_go(live, outlet, cleared))  # noqa: TID251  ended below, always
        try:
            outcome, short = await self._guarded(ticket, live, sink, outlet, body)
            cleared.set()
            if isinstance(short, CutShort):
                live.cut(short.reason)  # where nobody did
            if live.reason:
                await telling
                return cut(live.reason)
        finally:
            telling.cancel()
        match short:
            case None:
                return cut(CALLER_GONE) if outcome is None else Ended(outcome=outcome, cut=False)
            case ConnectionError():
                return cut(CALLER_GONE)
            case failure:
                log.warning("shell.failed", session_id=ticket.session.id, cause=repr(failure))
                return failed_to_run(failure)

    async def _guarded(
        self, ticket: ShellTicket, live: LiveSession, sink: RecordingSink, outlet: Outlet, body: Body
    ) -> tuple[Outcome | None, Exception | None]:
        """What the body came to, or what broke it off."""
        left = ticket.seconds_left - (self._site.clock.monotonic() - ticket.instant.mono)
        outcome: Outcome | None = None
        short: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                guards = [
                    group.create_task(guard(live, sink, outlet, left)),
                    group.create_task(note_checkpoints(self._site.control, ticket.session, sink)),
                ]
                outcome = await body(sink)
                for task in guards:
                    task.cancel()
        except* (CutShort, RecorderFailed, Refusal, Fault, ConnectionError) as several:
            short = first(several)
        return outcome, short


async def _let_go(live: LiveSession, outlet: Outlet, cleared: asyncio.Event) -> None:
    """Once it is cut: when nothing draws any more, or soon, where something in it waits for a store or a target."""
    reason = await live.until_cut()
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLEARED_WITHIN_S):
            await cleared.wait()
    await _farewell(live, outlet, reason)


async def _farewell(live: LiveSession, outlet: Outlet, reason: str) -> None:
    """A person who does not read the reason does not hold up the end. Recorded, like everything that is shown.

    They are let go before what is left of the session is sealed and written.
    """
    with suppress(TimeoutError, ConnectionError, RecorderFailed):
        async with asyncio.timeout(_FAREWELL_S):
            await say_why(live, outlet)
            await outlet.tell(f"ended: {reason}")
    outlet.over(())
