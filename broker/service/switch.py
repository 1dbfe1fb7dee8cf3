"""The kill switch's own lane: pulled from a thread of its own, whatever the loop, the store and the queues do (I-61).

Needs no store and no turn of the loop to stop issuing; needs the loop for the cut alone. A loop that does not even
begin to cut is given up: the process ends, its connections end with it, and the next start finds the freeze.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late

import structlog

from broker.core.clock import Clock
from broker.core.errors import StoreFault, not_found
from broker.core.identity import Caller
from broker.core.ids import TenantId
from broker.core.request import checked_text
from broker.service.freeze import MAX_REASON_BYTES, FreezeService, Pulled
from broker.service.live import Cut
from broker.service.ports import FreezeOrder
from broker.service.roster import Roster

log = structlog.get_logger()
BEGUN_WITHIN = 1.5
"""Seconds that the loop has to begin with the cut: after that the process is worth nothing any more."""
CUT_WITHIN = 3.0
"""Seconds for the whole of it, once begun; those who hear the answer know by then."""
RECORDED_WITHIN = 0.2


class KillSwitch:
    """Pulled by broker.rpc's lane and by the socket on the host. Every method from any thread.

    Args:
        give_up: ends the process; called once the freeze is durable and the loop has not begun to cut.
    """

    def __init__(
        self, *, freeze: FreezeService, roster: Roster, clock: Clock, loop: asyncio.AbstractEventLoop,
        give_up: Callable[[], None],
    ) -> None:  # fmt: skip
        self._freeze, self._roster, self._clock, self._loop = freeze, roster, clock, loop
        self._give_up = give_up

    def by_person(self, tenant: str, identity: str, key: bytes, reason: str) -> Pulled:
        """Freezes the caller's tenant.

        Raises:
            Refusal: `may_not_freeze`; a reason that no log could keep.
            StoreFault: as FreezeService.freeze.
        """
        caller = self._roster.caller(tenant, identity, key)
        checked_text("reason", reason, MAX_REASON_BYTES)
        return self._pull(_order(caller, reason, self._clock))

    def by_host(self, tenant: str | None, uid: int, reason: str) -> Pulled:
        """Freezes one tenant, or all of them where None: for whoever the socket on the host lets in.

        Raises:
            Refusal: no such tenant; a reason that no log could keep.
            StoreFault: as FreezeService.freeze.
        """
        checked_text("reason", reason, MAX_REASON_BYTES)
        if tenant is not None and tenant not in self._roster.tenants():
            raise not_found("tenant")
        whose = None if tenant is None else TenantId(tenant)
        order = FreezeOrder(tenant=whose, by=f"host:{uid}", name="", reason=reason, at=self._clock.now())
        return self._pull(order)

    def _pull(self, order: FreezeOrder) -> Pulled:
        self._freeze.close(order)
        log.warning("freeze.pulled", tenant=order.tenant or "all", by=order.by)
        begun = threading.Event()
        cutting = self._begin(order, begun)
        kept = self._freeze.keep(order)
        if not begun.wait(BEGUN_WITHIN):
            log.critical("freeze.loop_stands_still", tenant=order.tenant or "all", kept=kept)
            self._give_up()
            raise StoreFault("the broker stands still: it is ended")
        cut = _result(cutting)
        recorded = self._recorded(order)
        if not kept and not recorded:
            raise StoreFault("the freeze could not be written")
        return Pulled(sessions=cut.sessions, late=len(cut.late), recorded=recorded)

    def _begin(self, order: FreezeOrder, begun: threading.Event) -> Future[Cut]:
        async def cut() -> Cut:
            begun.set()
            return await self._freeze.cut(order)

        return asyncio.run_coroutine_threadsafe(cut(), self._loop)

    def _recorded(self, order: FreezeOrder) -> bool:
        waited = threading.Event()
        return self._freeze.is_recorded(order) or (waited.wait(RECORDED_WITHIN) or self._freeze.is_recorded(order))


def _order(caller: Caller, reason: str, clock: Clock) -> FreezeOrder:
    return FreezeOrder(tenant=caller.tenant, by=caller.identity, name=caller.name, reason=reason, at=clock.now())


def _result(cutting: Future[Cut]) -> Cut:
    try:
        return cutting.result(CUT_WITHIN)
    except Late:
        raise StoreFault("the sessions are being cut, and it takes longer than it may") from None
