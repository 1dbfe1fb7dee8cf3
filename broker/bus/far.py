"""A session that runs in a worker, as the control process has it: cut, watched and paused like one of its own.

A cut waits for the worker's word. A worker that gives none in time is ended, and with it what it ran.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import structlog

from broker.bus import messages as m
from broker.bus.codec import BusError
from broker.bus.peer import BusLost, Peer
from broker.core.errors import Fault, Refusal
from broker.service.feed import Feed
from broker.service.live import LiveSession, Tap
from recorder.errors import RecorderFailed
from recorder.events import Event

log = structlog.get_logger()
HEARD_WITHIN: Final = 0.8
"""Seconds in which a worker says that it heard of a cut."""
GONE_WITHIN: Final = 5.0
"""Seconds after that in which the session is over; a target that does not answer takes one."""
SHOWN_WITHIN: Final = 5.0
"""Seconds in which a worker begins to show what it records."""
_MAX_KEPT: Final = 4_096
_MAX_COORDINATE: Final = 1 << 16


class FarSession:
    """One of them."""

    def __init__(self, live: LiveSession, stack: AsyncExitStack, peer: Peer, kill: Callable[[], None]) -> None:
        self.live = live
        self._stack, self._peer, self._kill = stack, peer, kill
        self._followers = 0
        self._to_come = -1
        """Events until those who follow may begin; -1 while nobody does."""
        self._shown = asyncio.Event()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone = False

    @classmethod
    async def enter(
        cls, running: AbstractAsyncContextManager[LiveSession], peer: Peer, *, kill: Callable[[], None],
        lag_s: Callable[[], float],
    ) -> FarSession:  # fmt: skip
        """Among those that run, until `leave`. Raises Refusal as `running`."""
        async with AsyncExitStack() as stack:
            live = await stack.enter_async_context(running)
            far = cls(live, stack.pop_all(), peer, kill)
        live.recorder_lag, live.shown = lag_s, far._shown_to_follow
        for work in (far._pass_on_cut(), far._pass_on_standing()):
            far._spawn(work)
        return far

    def why(self, otherwise: str) -> str:
        """Why it was cut, or the given word."""
        return self.live.reason or otherwise

    async def leave(self) -> None:
        """Nothing of it runs any more. Idempotent."""
        if not self._gone:
            self._gone = True
            self._shown.set()
            await self._stack.aclose()
            for task in tuple(self._tasks):
                task.cancel()

    def leave_soon(self) -> None:
        """`leave`, from where nothing can be waited for."""
        self._spawn(self.leave())

    def opened(self) -> None:
        """Its recording is open."""
        self.live.recorded_by(_FarTape(self._peer, self.live))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- to the worker -----------------------------------------------------------------------------------------------
    async def _pass_on_cut(self) -> None:
        reason = await self.live.until_cut()
        asked = m.Cutting(session=self.live.session, reason=reason, words=self.live.words)
        try:
            async with asyncio.timeout(HEARD_WITHIN):
                await self._peer.ask(m.CUT, asked)
            async with asyncio.timeout(GONE_WITHIN):
                await self.live.closed.wait()
        except (TimeoutError, Fault, Refusal) as error:
            log.error("worker.cut_unanswered", session_id=self.live.session, cause=repr(error))  # noqa: TRY400
            self._kill()

    async def _pass_on_standing(self) -> None:
        with self.live.oversight.heeded() as changed, suppress(BusLost):
            while True:
                await changed.wait()
                changed.clear()
                standing = self.live.oversight.standing()
                self._peer.tell(m.STANDS, m.Stands(session=self.live.session, standing=standing))

    # ---- what it shows -----------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def _shown_to_follow(self) -> AsyncIterator[None]:
        """While the context is open the feed is what the worker records. Streams only while somebody follows."""
        async with self._turn:
            self._followers += 1
            if self._followers == 1:
                self._shown.clear()
                self._to_come = -1
                with suppress(BusLost):
                    self._peer.tell(m.WATCHED, m.OfSession(self.live.session))
        try:
            with suppress(TimeoutError):  # a worker that shows nothing is seen to be silent
                async with asyncio.timeout(SHOWN_WITHIN):
                    await self._shown.wait()
            yield
        finally:
            self._followers -= 1
            if self._followers == 0:
                self._to_come = -1
                with suppress(BusLost):
                    self._peer.tell(m.UNWATCHED, m.OfSession(self.live.session))

    def head(self, head: m.Head) -> None:
        """Where the feed begins. Raises BusError."""
        fits = 0 <= head.columns < _MAX_COORDINATE and 0 <= head.rows < _MAX_COORDINATE
        if not (0 <= head.kept <= min(_MAX_KEPT, head.next_seq) and fits):
            raise BusError("no head of a feed")
        if not self._followers or self._gone:
            return
        self.live.feed = Feed.going_on(
            next_seq=head.next_seq - head.kept, terminal=head.terminal, columns=head.columns, rows=head.rows,
            restore=head.restore,
        )  # fmt: skip
        self._count_down(head.kept)

    def recorded(self, event: m.Recorded) -> None:
        """The next event. Raises BusError."""
        if not 0 <= event.t_us < 1 << 63 or not 0 <= event.kind < 1 << 8 or not 0 <= event.chan < 1 << 32:
            raise BusError("no event")
        if self._to_come < 0 or self._gone:
            return  # of a following that is over
        made = Event(t_us=event.t_us, kind=event.kind, chan=event.chan, payload=event.payload)
        try:
            self.live.feed.take(made)
        except Exception as error:  # whatever its payload does to who reads it
            raise BusError("no event of its kind") from error
        self._count_down(self._to_come - 1)

    def _count_down(self, to_come: int) -> None:
        self._to_come = max(0, to_come)
        if not self._to_come:
            self._shown.set()

    def overtaken(self) -> None:
        """It recorded more than could be told: those who follow begin anew."""
        self.live.feed.overtake()


class _FarTape:
    """As Tape, of a recording in a worker."""

    tap: Tap | None = None
    """Nothing: what is recorded comes as it is followed."""

    def __init__(self, peer: Peer, live: LiveSession) -> None:
        self._peer, self._live, self._lag_s = peer, live, live.recorder_lag

    def lag_s(self) -> float:
        """The worst of its worker's."""
        return self._lag_s()

    async def marker(self, label: str, code: str, audit_id: str) -> None:
        try:
            await self._peer.ask(m.MARK, m.Marks(session=self._live.session, label=label, code=code, audit_id=audit_id))
        except (Fault, Refusal) as error:
            raise RecorderFailed("the recording is closed") from error
