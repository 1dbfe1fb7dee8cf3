"""Wakes what waits for a change: pending lists, watched requests, actions that await a decision. Carries no data.

Waiters read the store.

In one process; several brokers will ring each other through the database behind the same interface.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from broker.core.ids import TenantId

PENDING = "pending"
"""Topic of everything that waits for a person in a tenant; other topics are ids."""


class Bell:
    """Topics and those who listen. A ring before `wait` is never lost: a listener starts rung."""

    def __init__(self) -> None:
        self._listeners: defaultdict[tuple[TenantId, str], set[asyncio.Event]] = defaultdict(set)

    def ring(self, tenant: TenantId, *topics: str) -> None:
        """Wakes every listener of the topics. Called after commit."""
        for topic in topics:
            for event in self._listeners.get((tenant, topic), ()):
                event.set()

    def ring_all(self, tenant: TenantId) -> None:
        """Wakes every listener of a tenant: after something that touched much at once, such as the end of a grant."""
        for (owner, _), events in self._listeners.items():
            if owner == tenant:
                for event in events:
                    event.set()

    @contextmanager
    def listen(self, tenant: TenantId, topic: str) -> Iterator[asyncio.Event]:
        """An event that is set now and at every ring: wait, clear, read the store, repeat."""
        event = asyncio.Event()
        event.set()
        key = (tenant, topic)
        self._listeners[key].add(event)
        try:
            yield event
        finally:
            self._listeners[key].discard(event)
            if not self._listeners[key]:
                del self._listeners[key]


async def heard(event: asyncio.Event, seconds: float) -> bool:
    """Waits for a ring, at most `seconds`; clears it. True if it rang."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
