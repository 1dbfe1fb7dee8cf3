"""Doing what is late: all of it, whatever one piece does. What a tenant's damaged rows refuse keeps nobody else's."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from broker.core.errors import Fault


async def every_one(pieces: Iterable[Awaitable[object]]) -> None:
    """One after another, to the last. Raises the first Fault of them afterwards."""
    first: Fault | None = None
    for piece in pieces:
        try:
            await piece
        except Fault as fault:
            first = first or fault
    if first is not None:
        raise first
