"""How much of a sealed credential's hour is over, whatever somebody does to the clock on the wall (I-05, I-62).

From its opening, or the first question of this process about it, time passes as the monotonic clock says; from before
a start, as the rows say that came after the newest opening. An older row says nothing: a clock that ran ahead once, and
was set right, takes no credential away.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from broker.core.ids import TenantId

Spent: TypeAlias = tuple[TenantId, str]
"""A tenant and its sealed credential."""


class Hours:
    """The hours that were begun. Not safe for threads: the authority holds a lock.

    Args:
        monotonic: seconds on a clock that nobody sets.
        newest: the latest moment that a row says since a credential was opened last; None where none was.
    """

    __slots__ = ("_begun", "_monotonic", "_newest")

    def __init__(self, monotonic: Callable[[], float], newest: Callable[[], datetime | None]) -> None:
        self._monotonic, self._newest = monotonic, newest
        self._begun: dict[Spent, tuple[datetime, float]] = {}

    def latest(self, spent: Spent, now: datetime) -> datetime:
        """`now`, but never before a moment that has certainly come for a credential that was opened."""
        wall, mono = self._begun.setdefault(spent, (now, self._monotonic()))
        passed = wall + timedelta(seconds=self._monotonic() - mono)
        return max(now, passed, self._newest() or now)
