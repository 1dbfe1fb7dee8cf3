"""The control process's end of one worker's bus: the door through which a worker asks, like any other door.

A worker names grants that were admitted to it and tickets that were handed to it, by id; everything else is refused or
ends it. Each ticket is its own and ends once. When it is gone, what it ran is written as cut, and what it let wait is
taken back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, TypeVar

import structlog

from broker.bus import messages as m
from broker.bus.codec import BusError
from broker.bus.far import FarSession
from broker.bus.held import Held
from broker.bus.peer import FROM_WORKER_BYTES, Answers, Peer
from broker.bus.said import Tally, checked, commitment, ended
from broker.core.action import FINISHED, Action, StdinMode
from broker.core.cert import is_address
from broker.core.clock import Clock
from broker.core.errors import Blame, Fault, Refusal, SignerFault, exhausted, not_found
from broker.core.ids import ActionId, GrantId, SessionId
from broker.service.closing import cut
from broker.service.control import Control
from broker.service.gateway import Admission, Shown
from broker.service.oversight import Standing
from broker.service.plan import plan_of
from broker.service.ports import Entropy, Meter, Signer
from broker.service.shell import ShellTicket
from broker.service.shield import to_the_end
from broker.service.start import Ticket
from policy.classes import CommandClass

log = structlog.get_logger()
WORKER_LOST: Final = "worker_lost"
"""Why a session ended whose worker died."""
MAX_ADMISSIONS: Final = 10_000
MAX_TICKETS: Final = 4_096
CERTIFICATES: Final = 3
"""Of one ticket: a pooled connection that turned out to be dead is opened again."""
AT_ONCE: Final = 64
"""Questions of one worker that are answered at the same time: others have the store too."""
FOLLOWED_AT_ONCE: Final = 1_024
T = TypeVar("T")
Answer: TypeAlias = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What a desk works with."""

    control: Control
    signer: Signer
    clock: Clock
    entropy: Entropy
    meter: Meter


class Desk:
    """One worker's."""

    def __init__(
        self, rooms: Rooms, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, kill: Callable[[], None]
    ) -> None:
        """`kill` ends the worker's process at once."""
        self._rooms, self._control, self._kill = rooms, rooms.control, kill
        self.peer = Peer(reader, writer, self._answers(), longest=FROM_WORKER_BYTES)
        self.ready = asyncio.Event()
        self.beaten = rooms.clock.monotonic()
        self._lag = 0.0
        self._admissions: OrderedDict[GrantId, Admission] = OrderedDict()
        self._held: dict[SessionId, Held] = {}
        self._waiting: dict[ActionId, Admission] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._followed = 0
        self._tally = Tally(now=self.beaten)

    async def run(self) -> None:
        """Answers until the worker is gone, one way or the other; everything of it is written then."""
        try:
            await self.peer.run()
        except BusError as error:
            log.error("worker.misspoke", cause=error.what)  # noqa: TRY400  what it said is not ours to trace
        except Exception as error:  # a defect of ours that it found ends this worker, and nobody else
            log.exception("worker.desk_failed", cause=repr(error))
        finally:
            self.end()
            await to_the_end(self._bury())

    def end(self) -> None:
        """Ends the worker at once. Its bus too, which may be open in the hands of a process that it made."""
        self._kill()
        self.peer.hang_up()

    def lag_s(self) -> float:
        """Age of its oldest recorded event that is not durable yet, as it last said."""
        return self._lag

    # ---- its end -----------------------------------------------------------------------------------------------------
    async def _bury(self) -> None:
        # first nothing of them counts as running any more: whoever cut them waits for no more than that
        for held in self._held.values():
            if held.far is not None:
                await self._settled(held.far.leave())
        async with asyncio.TaskGroup() as group:
            for held in self._held.values():
                group.create_task(self._settled(self._lost(held)))
            for action, admission in self._waiting.items():
                group.create_task(self._settled(self._control.take_back(admission, action)))

    async def _lost(self, held: Held) -> None:
        reason = held.far.why(WORKER_LOST) if held.far is not None else WORKER_LOST
        match held.ticket:
            case Ticket() as ticket:
                await self._control.finish(ticket, cut(reason), None, seconds=self._since(held))
            case ShellTicket() as shell:
                await self._control.finish_shell(shell, cut(reason), None)

    @staticmethod
    async def _settled(work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception as error:  # one that cannot be written keeps no other from it
            log.warning("worker.end_unwritten", cause=str(error), exc_info=not isinstance(error, (Refusal, Fault)))

    def _since(self, held: Held) -> float:
        return max(0.0, self._rooms.clock.monotonic() - held.began)

    # ---- what it may say ---------------------------------------------------------------------------------------------
    def _answers(self) -> Answers:
        in_turn: dict[m.Ask[Any, Any], Answer] = {
            m.ADMIT: self._admit, m.IS_OVER: self._is_over, m.REFUSED: self._refused, m.STDIN_OF: self._stdin_of,
            m.RUNS_UNSEEN: self._runs_unseen, m.PROPOSE: self._propose, m.START: self._start,
            m.TAKE_BACK: self._take_back, m.UNATTENDED: self._unattended, m.OPEN_SHELL: self._open_shell,
            m.ENTER: self._enter, m.CERTIFICATE: self._certificate, m.NOTE: self._note,
        }  # fmt: skip
        return Answers.of(
            asks={
                # an end waits for nobody's turn, and a person may let others wait
                m.FOLLOW_ACTION: self._follow, m.ABANDON: self._abandon, m.FINISH: self._finish,
                m.FINISH_SHELL: self._finish_shell, **{ask: self._in_turn(by) for ask, by in in_turn.items()},
            },
            tells={
                m.READY: lambda _: self.ready.set(), m.BEAT: self._beat, m.OPENED: self._opened, m.LEFT: self._left,
                m.HEAD: self._head, m.RECORDED: self._recorded, m.OVERTAKEN: self._overtaken,
            },
        )  # fmt: skip

    def _in_turn(self, by: Answer) -> Answer:
        async def answer(question: Any) -> Any:  # noqa: ANN401  of whichever verb
            async with self._turns:
                return await by(question)

        return answer

    # ---- the door ----------------------------------------------------------------------------------------------------
    async def _admit(self, shown: Shown) -> Admission:
        admission = await self._control.admit(shown)
        self._admissions[admission.grant.id] = admission
        self._admissions.move_to_end(admission.grant.id)
        while len(self._admissions) > MAX_ADMISSIONS:
            self._admissions.popitem(last=False)
        return admission

    def _admitted(self, grant: GrantId) -> Admission:
        found = self._admissions.get(grant)
        if found is None:
            raise Refusal("not_admitted", "access denied", blame=Blame.UNAUTHENTICATED, way_out="connect again")
        self._admissions.move_to_end(grant)
        return found

    async def _is_over(self, of: m.UnderGrant) -> bool:
        return await self._control.is_over(self._admitted(of.grant))

    async def _refused(self, of: m.Feature) -> m.Nothing:
        await self._control.refused(self._admitted(of.grant), self._tally.word(of.feature))
        return m.Nothing()

    def _beat(self, beat: m.Beat) -> None:
        self.beaten, self._lag = self._rooms.clock.monotonic(), max(0.0, beat.lag_s)
        for word, times in self._tally.counted(beat, self.beaten):
            for _ in range(times):
                self._rooms.meter.count("connections_refused", reason=word)

    # ---- the gate ----------------------------------------------------------------------------------------------------
    async def _stdin_of(self, of: m.Line) -> StdinMode:
        return await self._control.stdin_of(self._admitted(of.grant), of.line, pty=of.pty)

    async def _runs_unseen(self, of: m.Proposed) -> bool:
        return await self._control.runs_unseen(self._admitted(of.grant), of.command)

    async def _propose(self, of: m.Proposed) -> m.Decided:
        admission = self._admitted(of.grant)
        proposal = await self._control.propose(admission, of.command)
        if proposal.ticket is None:
            self._wait(proposal.action, admission)
            return m.Decided(action=proposal.action, ticket=None)
        return m.Decided(action=proposal.action, ticket=self._hand(proposal.ticket))

    def _wait(self, action: Action, admission: Admission) -> None:
        if action.state not in FINISHED:
            self._waiting[action.id] = admission

    def _waits(self, of: m.OfAction | m.Followed) -> Admission:
        """The admission under which an action was proposed. Raises Refusal: another's, or none."""
        admission = self._admitted(of.grant)
        if of.action not in self._waiting and not any(
            isinstance(held.ticket, Ticket) and held.ticket.action.id == of.action for held in self._held.values()
        ):
            raise not_found("action")
        return admission

    async def _follow(self, of: m.Followed) -> Action:
        admission, last = self._waits(of), None
        if self._followed >= FOLLOWED_AT_ONCE:
            raise exhausted("too_many_pending", "too many actions wait already", "try again later")
        self._followed += 1
        try:
            async with aclosing(self._control.until_decided(admission, of.action)) as states:  # type: ignore[type-var]
                async for action in states:
                    last = action
                    if action.state is not of.unless:
                        break
        finally:
            self._followed -= 1
        if last is None:
            raise Fault("the action cannot be followed")
        if last.state in FINISHED:
            self._waiting.pop(of.action, None)
        return last

    async def _start(self, of: m.OfAction) -> m.Handed:
        ticket = await self._control.start(self._waits(of), of.action)
        self._waiting.pop(of.action, None)
        return self._hand(ticket)

    async def _take_back(self, of: m.OfAction) -> m.Nothing:
        try:
            admission = self._waits(of)
        except Refusal:
            return m.Nothing()  # over already
        await self._control.take_back(admission, of.action)
        self._waiting.pop(of.action, None)
        return m.Nothing()

    def _hand(self, ticket: Ticket) -> m.Handed:
        self._hold(ticket.session.id, ticket)
        return m.Handed(
            action=ticket.action, grant=ticket.grant, target=ticket.target, session=ticket.session, meta=ticket.meta,
            watchers=ticket.watchers, seconds_left=self._left_of(ticket),
        )  # fmt: skip

    def _left_of(self, ticket: Ticket | ShellTicket) -> float:
        return ticket.seconds_left - (self._rooms.clock.monotonic() - ticket.instant.mono)

    def _hold(self, session: SessionId, ticket: Ticket | ShellTicket) -> None:
        self._held[session] = Held(ticket=ticket, began=self._rooms.clock.monotonic())
        if len(self._held) > MAX_TICKETS:
            raise BusError("more tickets than a worker can run")

    async def _abandon(self, of: m.OfSession) -> m.Nothing:
        ticket = self._ends(of.session, Ticket)
        await to_the_end(self._control.abandon(ticket))
        return m.Nothing()

    async def _unattended(self, of: m.UnderGrant) -> tuple[CommandClass, ...]:
        return await self._control.unattended(self._admitted(of.grant))

    async def _open_shell(self, of: m.UnderGrant) -> m.HandedShell:
        admission = self._admitted(of.grant)
        ticket = await self._control.open_shell(admission)
        self._hold(ticket.session.id, ticket)
        return m.HandedShell(
            session=ticket.session, meta=ticket.meta, grant=ticket.grant, target_name=ticket.target_name,
            tier=ticket.tier, seconds_left=self._left_of(ticket),
            rules=tuple(sorted(self._control.rules(admission).programs.items())),
        )  # fmt: skip

    # ---- a session ---------------------------------------------------------------------------------------------------
    def _mine(self, session: SessionId) -> Held:
        held = self._held.get(session)
        if held is None:
            raise BusError("a session that is not this worker's")
        return held

    def _ends(self, session: SessionId, kind: type[T]) -> T:
        """Takes a ticket back: it ends once."""
        held = self._mine(session)
        if not isinstance(held.ticket, kind):
            raise BusError("another kind of ticket")
        if held.far is not None and not held.left:
            raise BusError("a session that still runs")
        del self._held[session]
        return held.ticket

    async def _enter(self, of: m.Entering) -> Standing:
        held = self._mine(of.session)
        if held.far is not None or held.left:
            raise BusError("a session that runs already")
        if of.within is not None and self._mine(of.within).ticket.session.grant_id != held.ticket.session.grant_id:
            raise BusError("within a session of another grant")
        watchers = held.ticket.watchers if isinstance(held.ticket, Ticket) else frozenset()
        running = self._control.running(held.ticket.session, watchers=watchers, within=of.within)
        held.far = far = await FarSession.enter(running, self.peer, kill=self.end, lag_s=self.lag_s)
        await self._unless_left(held, far)
        return far.live.oversight.standing()

    @staticmethod
    async def _unless_left(held: Held, far: FarSession) -> None:
        """Its worker may have given it up while it was being let in."""
        if held.left:
            await far.leave()

    def _opened(self, of: m.OfSession) -> None:
        if (held := self._mine(of.session)).far is not None:
            held.far.opened()

    def _left(self, of: m.OfSession) -> None:
        held = self._held.get(of.session)
        if held is not None and not held.left:
            held.left = True
            if held.far is not None:
                held.far.leave_soon()

    async def _certificate(self, of: m.Certificate) -> m.Blob:
        """Signed for the ticket's own plan: nothing that the worker says counts but its key and its place."""
        held = self._mine(of.session)
        ticket = held.ticket
        if not isinstance(ticket, Ticket) or held.far is None or held.left or held.certificates >= CERTIFICATES:
            raise BusError("no certificate for this session")
        if held.far.live.reason:
            raise SignerFault("the session was cut")
        source = ticket.target.source_address or of.source_address
        if source == of.source_address and not is_address(source):
            raise BusError("no address to come from")
        held.certificates += 1
        serial = int.from_bytes(self._rooms.entropy.token(8), "big") or 1
        now = replace(ticket, seconds_left=self._left_of(ticket))
        plan = plan_of(now, serial=serial, announce=_never, files=of.files)
        await self._control.announce(ticket, serial)
        spec = plan.certificate(source_address=source, now=self._rooms.clock.now())
        return m.Blob(await self._rooms.signer.sign_ssh(spec, of.public_key, ticket.proof))

    async def _note(self, of: m.Noted) -> m.Nothing:
        held = self._mine(of.session)
        if not held.may_note(of, since=self._since(held)):
            return m.Nothing()  # each is an entry in the log
        await self._control.note(held.ticket.session, leaves=of.leaves, root=of.root)
        return m.Nothing()

    async def _finish(self, of: m.Over) -> Action:
        checked(of)
        seconds = self._since(self._mine(of.session))
        ticket = self._ends(of.session, Ticket)
        return await to_the_end(self._control.finish(ticket, ended(of), commitment(of, ticket.meta), seconds=seconds))

    async def _finish_shell(self, of: m.Over) -> m.Nothing:
        checked(of)
        ticket = self._ends(of.session, ShellTicket)
        await to_the_end(self._control.finish_shell(ticket, ended(of), commitment(of, ticket.meta)))
        return m.Nothing()

    # ---- what it shows -----------------------------------------------------------------------------------------------
    def _far(self, session: SessionId) -> FarSession | None:
        """A session that runs; None for one that has just left."""
        held = self._held.get(session)
        return held.far if held is not None else None

    def _head(self, head: m.Head) -> None:
        if (far := self._far(head.session)) is not None:
            far.head(head)

    def _recorded(self, event: m.Recorded) -> None:
        if (far := self._far(event.session)) is not None:
            far.recorded(event)

    def _overtaken(self, of: m.OfSession) -> None:
        if (far := self._far(of.session)) is not None:
            far.overtaken()


async def _never(serial: int) -> None:
    """A plan that only says what to sign."""
