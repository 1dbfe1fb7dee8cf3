"""A ticket in a worker's hands, and what was done with it so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.bus import messages as m
from broker.bus.codec import BusError
from broker.bus.far import FarSession
from broker.bus.said import can_be_committed
from broker.service.shell import ShellTicket
from broker.service.start import Ticket

NOTES_AT_ONCE: Final = 8
_NOTE_SECONDS: Final = 10.0
"""A recorder commits once a minute."""


@dataclass(slots=True, kw_only=True)
class Held:
    """One of them."""

    ticket: Ticket | ShellTicket
    began: float
    far: FarSession | None = None
    """Once it runs."""
    left: bool = False
    certificates: int = 0
    leaves: int = 0
    """Of its last checkpoint."""
    notes: int = 0

    def may_note(self, of: m.Noted, *, since: float) -> bool:
        """Whether a checkpoint goes into the log; not where they come without end. Raises BusError: it takes one back.

        `since` is how long the ticket has been held, in seconds.
        """
        if self.leaves > of.leaves or not can_be_committed(of.leaves, of.root):
            raise BusError("no checkpoint")
        self.leaves, self.notes = of.leaves, self.notes + 1
        return self.notes <= NOTES_AT_ONCE + since / _NOTE_SECONDS
