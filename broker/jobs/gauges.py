"""Counts what stands in the store for the gauges, every few seconds. Observes only; its failure hurts nobody."""

from __future__ import annotations

import asyncio

import structlog

from broker.core.action import ActionState
from broker.core.errors import Fault
from broker.core.grant import LIVE, GrantState
from broker.service.live import LiveSessions
from broker.service.ports import Meter, Store, Tx

log = structlog.get_logger()
EVERY = 5.0
"""Seconds."""
_NAMES = ("grants_active", "grants_stuck", "approvals_pending", "break_glass_unreviewed")


class Gauges:
    """The gauge loop."""

    def __init__(self, *, store: Store, live: LiveSessions, meter: Meter) -> None:
        self._store, self._live, self._meter = store, live, meter

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.step()
            except Fault as fault:
                log.warning("gauges.failed", cause=fault.what)
            await asyncio.sleep(EVERY)

    async def step(self) -> None:
        """One count."""
        sums = [0, 0, 0, 0]
        for tenant in await self._store.tenants():
            counted = await self._store.read_aside(tenant, _count)
            sums = [a + b for a, b in zip(sums, counted, strict=True)]
        for name, value in zip(_NAMES, sums, strict=True):
            self._meter.gauge(name, value)
        self._meter.gauge("sessions_active", self._live.count())
        standings = [live.oversight.standing() for live in self._live.all()]
        self._meter.gauge("sessions_watched", sum(1 for standing in standings if standing.watchers))
        self._meter.gauge("sessions_held", sum(1 for standing in standings if not standing.flows))
        self._meter.gauge("recorder_lag_seconds", self._live.recorder_lag())


def _count(tx: Tx) -> tuple[int, int, int, int]:
    waiting = len(tx.requests.pending()) + len(tx.actions.in_states((ActionState.AWAITING,), grant=None))
    return tx.grants.count(LIVE), tx.grants.count((GrantState.STUCK,)), waiting, len(tx.glasses.owing_review())
