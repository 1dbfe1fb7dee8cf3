"""The gauges count what stands in the store, of all tenants together, and hurt nobody where they fail (I-45)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from broker.core.roles import Role
from broker.jobs import gauges as gauges_module
from broker.jobs.gauges import Gauges
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.world import READ, WRITE, House, until


class Last:
    """ports.Meter: the last value of each gauge."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def count(self, name: str, **labels: str) -> None:
        raise AssertionError(name)

    def observe(self, name: str, value: float, **labels: str) -> None:
        raise AssertionError(name)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        assert not labels
        self.values[name] = value


async def test_they_count_what_there_is(house: House) -> None:
    """Grants in use or waiting for it, commands that wait for a person, sessions."""
    meter = Last()
    gauges = Gauges(store=house.store, live=house.world.live, meter=meter)
    await gauges.step()
    assert meter.values == dict.fromkeys(
        (
            "grants_active",
            "grants_stuck",
            "approvals_pending",
            "break_glass_unreviewed",
            "sessions_active",
            "sessions_watched",
            "sessions_held",
            "recorder_lag_seconds",
        ),
        0.0,
    )
    agent = await house.add("builder", Role.AGENT)
    grant = await house.granted(agent, ttl=timedelta(seconds=60))
    await house.granted(agent)
    await house.run(await house.started(agent, grant, READ))
    await house.propose(agent, grant, WRITE)
    await gauges.step()
    assert (meter.values["grants_active"], meter.values["approvals_pending"]) == (2, 1)
    house.clock.forward(61)
    await house.cases.ending.sweep(TENANT)
    await gauges.step()
    assert (meter.values["grants_active"], meter.values["approvals_pending"]) == (1, 0)


async def test_a_store_that_fails_is_a_log_line(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on and counts again when it can."""
    monkeypatch.setattr(gauges_module, "EVERY", 0.01)
    meter = Last()
    house.store.down(down=True)
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(Gauges(store=house.store, live=house.world.live, meter=meter).run())
            await until(lambda: len(logs) > 1)
            assert not meter.values
            house.store.down(down=False)
            await until(lambda: "sessions_active" in meter.values)
            loop.cancel()
    assert {entry["event"] for entry in logs} == {"gauges.failed"}
