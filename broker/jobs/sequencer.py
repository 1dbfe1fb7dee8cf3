"""The loop that keeps the audit log growing and signed. Decides nothing about entries; a failure of its shows as lag.

Whoever grants asks AuditHealth, which measures the lag itself: also a loop that hangs or died refuses grants.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from broker.core.clock import Clock
from broker.core.errors import Fault
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.service.ports import AuditKeeper, Meter

TICK: Final = timedelta(milliseconds=200)
SIGN_EVERY: Final = timedelta(seconds=1)
"""Also how often every log is looked into: entries of other brokers, and of units that committed late."""
BEAT_EVERY: Final = timedelta(minutes=1)
"""How often the logs are asked whether they have been silent for an hour."""

_log = structlog.get_logger()


class Sequencer:
    """Run `run` under a parent that ends it; then `drain` once."""

    def __init__(self, *, keeper: AuditKeeper, clock: Clock, meter: Meter) -> None:
        self._keeper, self._clock, self._meter = keeper, clock, meter
        self._next_sign = self._next_beat = clock.monotonic()

    async def run(self) -> None:
        """Until cancelled. Faults are counted and tried again; anything else is a bug, and ends the process."""
        while True:
            await self.step()
            await asyncio.sleep(TICK.total_seconds())

    async def step(self) -> None:
        """One tick: places for what waits; each second heads and a look into every log; heartbeats when due."""
        mono = self._clock.monotonic()
        sign = mono >= self._next_sign
        await self._sequence_all(sweep=sign)
        if sign:
            self._next_sign = mono + SIGN_EVERY.total_seconds()
            await self._sign_all()
        if mono >= self._next_beat:
            self._next_beat = mono + BEAT_EVERY.total_seconds()
            await self._beat()
        self._keeper.report()

    async def drain(self) -> None:
        """At the end: places and heads for everything, so that nothing waits while nobody runs."""
        await self._sequence_all(sweep=True)
        await self._sign_all()
        await self._sequence_all(sweep=True)  # the heads themselves became entries of `_system`
        await self._sign_all()
        self._keeper.report()

    async def _sequence_all(self, *, sweep: bool) -> None:
        try:
            waiting = await self._keeper.waiting(sweep=sweep)
        except Fault as fault:
            self._failed("sweep", SYSTEM_TENANT, fault)
            return
        for tenant in waiting:
            await self._sequence(tenant)

    async def _sequence(self, tenant: TenantId) -> None:
        """Batch after batch until nothing waits; other logs get their turn at the next tick at the latest."""
        try:
            while await self._keeper.sequence(tenant):
                if tenant not in await self._keeper.waiting(sweep=False):
                    return
        except Fault as fault:
            self._failed("sequence", tenant, fault)

    async def _sign_all(self) -> None:
        """`_system` last: it takes in the heads of the others."""
        for tenant in sorted(self._keeper.unsigned(), key=lambda log: log == SYSTEM_TENANT):
            try:
                await self._keeper.sign_head(tenant, self._clock.now())
            except Fault as fault:
                self._failed("sign", tenant, fault)

    async def _beat(self) -> None:
        try:
            await self._keeper.beat(self._clock.now())
        except Fault as fault:
            self._failed("beat", SYSTEM_TENANT, fault)

    def _failed(self, step: str, tenant: TenantId, fault: Fault) -> None:
        self._meter.count("audit_failures", step=step)
        _log.error("audit.step_failed", step=step, tenant=tenant, why=fault.what, exc_info=fault)
