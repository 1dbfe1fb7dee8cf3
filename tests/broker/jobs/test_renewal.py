"""The renewal loop: a failure is logged and tried again, and the old certificate goes on."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from structlog.testing import capture_logs

from broker.core.errors import SignerFault
from broker.jobs import renewal
from broker.jobs.renewal import Renewal
from tests.broker.adapters.store.fixtures import NOW
from tests.broker.service.by_hand import HandClock
from tests.broker.service.world import until


async def test_it_asks_with_the_clock_and_survives_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signer is down for a while: it is asked again and again, until it works."""
    monkeypatch.setattr(renewal, "EVERY", 0.005)
    asked: list[datetime] = []

    async def renew(now: datetime) -> None:
        asked.append(now)
        if len(asked) < 3:
            raise SignerFault("the signer cannot be reached")

    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(Renewal(renew_if_due=renew, clock=HandClock()).run())
            await until(lambda: len(asked) >= 4)
            loop.cancel()
    assert set(asked) == {NOW}
    assert [entry["event"] for entry in logs] == ["certificate.not_renewed"] * 2


async def test_a_bug_is_not_swallowed() -> None:
    """Anything but a fault ends the process, where it is seen."""

    async def renew(_: datetime) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Renewal(renew_if_due=renew, clock=HandClock()).step()
