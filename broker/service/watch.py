"""Watching a live session: who watches is in the audit log first (I-33), and is looked at again while they do (I-41).

A watcher who may attend is another than who asked, in a role that policy's demand names: only such a one lets the input
of a session flow that must be watched. What they see is what the recorder has accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.core.errors import Refusal, conflict, exhausted, forbidden
from broker.core.events import AuditEvent
from broker.core.identity import Caller, IdentityKind, IdentityStatus
from broker.core.ids import SessionId
from broker.core.roles import Permission, holds
from broker.service import story
from broker.service.feed import Follower, Overtaken
from broker.service.identify import caller_of
from broker.service.live import LiveSession
from broker.service.oversight import Watcher
from broker.service.ports import Session, SessionState, Tx
from broker.service.session import SessionView, given_reason, seen_session, sees_session, view_of
from broker.service.shield import to_the_end
from broker.service.wake import heard
from broker.service.world import World
from recorder.codes import BY_NAME
from recorder.errors import RecorderFailed

RECHECK_S = 0.4
"""Between two looks at whether a watcher still may (I-41)."""
WATCHERS_PER_SESSION = 8
OPENS_WITHIN_S = 10.0
_LOOK_EVERY_S = 1.0


@dataclass(slots=True, kw_only=True)
class Watch:
    """One person's watching of one session."""

    caller: Caller
    view: SessionView
    live: LiveSession
    watcher: Watcher
    follower: Follower
    ended: str = "left"
    """How it ended, for the meter: `left`, `over`, `overtaken`, `vanished`, `lost_right`."""


class WatchService:
    """Joins watchers to sessions."""

    def __init__(self, world: World) -> None:
        self._world = world

    @asynccontextmanager
    async def watching(
        self, caller: Caller, session_id: SessionId, reason: str, *, only_look: bool
    ) -> AsyncIterator[Watch]:
        """Watches while the context is open.

        Raises:
            Refusal: not theirs to see, over already, watched by as many as may; later, that they may not any more.
        """
        given_reason(reason)
        live = self._world.live.get(caller.tenant, session_id)

        def unit(tx: Tx) -> tuple[SessionView, bool]:
            view = view_of(tx, seen_session(tx, caller, session_id), self._world.live)
            if live is None or view.session.state is not SessionState.OPEN:
                raise conflict("session_over", "the session is over", "play its recording")
            tx.audit.append(_told("session.watched", caller, view.session, reason=reason), self._world.clock.now())
            return view, not only_look and _is_another(tx, caller, view.session)

        view, attends = await self._world.store.run(caller.tenant, unit)
        if live is None:
            raise conflict("session_over", "the session is over", "play its recording")
        await self._mark(live, "session.watched", caller)
        watcher = Watcher(identity=caller.identity, name=caller.name, role=caller.role, key=caller.key, attends=attends)
        async with live.shown():
            if live.oversight.streams >= WATCHERS_PER_SESSION:  # nothing is awaited between this and being one of them
                raise exhausted("too_many_watchers", "as many watch this session as may", "watch later")
            with live.feed.followed() as follower, live.oversight.watched_by(watcher):
                watch = Watch(caller=caller, view=view, live=live, watcher=watcher, follower=follower)
                async with self._watched(watch):
                    yield watch

    @asynccontextmanager
    async def _watched(self, watch: Watch) -> AsyncIterator[None]:
        """Under guard while the context is open; written down when it is left, however that is."""
        try:
            async with asyncio.TaskGroup() as group:
                guard = group.create_task(self._guard(watch))
                yield
                guard.cancel()
        except BaseExceptionGroup as several:
            raise _ended_by(first_of(several), watch) from None
        finally:
            self._world.meter.count("watches", reason=watch.ended)
            await to_the_end(self._left(watch))

    async def pause(self, watch: Watch) -> None:
        """Holds the input of the session at once, then writes it down."""
        self._must_attend(watch)
        watch.live.oversight.pause()
        await self._mark(watch.live, "session.paused", watch.caller)
        await self._tell("session.paused", watch)

    async def resume(self, watch: Watch) -> None:
        """Writes down who lets the input through again, then does."""
        self._must_attend(watch)
        await self._tell("session.resumed", watch)
        await self._mark(watch.live, "session.resumed", watch.caller)
        watch.live.oversight.resume()

    async def outcome(self, watch: Watch) -> SessionView:
        """The session as its row says that it ended."""
        session = watch.view.session
        with self._world.bell.listen(session.tenant, session.id) as rung:
            while True:
                await heard(rung, _LOOK_EVERY_S)
                view = await self._world.store.read(
                    session.tenant, lambda tx: view_of(tx, seen_session(tx, watch.caller, session.id), self._world.live)
                )
                if view.session.state is not SessionState.OPEN:
                    return view

    def _must_attend(self, watch: Watch) -> None:
        if not watch.live.oversight.lets(watch.watcher) or watch.watcher.dismissed.is_set():
            raise forbidden(
                "only_looks", "who only looks neither pauses nor resumes", "watch a session that is not your own"
            )

    async def _guard(self, watch: Watch) -> None:
        """Raises as soon as the watcher may not watch any more, or did not keep up."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_again(watch))
            group.create_task(_raise_on_dismissal(watch))
            group.create_task(_raise_when_overtaken(watch))

    async def _look_again(self, watch: Watch) -> None:
        while True:
            await asyncio.sleep(RECHECK_S)
            if not await self._world.store.read(watch.caller.tenant, lambda tx: _still_may(tx, watch)):
                raise _lost(watch)

    async def _left(self, watch: Watch) -> None:
        await self._mark(watch.live, "session.unwatched", watch.caller)
        await self._tell("session.unwatched", watch, reason_code=watch.ended)

    async def _mark(self, live: LiveSession, name: str, caller: Caller) -> None:
        """A mark in the recording; none where the session ends first."""
        with contextlib.suppress(RecorderFailed, TimeoutError):
            async with asyncio.timeout(OPENS_WITHIN_S):
                if (sink := await live.recording()) is not None:
                    label = f"{name.partition('.')[2]} by {caller.identity}"
                    await sink.marker(label, BY_NAME[name].code, "")

    async def _tell(self, name: str, watch: Watch, *, reason_code: str = "") -> None:
        event = _told(name, watch.caller, watch.view.session, reason_code=reason_code)
        now = self._world.clock.now()
        await self._world.store.run(watch.caller.tenant, lambda tx: tx.audit.append(event, now))


async def _raise_on_dismissal(watch: Watch) -> None:
    await watch.watcher.dismissed.wait()
    raise _lost(watch)


async def _raise_when_overtaken(watch: Watch) -> None:
    await watch.follower.until_overtaken()
    raise Overtaken


def _is_another(tx: Tx, caller: Caller, session: Session) -> bool:
    """Whether this is a person other than who asked, or whose agent asked: input never flows because of those."""
    asker = tx.identities.get(session.identity)
    own = asker is None or caller.identity in (asker.id, asker.owner)
    return not own and caller.kind is IdentityKind.PERSON


def _still_may(tx: Tx, watch: Watch) -> bool:
    """Whether row, key and role are still such that they would be let in as they were."""
    row = tx.identities.get(watch.caller.identity)
    if row is None or row.status is not IdentityStatus.ACTIVE or row.key != watch.caller.key:
        return False
    now, session, watcher = caller_of(row), watch.view.session, watch.watcher
    if not holds(now.role, Permission.SESSION_WATCH) or not sees_session(tx, now, session):
        return False
    # whoever attends has the role that they came with, and is still another's
    return not watcher.attends or (now.role == watcher.role and _is_another(tx, now, session))


def _told(name: str, caller: Caller, session: Session, *, reason: str = "", reason_code: str = "") -> AuditEvent:
    facts: dict[str, str | int] = {"session": session.id, "grant": session.grant_id, "rec": session.recording}
    return AuditEvent(
        tenant=caller.tenant,
        name=name,
        actor=caller.identity,
        facts=facts | ({"reason_code": reason_code} if reason_code else {}),
        personal=story.personal(caller.identity, reason=reason),
    )


def _lost(watch: Watch) -> Refusal:
    watch.ended = "lost_right"
    return forbidden("not_permitted", "you may not watch this session any more", "ask an owner for a role that may")


def _ended_by(error: BaseException, watch: Watch) -> BaseException:
    if not isinstance(error, Overtaken):
        return error
    watch.ended = "overtaken"
    return exhausted("watches_too_slowly", "what the session wrote was not read in time", "watch it again")


def first_of(error: BaseException) -> BaseException:
    """The first leaf of a group: whatever ends a watching comes alone, the rest are its echoes."""
    return first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
