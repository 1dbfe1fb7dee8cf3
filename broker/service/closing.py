"""How a started command ends in the store: the outcome, the session, the recording's commitment, in one transaction.

What the store will not take is kept and written as soon as it does; until then nobody is told that it is durable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from broker.core.action import Action, Outcome, finish
from broker.core.errors import StoreFault
from broker.core.ids import SessionId, TenantId
from broker.service import story
from broker.service.late import every_one
from broker.service.ports import Session, SessionState, Tx
from broker.service.start import Ticket
from broker.service.world import World
from recorder.track import Commitment

log = structlog.get_logger()
_TRIES = 3
_REMEMBERED = 10_000
_PAUSE_S = 0.2
_READ_AS_IT_IS = 4 * 1024
"""Bytes of a recording that a search reads about as quickly as a filter of its words: it gets none."""
_KEY_CHANGED = "host_key_changed"
"""A replaced host, or somebody between: said in the log as an event of its own, for whoever is on watch."""
CALLER_GONE = "caller_gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run came out, before it is written."""

    outcome: Outcome
    cut: bool


class Closing:
    """Writes ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._unwritten: dict[SessionId, tuple[TenantId, Callable[[Tx], None]]] = {}
        self._recorded: deque[tuple[TenantId, SessionId]] = deque(maxlen=_REMEMBERED)

    async def write(self, ticket: Ticket, ended: Ended, commitment: Commitment | None) -> Action:
        """The finished action, durable.

        Raises:
            StoreFault: the store would not take it; the expiry job writes it as soon as it does.
        """
        action = finish(ticket.action, ended.outcome, cut=ended.cut)
        session = _closed(ticket.session, ended, commitment, self._world.clock.now())

        def unit(tx: Tx) -> None:
            _put(tx, action, session, sealed=commitment is not None, now=self._world.clock.now())

        await self._persist(session, unit)
        self._note_recorded(session, commitment)
        self._world.bell.ring(action.tenant, action.id, session.id)
        return action

    async def write_session(self, session: Session, ended: Ended, commitment: Commitment | None) -> Session:
        """The end of a session that is no single action, durable. Raises StoreFault as `write`."""
        closed = _closed(session, ended, commitment, self._world.clock.now())

        def unit(tx: Tx) -> None:
            _put_session(tx, closed, sealed=commitment is not None, now=self._world.clock.now())

        await self._persist(closed, unit)
        self._note_recorded(closed, commitment)
        self._world.bell.ring(closed.tenant, closed.id)
        return closed

    def recorded(self) -> Sequence[tuple[TenantId, SessionId]]:
        """Sessions whose recordings were sealed since the last call, but for the short ones.

        The oldest are forgotten if nobody asks.
        """
        found = list(self._recorded)
        self._recorded.clear()
        return found

    def _note_recorded(self, session: Session, commitment: Commitment | None) -> None:
        if commitment is not None and (commitment.bytes > _READ_AS_IT_IS or commitment.part):
            self._recorded.append((session.tenant, session.id))

    async def abandon(self, ticket: Ticket) -> Action:
        """A command that was started for a caller who left in that very moment: nothing of it ran."""
        return await self.write(ticket, cut(CALLER_GONE), None)

    async def write_late(self) -> None:
        """Writes the ends that the store would not take when they happened."""
        await every_one(self._write_one(session, *what) for session, what in list(self._unwritten.items()))

    async def _write_one(self, session: SessionId, tenant: TenantId, unit: Callable[[Tx], None]) -> None:
        await self._world.store.run(tenant, unit)
        self._unwritten.pop(session, None)

    async def _persist(self, session: Session, unit: Callable[[Tx], None]) -> None:
        """Tries for a while. Only what is given up here is left to `write_late`: an end is in the log once."""
        for attempt in range(_TRIES):
            try:
                return await self._world.store.run(session.tenant, unit)
            except StoreFault as fault:
                log.error("session.unwritten", session_id=session.id, attempt=attempt, cause=fault.what)  # noqa: TRY400
                if attempt == _TRIES - 1:
                    self._unwritten[session.id] = (session.tenant, unit)
                    raise
            await asyncio.sleep(_PAUSE_S * (attempt + 1))
        return None


def cut(reason: str) -> Ended:
    """An end that the command did not choose."""
    return Ended(outcome=Outcome(exit_status=None, signal="", reason=reason), cut=True)


def _put(tx: Tx, action: Action, session: Session, *, sealed: bool, now: datetime) -> None:
    tx.actions.put(action)
    _put_session(tx, session, sealed=sealed, now=now)
    tx.audit.append(story.of_action(f"action.{action.state}", action, actor=""), now)


def _put_session(tx: Tx, session: Session, *, sealed: bool, now: datetime) -> None:
    if not sealed and (noted := tx.sessions.get(session.id)) is not None:
        # what its recording had committed to before it failed stays
        session = replace(session, recording_leaves=noted.recording_leaves, recording_root=noted.recording_root)
    tx.sessions.put(session)
    names = ["recording.closed" if sealed else "recording.failed", f"session.{session.state}"]
    if session.end_reason == _KEY_CHANGED:
        names.append("target.key_mismatched")
    for name in names:
        tx.audit.append(story.of_session(name, session, actor=""), now)


def _closed(session: Session, ended: Ended, commitment: Commitment | None, now: datetime) -> Session:
    return replace(
        session,
        state=SessionState.CUT if ended.cut else SessionState.CLOSED,
        closed_at=now,
        end_reason=ended.outcome.reason,
        recording_leaves=commitment.leaves if commitment else session.recording_leaves,
        recording_root=commitment.root if commitment else session.recording_root,
        recording_state="final" if commitment else "truncated",
    )
