"""Who watches a live session, and whether its input flows. In memory; asks no store and no clock but the loop's.

Input flows unless somebody paused the session, nobody attends one that must be watched, or it was cut. A watcher
attends only while their stream lives; what is lost, late or unknown counts as absent (threats.md F14).
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
    role: str
    attends: bool
    """Whether input may flow because of them, in their role: another than who asked, and more than a looker."""
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
        self._roles: frozenset[str] = frozenset()
        self._above: Oversight | None = None
        self._below: set[Oversight] = set()
        self._watchers: tuple[Watcher, ...] = ()
        self._paused = self._stopped = False
        self._listeners: set[asyncio.Event] = set()
        self._flowing = asyncio.Event()
        self._settle()

    def demand(self, roles: frozenset[str]) -> None:
        """From now on input flows only while somebody in one of these roles attends; none of them: always."""
        self._roles = roles
        self._settle()

    def lets(self, watcher: Watcher) -> bool:
        """Whether input may flow because of this watcher."""
        return watcher.attends and (not self._roles or watcher.role in self._roles)

    @contextmanager
    def within(self, above: Oversight) -> Iterator[None]:
        """Whoever watches or pauses `above`, a shell, does so with this, a line of it, while the context is open."""
        self._above = above
        above._below.add(self)
        self._settle()
        try:
            yield
        finally:
            self._above = None
            above._below.discard(self)
            self._settle()

    def standing(self) -> Standing:
        """As it is now."""
        watchers = self._everybody()
        return Standing(
            must_be_watched=bool(self._roles),
            paused=self._is_paused(),
            watchers=tuple(sorted({watcher.name for watcher in watchers})),
            attended=any(map(self.lets, watchers)),
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

    @property
    def streams(self) -> int:
        """How many watch, the same person as often as they do."""
        return len(self._watchers)

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

    def stop(self) -> None:
        """From now on nothing flows, whoever watches or resumes, here and below: the session was cut."""
        self._stopped = True
        self._settle()

    async def until_flows(self) -> None:
        """Returns while input flows, else once it does: never again once it was stopped, so the cut ends who waits."""
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

    def _everybody(self) -> tuple[Watcher, ...]:
        above = self._above
        return self._watchers + (above._everybody() if above else ())  # noqa: SLF001  another of the same kind

    def _is_paused(self) -> bool:
        above = self._above
        return self._paused or (above is not None and above._is_paused())  # noqa: SLF001  another of the same kind

    def _is_stopped(self) -> bool:
        above = self._above
        return self._stopped or (above is not None and above._is_stopped())  # noqa: SLF001  another of the same kind

    def _leave(self, watcher: Watcher) -> None:
        self._watchers = tuple(each for each in self._watchers if each is not watcher)
        self._settle()

    def _settle(self) -> None:
        if self.standing().flows and not self._is_stopped():
            self._flowing.set()
        else:
            self._flowing.clear()
        for event in self._listeners:
            event.set()
        for below in self._below:
            below._settle()  # noqa: SLF001  another of the same kind
