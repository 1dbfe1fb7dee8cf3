"""How late ends are cut with many of them waiting: the heap and the sessions of a broker, without store and doors."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from bench.figures import quantile
from broker.core.clock import Instant
from broker.core.ids import GrantId, TenantId, render
from broker.jobs.expiry import AT_ONCE, LONGEST_SLEEP
from broker.service.ends import Ends
from broker.service.live import LiveRegistry

GRANTS: Final = 100_000
SPREAD_S: Final = 10.0
"""Over which the ends are spread."""
_TENANT: Final = TenantId("main")
_LEAD_S: Final = 1.0


def measure(*, rounds: int, grants: int) -> dict[str, list[float]]:
    """Milliseconds late: of ends over ten seconds, and of the last of as many in the same millisecond."""
    samples: dict[str, list[float]] = {"heap late p50 ms": [], "heap late p99 ms": [], "heap late max ms": []}
    samples["heap burst ms"] = []
    for _ in range(rounds):
        spread = asyncio.run(_lateness(grants, SPREAD_S))
        for name, at in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            samples[f"heap late {name} ms"].append(quantile(spread, at))
        samples["heap burst ms"].append(max(asyncio.run(_lateness(grants, 0.0))))
    return samples


async def _lateness(grants: int, spread_s: float) -> list[float]:
    ends, live, started = Ends(), LiveRegistry(), _now()
    chance = random.Random(grants)
    begins = started.wall + timedelta(seconds=_LEAD_S + grants / 100_000)
    at = [begins + timedelta(seconds=chance.uniform(0, spread_s)) for _ in range(grants)]
    names = [GrantId(render("grant", number.to_bytes(16, "big"))) for number in range(grants)]
    ends.arm(((_TENANT, name, when) for name, when in zip(names, at, strict=True)), started)
    late: list[float] = []
    done = asyncio.Event()

    def look() -> None:
        due = ends.due(looked := _now(), AT_ONCE)
        live.strike(_TENANT, [lapse.grant for lapse in due if lapse.grant], "expired")
        took = time.monotonic() - looked.mono
        late.extend((lapse.late_s + took) * 1e3 for lapse in due)
        if len(late) == grants:
            done.set()

    async with asyncio.TaskGroup() as group:
        watch = group.create_task(ends.watch(look, _now, LONGEST_SLEEP))
        await done.wait()
        watch.cancel()
    return late


def _now() -> Instant:
    return Instant(wall=datetime.now(UTC), mono=time.monotonic())
