"""A gated shell as a row: opened in one transaction, before anything of it is shown. shell_run.py holds it.

Opens nothing on the target and decides nothing: each line that is typed is proposed and run as an action of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.core import ids
from broker.core.clock import Instant
from broker.core.errors import forbidden, not_found
from broker.core.grant import Grant, must_be_usable
from broker.core.identity import Caller
from broker.core.ids import GrantId, RecordingId, SessionId
from broker.service import lookup, story
from broker.service.closing import CALLER_GONE, Closing, cut
from broker.service.ending import Ending
from broker.service.policies import ask_action
from broker.service.ports import Session, SessionState, Tx
from broker.service.shield import settled, to_the_end
from broker.service.world import World
from policy.classes import CommandClass, Tier, stricter
from policy.engine import Permit
from policy.shell import Classified
from recorder.grec import SALT_SIZE
from recorder.track import RecordingMeta, opening

FLAG = "shell"
"""What a grant must carry."""


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


class ShellService:
    """Opens shells."""

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
