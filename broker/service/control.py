"""What the half of a session that moves bytes asks of the half that decides, wherever the two run.

In one process the answers are calls (`direct.py`); a data worker asks over its bus. Whoever implements this holds the
store, the audit log, the policies and the signer; whoever calls it holds none of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from broker.core.action import Action, StdinMode
from broker.core.ids import ActionId, SessionId
from broker.service.closing import Ended
from broker.service.gateway import Admission, Shown
from broker.service.live import LiveSession
from broker.service.ports import Session
from broker.service.propose import CommandInput, Proposal
from broker.service.shell import ShellTicket
from broker.service.start import Ticket
from policy.classes import CommandClass
from policy.ruleset import Ruleset
from recorder.track import Commitment


class Admissions(Protocol):
    """What the SSH door asks of a connection."""

    async def admit(self, shown: Shown) -> Admission:
        """As GatewayService.admit."""
        ...

    async def is_over(self, admission: Admission) -> bool:
        """As GatewayService.is_over."""
        ...

    async def refused(self, admission: Admission, feature: str) -> None:
        """As GatewayService.refused."""
        ...


class Gate(Protocol):
    """Commands on their way to a ticket, at the SSH door. Raises Refusal and Fault as the services do."""

    async def stdin_of(self, admission: Admission, line: bytes, *, pty: bool) -> StdinMode:
        """As ProposeService.stdin_of."""
        ...

    async def runs_unseen(self, admission: Admission, command: CommandInput) -> bool:
        """Whether it would run right now without a person who decides or watches. Writes nothing."""
        ...

    async def propose(self, admission: Admission, command: CommandInput) -> Proposal:
        """As ProposeService.propose. Cancelled meanwhile, no ticket is lost: it is given back first."""
        ...

    def until_decided(self, admission: Admission, action: ActionId) -> AsyncIterator[Action]:
        """As StartingService.until_decided."""
        ...

    async def start(self, admission: Admission, action: ActionId) -> Ticket:
        """As StartingService.start. Cancelled meanwhile, no ticket is lost."""
        ...

    async def take_back(self, admission: Admission, action: ActionId) -> None:
        """As WaitingService.cancel."""
        ...

    async def abandon(self, ticket: Ticket) -> None:
        """A ticket that nobody runs: its caller left in that very moment."""
        ...

    async def open_shell(self, admission: Admission) -> ShellTicket:
        """As ShellService.open."""
        ...

    async def unattended(self, admission: Admission) -> tuple[CommandClass, ...]:
        """As ShellService.unattended."""
        ...

    def rules(self, admission: Admission) -> Ruleset:
        """The rules last seen, for hints and completion: never for a decision."""
        ...


class Ledger(Protocol):
    """A session from the moment before its recording opens to its end in the store."""

    def running(
        self, session: Session, *, watchers: frozenset[str] = frozenset(), within: SessionId | None = None
    ) -> AbstractAsyncContextManager[LiveSession]:
        """The session among those that run, while the context is open: it can be cut and watched.

        Args:
            session: of a ticket.
            watchers: roles of whom one must watch for its input to flow.
            within: a session, such as a shell, whose watchers watch this one too.

        Raises:
            Refusal: too many run, or the tenant is frozen.
        """
        ...

    async def announce(self, ticket: Ticket, serial: int) -> None:
        """The egress certificate's row and audit entry, durable before the signer is asked (I-31)."""
        ...

    async def note(self, session: Session, *, leaves: int, root: bytes) -> None:
        """What the recording of a long session has committed to, durable in the log."""
        ...

    async def finish(self, ticket: Ticket, ended: Ended, commitment: Commitment | None, *, seconds: float) -> Action:
        """The finished action, durable; `seconds` is how long it ran, for the meter. Raises StoreFault."""
        ...

    async def finish_shell(self, ticket: ShellTicket, ended: Ended, commitment: Commitment | None) -> None:
        """The end of a shell, durable. Raises StoreFault."""
        ...


class Control(Admissions, Gate, Ledger, Protocol):
    """All of it."""
