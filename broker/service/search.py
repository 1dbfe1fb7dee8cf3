"""Looking for a word in every recording that a caller may see. Who looked, for what, and what was found, is audited.

The word is told to the log first; a recording in which it stands is told, as a reading, before a line of it is shown
(I-33). Tenants have keys of their own, so a filter of one says nothing about another.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from broker.core.errors import exhausted, invalid
from broker.core.events import AuditEvent
from broker.core.identity import Caller
from broker.core.ids import RecordingId, SessionId, TenantId
from broker.core.request import checked_text
from broker.service import story
from broker.service.ports import RecordingKey, Session, Tx
from broker.service.session import SessionService, SessionView, given_reason
from broker.service.world import World
from recorder.errors import RecordingInvalid
from recorder.reader import RecordingReader
from recorder.search import search
from recorder.words import Hit, Wanted

log = structlog.get_logger()
MAX_WORD_BYTES = 200
HITS_A_SESSION = 5
_AT_ONCE = 50
IN_ALL, A_TENANT = 8, 2
"""Searches that run at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A session and the first lines of its recording that hold the word."""

    view: SessionView
    hits: Sequence[Hit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """The end of a search: how many recordings were asked, and how many could not be read."""

    recordings: int
    unreadable: int


class SearchService:
    """Searches recordings, and makes their filters once they have ended."""

    def __init__(self, world: World, sessions: SessionService) -> None:
        self._world, self._sessions = world, sessions
        self._running: Counter[TenantId] = Counter()

    async def search(self, caller: Caller, text: str, reason: str) -> AsyncGenerator[Found | Looked]:
        """What is found, newest session first; `Looked` last. Close it where it is not read to its end.

        Raises:
            Refusal: `bad_word`, `text_too_long`, `reason_needed`, `too_many_searches`.
        """
        wanted = _wanted(text)
        with self._one_more(caller.tenant):
            async for each in self._looking(caller, wanted, text, reason):
                yield each

    @contextmanager
    def _one_more(self, tenant: TenantId) -> Iterator[None]:
        """Each search reads and decrypts for as long as there are recordings: a tenant's share is a quarter (I-60)."""
        if self._running[tenant] >= A_TENANT or self._running.total() >= IN_ALL:
            raise exhausted("too_many_searches", "as many searches run as may", "try again when one is over")
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running[tenant] -= 1

    async def _looking(self, caller: Caller, wanted: Wanted, text: str, reason: str) -> AsyncIterator[Found | Looked]:
        given_reason(reason)
        search_key = await self._begun(caller, text, reason)
        recordings = unreadable = 0
        async for view, reader in self._readable(caller):
            recordings += 1
            if reader is None:
                unreadable += 1
                continue
            try:
                hits = await asyncio.to_thread(search, reader, wanted, search_key, limit=HITS_A_SESSION)
            except RecordingInvalid as error:
                log.warning("recording.unreadable", recording=view.session.recording, problem=str(error))
                unreadable += 1
                continue
            if hits:
                await self._shown(caller, view.session, reason)
                yield Found(view=view, hits=hits)
        yield Looked(recordings=recordings, unreadable=unreadable)

    async def index(self, tenant: TenantId, session_id: SessionId) -> bool:
        """Makes the filter of one ended recording; False where that is not to be."""

        def unit(tx: Tx) -> tuple[Session | None, RecordingKey | None, bytes]:
            session = tx.sessions.get(session_id)
            key = tx.keys.recording_key(session.recording) if session else None
            return session, key, tx.keys.search_key().reveal()

        session, key, search_key = await self._world.store.run(tenant, unit)
        reader = await self._reader(session, key) if session and key else None
        return reader is not None and await self._world.index(reader, search_key)

    async def _begun(self, caller: Caller, text: str, reason: str) -> bytes:
        event = AuditEvent(
            tenant=caller.tenant,
            name="recording.searched",
            actor=caller.identity,
            personal=story.personal(caller.identity, reason=reason, word=text),
        )

        def unit(tx: Tx) -> bytes:
            tx.audit.append(event, self._world.clock.now())
            return tx.keys.search_key().reveal()

        return await self._world.store.run(caller.tenant, unit)

    async def _shown(self, caller: Caller, session: Session, reason: str) -> None:
        event = AuditEvent(
            tenant=caller.tenant,
            name="recording.viewed",
            actor=caller.identity,
            facts={"session": session.id, "rec": session.recording, "grant": session.grant_id, "by": "search"},
            personal=story.personal(caller.identity, reason=reason),
        )
        await self._world.store.run(caller.tenant, lambda tx: tx.audit.append(event, self._world.clock.now()))

    async def _readable(self, caller: Caller) -> AsyncIterator[tuple[SessionView, RecordingReader | None]]:
        """Every session that the caller may see, with a reader where its recording can be opened."""
        after: SessionId | None = None
        while True:
            page = await self._sessions.page(caller, after=after, limit=_AT_ONCE)
            names = [view.session.recording for view in page.rows]

            def unit(tx: Tx, names: Sequence[RecordingId] = names) -> list[RecordingKey | None]:
                return [tx.keys.recording_key(name) for name in names]

            for view, key in zip(page.rows, await self._world.store.read(caller.tenant, unit), strict=True):
                yield view, None if key is None else await self._reader(view.session, key)
            if not page.next:
                return
            after = SessionId(page.next)

    async def _reader(self, session: Session, key: RecordingKey) -> RecordingReader | None:
        try:
            return await self._world.recordings.open(
                ten=session.tenant,
                rec=session.recording,
                sid=session.id,
                start=session.opened_at,
                dek=key.key.reveal(),
            )
        except RecordingInvalid:
            return None


def _wanted(text: str) -> Wanted:
    checked_text("word", text, MAX_WORD_BYTES)
    try:
        return Wanted(text)
    except ValueError:
        raise invalid("bad_word", "a search needs a letter or a digit", "search for a whole word") from None
