"""Makes the filters of recordings that have ended, one after the other, off the loop. What it misses is merely slower.

A broker that stops, or a filter that cannot be written, leaves a recording that every search reads whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from broker.core.errors import Fault
from broker.core.ids import SessionId, TenantId
from recorder.errors import RecordingInvalid

log = structlog.get_logger()
EVERY = 2.0
"""Seconds."""


class Ended(Protocol):
    """broker.service.closing."""

    def recorded(self) -> Sequence[tuple[TenantId, SessionId]]:
        """Sessions whose recordings were sealed since the last call."""
        ...


class Search(Protocol):
    """broker.service.search."""

    async def index(self, tenant: TenantId, session_id: SessionId) -> bool: ...


class Indexing:
    """The loop."""

    def __init__(self, *, closing: Ended, search: Search) -> None:
        self._closing, self._search = closing, search

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.step()

    async def step(self) -> None:
        """Everything that has ended since the last step."""
        for tenant, session in self._closing.recorded():
            try:
                await self._search.index(tenant, session)
            except (Fault, OSError, RecordingInvalid) as error:
                log.warning("indexing.failed", session_id=session, cause=repr(error))
