"""The loops: expiry, effects, audit sequencing. Each calls one service; none serves a caller."""

from typing import Protocol


class Job(Protocol):
    """One loop; one that ends ends the broker."""

    async def run(self) -> None:
        """Until cancelled."""
        ...
