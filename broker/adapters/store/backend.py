"""What the store needs from a database: units of work over a plain synchronous connection. Never a row of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection

from broker.core.ids import TenantId

T = TypeVar("T")

MAX_WAITING: Final = 1_024
"""Units that may wait for the database; the next one is refused at once (I-60)."""


class Backend(Protocol):
    """Runs units. Raises StoreFault for what the database could not do, and what the unit raised as it was."""

    async def write(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        """One transaction, durable when this returns. The unit neither begins, commits nor rolls back."""
        ...

    async def read(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        """One consistent view; a write in it fails."""
        ...

    async def read_aside(self, tenant: TenantId, unit: Callable[[Connection], T]) -> T:
        """As `read`, for what goes through very many rows: others are served meanwhile."""
        ...

    async def scrub(self) -> None:
        """Takes what was deleted out of the files, where the database leaves it there."""
        ...

    async def close(self) -> None:
        """Finishes what was accepted, then refuses. Idempotent."""
        ...
