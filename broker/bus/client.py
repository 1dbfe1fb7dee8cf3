"""A worker's end of the bus: control and the signer, asked of the control process.

Holds no authority: it names what it was handed. While it is not told that a session's input flows, the input is held.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from broker.bus import messages as m
from broker.bus.peer import FROM_CONTROL_BYTES, Answers, BusLost, Peer
from broker.bus.showing import Showing
from broker.core import sftp
from broker.core.action import Action, ActionState, StdinMode
from broker.core.cert import Ca, CertSpec, X509Spec
from broker.core.clock import Clock, Instant
from broker.core.errors import Fault, SignerFault
from broker.core.generation import Generation
from broker.core.ids import ActionId, SessionId
from broker.core.wrapper import read_force_command
from broker.service.closing import Ended
from broker.service.gateway import Admission, Shown
from broker.service.leases import both
from broker.service.live import LiveSession, Tape
from broker.service.oversight import Oversight, Standing
from broker.service.ports import Proof, Session
from broker.service.propose import CommandInput, Proposal
from broker.service.shell import ShellTicket
from broker.service.shield import settled, to_the_end
from broker.service.start import Ticket
from policy.classes import CommandClass
from policy.ruleset import Ruleset
from recorder.errors import RecorderFailed
from recorder.track import Commitment

ANSWERED_WITHIN: Final = 30.0
"""Seconds for what makes no ticket and waits for no person."""
_MOST: Final = 10_000
"""That a counter is told to have counted in one beat; a flood of refusals is a flood beyond it."""
_HELD: Final = Standing(must_be_watched=False, paused=True, watchers=(), attended=False)
_NO_PROOF: Final = Proof(record=b"", signatures=())


class HeldOversight(Oversight):
    """How a session stands, as the control process tells it."""

    def __init__(self) -> None:
        self._told, self._heard = _HELD, False
        super().__init__()

    def standing(self) -> Standing:
        """As it was told last."""
        return self._told

    def tell(self, standing: Standing) -> None:
        """It stands so from now on."""
        self._told, self._heard = standing, True
        self._settle()

    def begin(self, standing: Standing) -> None:
        """It stood so when it began: a word that came since counts more."""
        if not self._heard:
            self.tell(standing)


class HeldSession(LiveSession):
    """A session that runs here and is watched over from the control process."""

    oversight: HeldOversight

    def __init__(self, session: Session, peer: Peer) -> None:
        super().__init__(tenant=session.tenant, session=session.id, grant=session.grant_id, identity=session.identity)
        self.oversight = HeldOversight()
        self.showing = Showing(self, peer)
        self._peer = peer

    def recorded_by(self, sink: Tape) -> None:
        """As LiveSession; the control process may mark it from now on."""
        super().recorded_by(sink)
        with suppress(BusLost):
            self._peer.tell(m.OPENED, m.OfSession(self.session))


class BusControl:
    """As Control and Signer. `run` reads until the control process is gone.

    Args:
        begun: told what to begin with, once.
        shown: told of a new host key and certificate.
        grant_over: ends what is pooled for a grant.
        stopped: ends everything in good order.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: Clock, *,
        begun: Callable[[m.Begin], None], shown: Callable[[m.Shows], None],
        grant_over: Callable[[m.GrantOver], Awaitable[None]], stopped: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._clock, self._grant_over, self._stopped = clock, grant_over, stopped
        self._live: dict[SessionId, HeldSession] = {}
        self._serials: dict[int, Ticket] = {}
        """Of certificates that are about to be asked for."""
        self._rules: dict[str, Ruleset] = {}
        answers = Answers.of(
            asks={m.CUT: self._cut, m.MARK: self._mark, m.END_GRANT: self._end_grant, m.STOP: self._stop},
            tells={
                m.BEGIN: begun, m.SHOW: shown, m.STANDS: self._stands, m.WATCHED: self._watched,
                m.UNWATCHED: self._unwatched,
            },
        )  # fmt: skip
        self.peer = Peer(reader, writer, answers, longest=FROM_CONTROL_BYTES)

    def lag_s(self) -> float:
        """The worst of its sessions."""
        return max((live.recorder_lag() for live in self._live.values()), default=0.0)

    async def _ask(self, ask: m.Ask[m.Q, m.A], question: m.Q) -> m.A:
        try:
            async with asyncio.timeout(ANSWERED_WITHIN):
                return await self.peer.ask(ask, question)
        except TimeoutError as error:
            raise Fault("the control process did not answer in time") from error

    # ---- Admissions --------------------------------------------------------------------------------------------------
    async def admit(self, shown: Shown) -> Admission:
        return await self._ask(m.ADMIT, shown)

    async def is_over(self, admission: Admission) -> bool:
        return await self._ask(m.IS_OVER, m.UnderGrant(admission.grant.id))

    async def refused(self, admission: Admission, feature: str) -> None:
        await self._ask(m.REFUSED, m.Feature(admission.grant.id, feature))

    # ---- Gate --------------------------------------------------------------------------------------------------------
    async def stdin_of(self, admission: Admission, line: bytes, *, pty: bool) -> StdinMode:
        return await self._ask(m.STDIN_OF, m.Line(admission.grant.id, line, pty))

    async def runs_unseen(self, admission: Admission, command: CommandInput) -> bool:
        return await self._ask(m.RUNS_UNSEEN, m.Proposed(admission.grant.id, command))

    async def propose(self, admission: Admission, command: CommandInput) -> Proposal:
        # what makes a ticket has no deadline, and is heard to its end: no ticket is lost on the way
        decided, cancelled = await settled(self.peer.ask(m.PROPOSE, m.Proposed(admission.grant.id, command)))
        ticket = None if decided.ticket is None else self._ticket(decided.ticket)
        if cancelled is not None:
            if ticket is not None:
                await to_the_end(self.abandon(ticket))
            raise cancelled
        return Proposal(action=decided.action, ticket=ticket)

    async def until_decided(self, admission: Admission, action: ActionId) -> AsyncIterator[Action]:
        last: ActionState | None = None
        while last is None or last is ActionState.AWAITING:
            now = await self.peer.ask(m.FOLLOW_ACTION, m.Followed(admission.grant.id, action, last))
            last = now.state
            yield now

    async def start(self, admission: Admission, action: ActionId) -> Ticket:
        handed, cancelled = await settled(self.peer.ask(m.START, m.OfAction(admission.grant.id, action)))
        ticket = self._ticket(handed)
        if cancelled is not None:
            await to_the_end(self.abandon(ticket))
            raise cancelled
        return ticket

    async def take_back(self, admission: Admission, action: ActionId) -> None:
        await self._ask(m.TAKE_BACK, m.OfAction(admission.grant.id, action))

    async def abandon(self, ticket: Ticket) -> None:
        await self.peer.ask(m.ABANDON, m.OfSession(ticket.session.id))

    async def open_shell(self, admission: Admission) -> ShellTicket:
        handed, cancelled = await settled(self.peer.ask(m.OPEN_SHELL, m.UnderGrant(admission.grant.id)))
        self._rules[handed.session.tenant] = Ruleset.load(dict(handed.rules), tried=True)
        ticket = ShellTicket(
            session=handed.session, meta=handed.meta, grant=handed.grant, target_name=handed.target_name,
            tier=handed.tier, seconds_left=handed.seconds_left, instant=self._instant(),
        )  # fmt: skip
        if cancelled is not None:
            gone = m.Over(handed.session.id, None, "", "caller_gone", cut=True, leaves=0, root=b"", sealed=False)
            await to_the_end(self._ask(m.FINISH_SHELL, gone))
            raise cancelled
        return ticket

    async def unattended(self, admission: Admission) -> tuple[CommandClass, ...]:
        return await self._ask(m.UNATTENDED, m.UnderGrant(admission.grant.id))

    def rules(self, admission: Admission) -> Ruleset:
        """As of when the tenant's last shell was opened here: a hint, no decision."""
        return self._rules[admission.caller.tenant]

    def _instant(self) -> Instant:
        return both(self._clock)

    def _ticket(self, handed: m.Handed) -> Ticket:
        return Ticket(
            action=handed.action, grant=handed.grant, target=handed.target, session=handed.session, meta=handed.meta,
            proof=_NO_PROOF, watchers=handed.watchers, seconds_left=handed.seconds_left, instant=self._instant(),
        )  # fmt: skip

    # ---- Ledger ------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def running(
        self, session: Session, *, watchers: frozenset[str] = frozenset(), within: SessionId | None = None
    ) -> AsyncIterator[LiveSession]:
        """As Ledger; `watchers` stand in the ticket, which control has."""
        del watchers
        # known before it is asked for: a cut or a pause may come as soon as the other end has it
        live = self._live[session.id] = HeldSession(session, self.peer)
        try:
            live.oversight.begin(await self._ask(m.ENTER, m.Entering(session.id, within)))
            yield live
        finally:
            del self._live[session.id]
            self._serials = {serial: of for serial, of in self._serials.items() if of.session.id != session.id}
            live.showing.end()
            live.over()
            with suppress(BusLost):
                self.peer.tell(m.LEFT, m.OfSession(session.id))

    async def announce(self, ticket: Ticket, serial: int) -> None:
        """Nothing yet: the control process announces what it signs, in one go."""
        self._serials[serial] = ticket

    async def note(self, session: Session, *, leaves: int, root: bytes) -> None:
        await self._ask(m.NOTE, m.Noted(session.id, leaves, root))

    async def finish(self, ticket: Ticket, ended: Ended, commitment: Commitment | None, *, seconds: float) -> Action:
        """As Ledger; how long it ran is counted in the control process. Heard to its end: no ticket stays behind."""
        del seconds
        return await self.peer.ask(m.FINISH, _over(ticket.session.id, ended, commitment))

    async def finish_shell(self, ticket: ShellTicket, ended: Ended, commitment: Commitment | None) -> None:
        await self.peer.ask(m.FINISH_SHELL, _over(ticket.session.id, ended, commitment))

    # ---- Signer ------------------------------------------------------------------------------------------------------
    async def sign_ssh(self, spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
        """A certificate for the ticket whose announced serial this is; what it says is the control process's to say."""
        del proof
        ticket = self._serials.pop(spec.serial)
        files = _speaks_sftp(ticket, spec)
        asked = m.Certificate(ticket.session.id, public_key, spec.source_address, files)
        return (await self._ask(m.CERTIFICATE, asked)).blob

    async def sign_x509(self, spec: X509Spec, csr_der: bytes) -> bytes:
        """Never."""
        raise SignerFault("a worker has no such certificates")

    async def sign_probe(self, spec: CertSpec, public_key: bytes, generation: int) -> bytes:
        """Never."""
        raise SignerFault("a worker checks no targets")

    async def generations(self, ca: Ca) -> tuple[Generation, ...]:
        """Never."""
        raise SignerFault("a worker has no CA")

    async def rotate(self, ca: Ca, statement: bytes, signatures: tuple[bytes, ...]) -> tuple[Generation, ...]:
        """Never."""
        raise SignerFault("a worker has no CA")

    async def learn(self, statement: bytes, signatures: tuple[bytes, ...]) -> None:
        """Never."""
        raise SignerFault("a worker says nothing to the signer")

    async def open_glass(self, use: bytes, signature: bytes) -> None:
        """Never."""
        raise SignerFault("a worker opens no sealed credential")

    async def believed(self, tenant: str, subject: str) -> bytes:
        """Never."""
        raise SignerFault("a worker asks nothing of the signer")

    async def ssh_ca(self, name: str) -> bytes:
        """Never."""
        raise SignerFault("a worker has no CA")

    async def x509_ca(self) -> bytes:
        """Never."""
        raise SignerFault("a worker has no CA")

    # ---- what the control process says -------------------------------------------------------------------------------
    async def _cut(self, of: m.Cutting) -> m.Nothing:
        if (live := self._live.get(of.session)) is not None:
            live.cut(of.reason, of.words)
        return m.Nothing()

    async def _mark(self, of: m.Marks) -> m.Nothing:
        live = self._live.get(of.session)
        tape = await live.recording() if live is not None else None
        if tape is None:
            raise Fault("the session is over")
        try:
            await tape.marker(of.label, of.code, of.audit_id)
        except RecorderFailed as error:
            raise Fault("the recording is closed") from error
        return m.Nothing()

    async def _end_grant(self, of: m.GrantOver) -> m.Nothing:
        await self._grant_over(of)
        return m.Nothing()

    async def _stop(self, _: m.Nothing) -> m.Nothing:
        await self._stopped()
        return m.Nothing()

    def _stands(self, of: m.Stands) -> None:
        if (live := self._live.get(of.session)) is not None:
            live.oversight.tell(of.standing)

    def _watched(self, of: m.OfSession) -> None:
        if (live := self._live.get(of.session)) is not None:
            live.showing.begin()

    def _unwatched(self, of: m.OfSession) -> None:
        if (live := self._live.get(of.session)) is not None:
            live.showing.end()


class BusMeter:
    """As Meter, for what a worker counts: told with each beat. What control counts itself is not told."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def count(self, name: str, **labels: str) -> None:
        for label, value in labels.items():
            self._counts[name, label, value] += 1

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Nothing that a worker observes is its own to tell."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """As `observe`."""

    def taken(self) -> tuple[m.Counted, ...]:
        """What was counted since the last call."""
        found = tuple(m.Counted(*key, times=min(times, _MOST)) for key, times in self._counts.items())
        self._counts.clear()
        return found


def _speaks_sftp(ticket: Ticket, spec: CertSpec) -> bool:
    """Whether a file session was planned as one, and not as the program of that name."""
    command = ticket.action.command
    return sftp.is_session(command) and read_force_command(spec.force_command).command == sftp.program(command)


def _over(session: SessionId, ended: Ended, commitment: Commitment | None) -> m.Over:
    outcome = ended.outcome
    return m.Over(
        session=session, exit_status=outcome.exit_status, signal=outcome.signal, reason=outcome.reason, cut=ended.cut,
        leaves=commitment.leaves if commitment else 0, root=commitment.root if commitment else b"",
        sealed=commitment is not None, size=commitment.bytes if commitment else 0,
    )  # fmt: skip
