"""Tells the audit log that somebody known was refused what their role does not hold. Never fails the refusal itself.

One row for the same caller and method in a minute, with the number of repeats since: a loop of refused calls cannot
bury the log.
"""

from __future__ import annotations

from collections import OrderedDict

import structlog

from broker.core.errors import Fault
from broker.core.events import AuditEvent
from broker.core.identity import Caller
from broker.core.ids import IdentityId
from broker.core.roles import Permission
from broker.service.world import World

log = structlog.get_logger()
QUIET_FOR = 60.0
_KEPT = 4_096


class RefusedService:
    """Writes `permission.refused`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told: OrderedDict[tuple[IdentityId, str], tuple[float, int]] = OrderedDict()
        """(caller, method) -> when it was last written, and how often it was refused since."""

    async def not_permitted(self, caller: Caller, *, permission: Permission, method: str) -> None:
        """A caller's role does not hold what a method asks for (I-42)."""
        self._world.meter.count("permissions_refused", permission=permission)
        now = self._world.clock.monotonic()
        at, repeats = self._told.get((caller.identity, method), (now - QUIET_FOR, 0))
        if now - at < QUIET_FOR:
            self._told[caller.identity, method] = (at, repeats + 1)
            return
        self._told[caller.identity, method] = (now, 0)
        while len(self._told) > _KEPT:
            self._told.popitem(last=False)
        event = AuditEvent(
            tenant=caller.tenant,
            name="permission.refused",
            actor=caller.identity,
            facts={
                "method": method,
                "permission": permission,
                "role": caller.role,
                "repeats": repeats,
            },
        )
        try:
            await self._world.store.run(caller.tenant, lambda tx: tx.audit.append(event, self._world.clock.now()))
        except Fault as fault:
            log.warning("permission.refused_unwritten", identity=caller.identity, method=method, cause=fault.what)
