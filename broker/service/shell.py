"""A gated shell as a session: opened in one transaction, held under the same guards as a command, sealed and written.

Opens nothing on the target and decides nothing: each line that is typed is proposed and run as an action of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from broker.core import ids
from broker.core.action import Outcome
from broker.core.clock import Instant
from broker.core.errors import Fault, Refusal, forbidden, not_found
from broker.core.grant import Grant, must_be_usable
from broker.core.identity import Caller
from broker.core.ids import GrantId, RecordingId, SessionId
from broker.service import lookup, story
from broker.service.closing import CALLER_GONE, Closing, Ended, cut
from broker.service.ending import Ending
from broker.service.live import LiveSession
from broker.service.policies import ask_action
from broker.service.ports import Session, SessionState, Tx
from broker.service.pump import CutShort, Outlet, guard, say_why
from broker.service.sealing import failed_to_run, first, note_checkpoints, seal
from broker.service.shield import settled, to_the_end
from broker.service.world import World
from policy.classes import CommandClass, Tier, stricter
from policy.engine import Permit
from policy.shell import Classified
from recorder.errors import RecorderFailed
from recorder.grec import SALT_SIZE
from recorder.sink import RecordingSink
from recorder.track import Commitment, RecordingMeta, opening

log = structlog.get_logger()
FLAG = "shell"
"""What a grant must carry."""
_FAREWELL_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellTicket:
    """A shell that is open in the store and nowhere else yet."""

    session: Session
    meta: RecordingMeta
    grant: Grant
    target_name: str
    tier: Tier
    """The stricter of the target's and the grant's, as each line is decided under."""
    seconds_left: float
    instant: Instant


Body = Callable[[RecordingSink], Awaitable[Outcome]]


class ShellService:
    """Opens shells and holds them."""

    def __init__(self, world: World, ending: Ending, closing: Closing) -> None:
        self._world, self._ending, self._closing = world, ending, closing

    async def open(self, caller: Caller, grant_id: GrantId, *, door: str) -> ShellTicket:
        """A session of kind `shell`, its recording key and their audit rows, durable before anything is shown.

        Raises:
            Refusal: the grant has no shell in it, or is over.
        """
        instant = self._world.ready(caller.tenant)
        if self._ending.is_ended(grant_id):
            raise not_found("grant")
        ticket, cancelled = await settled(
            self._world.store.run(caller.tenant, lambda tx: self._opened(tx, caller, grant_id, door, instant))
        )
        if cancelled is not None:
            await to_the_end(self._closing.write_session(ticket.session, cut(CALLER_GONE), None))
            raise cancelled
        return ticket

    async def unattended(self, caller: Caller, grant_id: GrantId) -> tuple[CommandClass, ...]:
        """The classes of plain commands that would run under a grant right now without asking anybody."""
        now = self._world.instant().wall

        def unit(tx: Tx) -> tuple[CommandClass, ...]:
            policies, identity = self._world.policies.in_force(tx), lookup.active(tx, caller.identity)
            grant = lookup.own_grant(tx, caller, grant_id)
            target = lookup.target_of(tx, grant)
            return tuple(
                level
                for level in CommandClass
                if isinstance(
                    ask_action(policies, tx, identity, target, grant, _plain(level), verified=False, now=now), Permit
                )
            )

        return await self._world.store.read(caller.tenant, unit)

    async def hold(self, ticket: ShellTicket, outlet: Outlet, body: Body) -> Outcome:
        """Runs `body` until it returns, its time is over, or it is cut; sealed and durable when this returns.

        `body` records what it shows before it shows it. Cancelling this cuts it, and still seals and writes.
        """
        session, limits = ticket.session, self._world.limits
        live = LiveSession(tenant=session.tenant, session=session.id, grant=session.grant_id, identity=session.identity)
        cancelled: asyncio.CancelledError | None = None
        commitment: Commitment | None = None
        ended = cut(CALLER_GONE)
        try:
            with self._world.live.enter(live, per_grant=limits.sessions_per_grant, in_all=limits.sessions_per_process):
                sink = await self._world.recordings.create(ticket.meta)
                live.recorded_by(sink)
                try:
                    ended = await self._attempt(ticket, live, sink, outlet, body)
                finally:
                    commitment = await to_the_end(seal(sink, ended))
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception as failure:
            ended = failed_to_run(failure)
            defect = not isinstance(failure, (RecorderFailed, Refusal, Fault))
            log.warning("shell.failed", session_id=session.id, cause=repr(failure), exc_info=defect)
        await to_the_end(self._closing.write_session(session, ended, commitment))
        if cancelled is not None:
            raise cancelled
        return ended.outcome

    async def _attempt(
        self, ticket: ShellTicket, live: LiveSession, sink: RecordingSink, outlet: Outlet, body: Body
    ) -> Ended:
        left = ticket.seconds_left - (self._world.clock.monotonic() - ticket.instant.mono)
        outcome: Outcome | None = None
        short: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                guards = [
                    group.create_task(guard(live, sink, outlet, left)),
                    group.create_task(note_checkpoints(self._world, ticket.session, sink)),
                ]
                outcome = await body(sink)
                for task in guards:
                    task.cancel()
        except* (CutShort, RecorderFailed, Refusal, Fault, ConnectionError) as several:
            short = first(several)
        match short:
            case None:
                return cut(CALLER_GONE) if outcome is None else Ended(outcome=outcome, cut=False)
            case CutShort(reason=reason):
                await _farewell(live, outlet, reason)
                return cut(reason)
            case ConnectionError():
                return cut(CALLER_GONE)
            case failure:
                log.warning("shell.failed", session_id=ticket.session.id, cause=repr(failure))
                return failed_to_run(failure)

    def _opened(self, tx: Tx, caller: Caller, grant_id: GrantId, door: str, instant: Instant) -> ShellTicket:
        lookup.not_frozen(tx)
        lookup.active(tx, caller.identity)
        grant = lookup.own_grant(tx, caller, grant_id)
        must_be_usable(grant, instant.wall)
        self._world.leases.must_last(grant, instant)
        if FLAG not in grant.flags:
            raise forbidden("no_shell", "this grant has no shell", "ask for one with the flag `shell`, or run commands")
        target = lookup.target_of(tx, grant)
        recording = RecordingId(ids.render("recording", self._world.entropy.token(16)))
        session_id = SessionId(ids.render("session", self._world.entropy.token(16)))
        key = tx.keys.new_recording_key(recording)
        meta = RecordingMeta(
            rec=recording, sid=session_id, ten=grant.tenant, dek_id=key.key_id, dek=key.key.reveal(),
            salt=self._world.entropy.token(SALT_SIZE), start=instant.wall, part=0, prev=None,
        )  # fmt: skip
        session = _session(grant, session_id, meta, door=door)
        tx.sessions.put(session)
        for name, actor in (("session.opened", caller.identity), ("recording.opened", "")):
            tx.audit.append(story.of_session(name, session, actor=actor), instant.wall)
        return ShellTicket(
            session=session,
            meta=meta,
            grant=grant,
            target_name=target.name,
            tier=stricter(target.tier, grant.tier),
            seconds_left=self._world.leases.left(grant, instant),
            instant=instant,
        )


def _session(grant: Grant, session_id: SessionId, meta: RecordingMeta, *, door: str) -> Session:
    opened = opening(meta)
    return Session(
        tenant=grant.tenant,
        id=session_id,
        grant_id=grant.id,
        action_id=None,
        identity=grant.identity,
        target_id=grant.target_id,
        login=grant.login,
        kind=FLAG,
        door=door,
        recording=RecordingId(meta.rec),
        state=SessionState.OPEN,
        opened_at=meta.start,
        closed_at=None,
        end_reason="",
        recording_leaves=opened.leaves,
        recording_root=opened.root,
        recording_state="open",
    )


def _plain(level: CommandClass) -> Classified:
    return Classified(command_class=level, opaque=False, egress=False, outlives=False, parts=())


async def _farewell(live: LiveSession, outlet: Outlet, reason: str) -> None:
    """A person who does not read the reason does not hold up the end. Recorded, like everything that is shown."""
    with suppress(TimeoutError, ConnectionError, RecorderFailed):
        async with asyncio.timeout(_FAREWELL_S):
            await say_why(live, outlet)
            await outlet.tell(f"ended: {reason}")
