"""Sessions and their recordings, for operators. Whoever reads a recording is named in the audit log first (I-33)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from broker.core.errors import invalid, not_found
from broker.core.events import AuditEvent
from broker.core.identity import Caller
from broker.core.ids import SessionId
from broker.core.request import checked_text
from broker.core.roles import Role
from broker.service import lookup, story
from broker.service.live import LiveSessions, Scope
from broker.service.oversight import Standing
from broker.service.paging import Page, eyes, seen_page
from broker.service.ports import RecordingKey, Session, SessionState, Tx
from broker.service.world import World
from recorder.export.about import About
from recorder.export.forms import Form
from recorder.reader import RecordingReader

_PAGE = 50
_MAX_PAGE = 200
_MAX_ASKED = 2_000
"""Newest commands of a shell that are told with their decisions."""
MAX_REASON_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """A session with the names that people want to see."""

    session: Session
    identity_name: str
    target_name: str
    command: bytes
    oversight: Standing | None
    """How it stands, while it runs."""
    asked: Mapping[str, str] = field(default_factory=dict)
    """Commands of a shell by their action ids; only where a recording is read."""


class SessionService:
    """Lists, shows, cuts and plays sessions."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def page(self, caller: Caller, *, after: SessionId | None, limit: int) -> Page[SessionView]:
        """Sessions, newest first, as far as the caller may see them."""
        size = min(limit or _PAGE, _MAX_PAGE)
        return await self._world.store.read(caller.tenant, lambda tx: _page(tx, caller, after, size, self._world.live))

    async def running(self, caller: Caller) -> Sequence[SessionView]:
        """Those that run now, newest first, as far as the caller may see them."""
        lives = [live for live in self._world.live.all() if live.tenant == caller.tenant]

        def unit(tx: Tx) -> Sequence[SessionView]:
            rows = [row for live in lives if (row := tx.sessions.get(live.session)) is not None]
            seen = [row for row in rows if row.state is SessionState.OPEN and sees_session(tx, caller, row)]
            return [view_of(tx, row, self._world.live) for row in sorted(seen, key=_opened, reverse=True)]

        return await self._world.store.read(caller.tenant, unit)

    async def get(self, caller: Caller, session_id: SessionId) -> SessionView:
        """One session."""
        return await self._world.store.read(
            caller.tenant, lambda tx: view_of(tx, seen_session(tx, caller, session_id), self._world.live)
        )

    async def terminate(self, caller: Caller, session_id: SessionId, reason: str) -> SessionView:
        """Cuts a session within a second; repeating it is harmless."""
        checked_text("reason", reason, MAX_REASON_BYTES)
        view = await self.get(caller, session_id)
        if view.session.state is not SessionState.OPEN:
            return view
        await self._world.live.cut(
            Scope(tenant=caller.tenant, session=session_id), "terminated", within=1.0, words=reason
        )
        event = AuditEvent(
            tenant=caller.tenant,
            name="session.terminated",
            actor=caller.identity,
            facts={"session": session_id, "grant": view.session.grant_id},
            personal=story.personal(caller.identity, reason=reason),
        )
        await self._world.store.run(caller.tenant, lambda tx: tx.audit.append(event, self._world.clock.now()))
        return await self.get(caller, session_id)

    async def play(self, caller: Caller, session_id: SessionId, reason: str) -> RecordingReader:
        """A reader with the key: the audit row that names the caller is durable before it is handed out."""
        return (await self.review(caller, session_id, reason))[0]

    async def review(
        self, caller: Caller, session_id: SessionId, reason: str
    ) -> tuple[RecordingReader, Mapping[str, str]]:
        """As `play`, with what was asked for by the ids that decisions bear in the recording."""
        view, key = await self._reading(caller, session_id, reason, name="recording.viewed")
        return await self._reader(view.session, key), view.asked

    async def fetch(self, caller: Caller, session_id: SessionId, reason: str) -> RecordingReader:
        """A reader without the key: the sealed parts, for keeping and for offline checks."""
        view, _ = await self._reading(caller, session_id, reason, name="recording.exported", form="sealed")
        return await self._reader(view.session, None)

    async def export(
        self, caller: Caller, session_id: SessionId, reason: str, *, form: Form, with_input: bool
    ) -> tuple[RecordingReader, About]:
        """A reader with the key, and what a copy in this form must say of itself; the log names the caller first."""
        view, key = await self._reading(
            caller, session_id, reason, name="recording.exported", form=form, with_input=int(with_input)
        )
        return await self._reader(view.session, key), self._about(caller, view)

    def _about(self, caller: Caller, view: SessionView) -> About:
        session = view.session
        return About(
            session=session.id,
            recording=session.recording,
            title=view.command.decode("utf-8", "surrogateescape") or session.kind,
            who=f"{view.identity_name} ({session.identity})",
            login=session.login,
            target=view.target_name,
            opened_at=session.opened_at,
            state=session.recording_state,
            leaves=session.recording_leaves,
            root=session.recording_root,
            asked=view.asked,
            exporter=f"{caller.name} ({caller.identity})",
            exported_at=self._world.clock.now(),
        )

    async def _reading(
        self, caller: Caller, session_id: SessionId, reason: str, *, name: str, **facts: str | int
    ) -> tuple[SessionView, RecordingKey]:
        given_reason(reason)
        now = self._world.clock.now()

        def unit(tx: Tx) -> tuple[SessionView, RecordingKey]:
            session = seen_session(tx, caller, session_id)
            key = tx.keys.recording_key(session.recording)
            if key is None:
                raise not_found("recording")
            event = AuditEvent(
                tenant=caller.tenant,
                name=name,
                actor=caller.identity,
                facts={"session": session.id, "rec": session.recording, "grant": session.grant_id, **facts},
                personal=story.personal(caller.identity, reason=reason),
            )
            tx.audit.append(event, now)
            return replace(view_of(tx, session, self._world.live), asked=_asked(tx, session)), key

        return await self._world.store.run(caller.tenant, unit)

    async def _reader(self, session: Session, key: RecordingKey | None) -> RecordingReader:
        return await self._world.recordings.open(
            ten=session.tenant,
            rec=session.recording,
            sid=session.id,
            start=session.opened_at,
            dek=key.key.reveal() if key else None,
        )


def given_reason(reason: str) -> str:
    """Why somebody looks, in their words: whoever reads what others did says it (I-33). Raises Refusal."""
    if not reason.strip():
        raise invalid("reason_needed", "whoever looks at a recording says why", "say it with --reason")
    return checked_text("reason", reason, MAX_REASON_BYTES)


def seen_session(tx: Tx, caller: Caller, session_id: SessionId) -> Session:
    """A session that is the caller's own, or that its role lets it see."""
    session = tx.sessions.get(session_id)
    if session is None or not sees_session(tx, caller, session):
        raise not_found("session")
    return session


def sees_session(tx: Tx, caller: Caller, session: Session) -> bool:
    """Whether it is the caller's own, or on a target whose happenings its role lets it see."""
    return session.identity == caller.identity or lookup.sees_target(caller, tx.targets.get(session.target_id))


def _page(tx: Tx, caller: Caller, after: SessionId | None, size: int, lives: LiveSessions) -> Page[SessionView]:
    own = caller.identity if caller.role is Role.AGENT else None
    sees = eyes(tx, caller)
    page = seen_page(
        lambda last, limit: tx.sessions.page(identity=own, after=SessionId(last) if last else None, limit=limit),
        lambda session: session.identity == caller.identity or sees(session.target_id),
        lambda session: session.id,
        after=after,
        size=size,
    )
    return Page(rows=[view_of(tx, session, lives) for session in page.rows], next=page.next)


def view_of(tx: Tx, session: Session, lives: LiveSessions) -> SessionView:
    """A session with its names, and how it stands where it runs."""
    live = lives.get(session.tenant, session.id) if session.state is SessionState.OPEN else None
    identity, target = tx.identities.get(session.identity), tx.targets.get(session.target_id)
    action = tx.actions.get(session.action_id) if session.action_id else None
    return SessionView(
        session=session,
        identity_name=identity.name if identity else "",
        target_name=target.name if target else "",
        command=action.command if action else b"",
        oversight=live.oversight.standing() if live else None,
    )


def _opened(session: Session) -> tuple[datetime, str]:
    return session.opened_at, session.id


def _asked(tx: Tx, session: Session) -> Mapping[str, str]:
    """A shell's recording has the ids of its decisions; what was decided on stands in their actions."""
    if session.action_id is not None:
        return {}
    actions = tx.actions.page(grant=session.grant_id, identity=None, after=None, limit=_MAX_ASKED)
    return {action.id: action.command.decode("utf-8", "surrogateescape") for action in actions}
