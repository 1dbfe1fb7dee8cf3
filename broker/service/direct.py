"""Control in the same process: what moves bytes asks by calling. Adds no rule of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace

from broker.core import ids
from broker.core.action import Action, StdinMode
from broker.core.credential import CredentialState
from broker.core.errors import conflict
from broker.core.ids import ActionId, CredentialId, SessionId
from broker.service import story
from broker.service.closing import Closing, Ended
from broker.service.ending import Ending
from broker.service.gateway import Admission, GatewayService, Shown
from broker.service.live import LiveSession
from broker.service.ports import Credential, Session, SessionState, Tx
from broker.service.propose import CommandInput, Proposal, ProposeService
from broker.service.shell import ShellService, ShellTicket
from broker.service.start import Ticket
from broker.service.starting import StartingService
from broker.service.waiting import WaitingService
from broker.service.world import World
from policy.classes import CommandClass
from policy.engine import Permit
from policy.ruleset import Ruleset
from recorder.track import Commitment

_DOOR = "ssh"
"""The one door that asks through this; the others call the services themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectControl:
    """As Control."""

    world: World
    gateway: GatewayService
    gate: ProposeService
    starting: StartingService
    waiting: WaitingService
    shells: ShellService
    closing: Closing
    ending: Ending

    async def admit(self, shown: Shown) -> Admission:
        return await self.gateway.admit(shown)

    async def is_over(self, admission: Admission) -> bool:
        return await self.gateway.is_over(admission)

    async def refused(self, admission: Admission, feature: str) -> None:
        await self.gateway.refused(admission, feature)

    # ---- the gate ----------------------------------------------------------------------------------------------------
    async def stdin_of(self, admission: Admission, line: bytes, *, pty: bool) -> StdinMode:
        return await self.gate.stdin_of(admission.caller, admission.grant.flags, line, pty=pty)

    async def runs_unseen(self, admission: Admission, command: CommandInput) -> bool:
        decision = (await self.gate.preview(admission.caller, admission.grant.id, command)).decision
        return isinstance(decision, Permit) and not decision.watchers

    async def propose(self, admission: Admission, command: CommandInput) -> Proposal:
        key = self.world.entropy.token(16).hex()  # an SSH client has none of its own
        return await self.gate.propose(
            admission.caller, admission.grant.id, command, idempotency_key=key, reason="", door=_DOOR
        )

    def until_decided(self, admission: Admission, action: ActionId) -> AsyncIterator[Action]:
        return self.starting.until_decided(admission.caller, action)

    async def start(self, admission: Admission, action: ActionId) -> Ticket:
        return await self.starting.start(admission.caller, action, door=_DOOR)

    async def take_back(self, admission: Admission, action: ActionId) -> None:
        await self.waiting.cancel(admission.caller, action)

    async def abandon(self, ticket: Ticket) -> None:
        await self.closing.abandon(ticket)

    async def open_shell(self, admission: Admission) -> ShellTicket:
        return await self.shells.open(admission.caller, admission.grant.id, door=_DOOR)

    async def unattended(self, admission: Admission) -> tuple[CommandClass, ...]:
        return await self.shells.unattended(admission.caller, admission.grant.id)

    def rules(self, admission: Admission) -> Ruleset:
        return self.world.policies.last_seen(admission.caller.tenant)

    # ---- a session ---------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def running(
        self, session: Session, *, watchers: frozenset[str] = frozenset(), within: SessionId | None = None
    ) -> AsyncIterator[LiveSession]:
        self.world.live.must_be_open(session.tenant)
        if self.ending.has_ended(session.grant_id):  # after it was started, before it was among those that are cut
            raise conflict("grant_over", "the grant is over", "request access again")
        live = LiveSession(tenant=session.tenant, session=session.id, grant=session.grant_id, identity=session.identity)
        live.oversight.demand(watchers)
        limits = self.world.limits
        with (
            self.world.live.enter(live, per_grant=limits.sessions_per_grant, in_all=limits.sessions_per_process),
            self._overseen_from(live, within),
        ):
            yield live

    def _overseen_from(self, live: LiveSession, within: SessionId | None) -> AbstractContextManager[None]:
        above = self.world.live.get(live.tenant, within) if within is not None else None
        return nullcontext() if above is None else live.oversight.within(above.oversight)

    async def announce(self, ticket: Ticket, serial: int) -> None:
        now = self.world.clock.now()
        credential = Credential(
            tenant=ticket.action.tenant,
            id=CredentialId(ids.render("credential", self.world.entropy.token(16))),
            grant_id=ticket.grant.id,
            kind="egress",
            serial=str(serial),
            key=b"",
            state=CredentialState.SIGNED,
            issued_at=now,
            not_after=ticket.action.not_after,
            ended_at=None,
        )

        def unit(tx: Tx) -> None:
            tx.credentials.add(credential)
            tx.audit.append(story.of_credential(credential, actor="", action=ticket.action.id), now)

        await self.world.store.run(ticket.action.tenant, unit)

    async def note(self, session: Session, *, leaves: int, root: bytes) -> None:
        noted = replace(session, recording_leaves=leaves, recording_root=root)

        def unit(tx: Tx) -> None:
            now = tx.sessions.get(session.id)
            if now is None or now.state is not SessionState.OPEN:
                return  # its end was quicker, and stays
            tx.sessions.put(noted)
            tx.audit.append(story.of_session("recording.checkpoint", noted, actor=""), self.world.clock.now())

        await self.world.store.run(session.tenant, unit)

    async def finish(self, ticket: Ticket, ended: Ended, commitment: Commitment | None, *, seconds: float) -> Action:
        finished = await self.closing.write(ticket, ended, commitment)
        meter, word = self.world.meter, finished.command_class.word
        meter.count("executions", command_class=word, state=finished.state)
        meter.observe("execution_duration_seconds", seconds, command_class=word)
        return finished

    async def finish_shell(self, ticket: ShellTicket, ended: Ended, commitment: Commitment | None) -> None:
        await self.closing.write_session(ticket.session, ended, commitment)
