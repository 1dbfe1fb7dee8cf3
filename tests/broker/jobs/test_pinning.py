"""The signer's journal is looked at from the start, and a look that fails ends nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from broker.core.errors import Fault
from broker.jobs import pinning
from broker.jobs.pinning import Pinning

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class StillClock:
    """Time that does not move."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@pytest.mark.parametrize("fault", [Fault("the signer cannot be reached"), OSError(28, "No space left on device")])
async def test_a_look_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """Once at the start, then after each pause, whatever came of it."""
    monkeypatch.setattr(pinning, "EVERY", 0.0)
    seen: list[datetime] = []
    third = asyncio.Event()

    async def look(now: datetime) -> None:
        seen.append(now)
        if len(seen) == 3:
            third.set()
        raise fault

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(Pinning(look=look, clock=StillClock()).run())
        await third.wait()
        running.cancel()
    assert seen[:3] == [NOW] * 3
