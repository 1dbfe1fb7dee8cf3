"""Keeping the furthest moment (I-05)."""

from __future__ import annotations

from datetime import datetime, timedelta

from structlog.testing import capture_logs

from broker.core.errors import Fault
from broker.jobs.timekeeping import Timekeeping
from tests.broker.service.world import House


async def test_a_clock_that_was_set_back_is_not_kept(house: House) -> None:
    """The furthest moment is where the clock would be had nobody touched it."""
    kept: list[datetime] = []
    job = Timekeeping(leases=house.world.leases, clock=house.clock, keep=kept.append)
    begun = house.clock.now()
    await job.step()
    house.clock.forward(10)
    house.clock.wall -= timedelta(hours=1)
    await job.step()
    assert kept == [begun, begun + timedelta(seconds=10)]


async def test_a_disk_that_fails_stops_nothing(house: House) -> None:
    """It is said, and tried again."""

    def fail(_: datetime) -> None:
        raise Fault("no room")

    with capture_logs() as logs:
        await Timekeeping(leases=house.world.leases, clock=house.clock, keep=fail).step()
    assert [entry["event"] for entry in logs] == ["clock.not_kept"]
