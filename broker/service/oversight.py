"""Who watches a live session, and whether its input flows. In memory; asks no store and no clock but the loop's.

Input flows unless somebody paused the session, or nobody attends one that must be watched. A watcher attends only while
their stream lives; what is lost, late or unknown counts as absent (threats.md F14).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from broker.core.ids import IdentityId


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """One person who watches, once a stream."""

    identity: IdentityId
    name: str
    key: bytes
    """Of the certificate behind the stream."""
    attends: bool
    """Whether input may flow because of them: another than who asked, in a role that may."""
    dismissed: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    """Set when they may no longer watch; they count as absent from that moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a session stands."""

    must_be_watched: bool
    paused: bool
    watchers: tuple[str, ...]
    """Names, without repeats, by name."""
    attended: bool

    @property
    def flows(self) -> bool:
        """Whether input goes through."""
        return not self.paused and (self.attended or not self.must_be_watched)


class Oversight:
    """The watchers of one session. Used on one loop."""

    def __init__(self) -> None:
        self.roles: frozenset[str] = frozenset()
        """Roles of whom one must attend; empty: nobody has to watch."""
        self._watchers: tuple[Watcher, ...] = ()
        self._paused = False
        self._listeners: set[asyncio.Event] = set()
        self._flowing = asyncio.Event()
        self._settle()

    def demand(self, roles: frozenset[str]) -> None:
        """From now on input flows only while somebody in one of these roles attends."""
        self.roles = roles
        self._settle()

    def standing(self) -> Standing:
        """As it is now."""
        return Standing(
            must_be_watched=bool(self.roles),
            paused=self._paused,
            watchers=tuple(sorted({watcher.name for watcher in self._watchers})),
            attended=any(watcher.attends for watcher in self._watchers),
        )

    @property
    def flows(self) -> bool:
        """Whether input goes through now."""
        return self._flowing.is_set()

    @contextmanager
    def watched_by(self, watcher: Watcher) -> Iterator[None]:
        """One more watcher, while the context is open and they are not dismissed."""
        self._watchers = (*self._watchers, watcher)
        self._settle()
        try:
            yield
        finally:
            self._leave(watcher)

    def dismiss(self, key: bytes) -> None:
        """Everybody with this key may no longer watch."""
        for watcher in [each for each in self._watchers if each.key == key]:
            watcher.dismissed.set()
            self._leave(watcher)

    def pause(self) -> None:
        """Holds the input until somebody resumes it; also after who paused it has left."""
        self._paused = True
        self._settle()

    def resume(self) -> None:
        """Ends a pause."""
        self._paused = False
        self._settle()

    async def until_flows(self) -> None:
        """Returns while input flows, else once it does."""
        while not self._flowing.is_set():
            await self._flowing.wait()

    @contextmanager
    def heeded(self) -> Iterator[asyncio.Event]:
        """An event that is set now and at every change: wait, clear, look at `standing`, repeat."""
        event = asyncio.Event()
        event.set()
        self._listeners.add(event)
        try:
            yield event
        finally:
            self._listeners.discard(event)

    def _leave(self, watcher: Watcher) -> None:
        self._watchers = tuple(each for each in self._watchers if each is not watcher)
        self._settle()

    def _settle(self) -> None:
        if self.standing().flows:
            self._flowing.set()
        else:
            self._flowing.clear()
        for event in self._listeners:
            event.set()
