"""What this process knows of the log's health: which logs are broken, and since when something waits for its place.

Lives in memory only, so that the question costs nothing and needs no store. `noted` is called from the store's writer
thread; all else from the loop. A mark lost between the two is found by the keeper's next sweep.
"""

from __future__ import annotations

from typing import Final

import structlog

from broker.core.clock import Clock
from broker.core.errors import Blame, Refusal
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.service.ports import Meter

MAX_LAG_S: Final = 30.0  # seconds an entry may wait for its place before nothing more is granted
MAX_UNSIGNED_S: Final = 60.0  # seconds a row may wait for a signed head outside the database (I-32)

_log = structlog.get_logger()


class Marks:
    """Since when each log has had something to do."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[TenantId, float] = {}
        self._last: dict[TenantId, float] = {}

    def note(self, tenant: TenantId) -> None:
        """Something is to do from now on, if it was not already."""
        now = self._clock.monotonic()
        self._last[tenant] = now
        self._since.setdefault(tenant, now)

    def begin(self) -> float:
        """When an attempt starts: hand it to `settle`. The marks stay, so that a store that hangs is seen as lag."""
        return self._clock.monotonic()

    def settle(self, tenant: TenantId, began: float) -> None:
        """All that was to do at `began` is done; what was noted since then is not."""
        if self._last.get(tenant, began) > began:
            self._since[tenant] = began
        else:
            self._since.pop(tenant, None)

    def forget(self, tenant: TenantId) -> None:
        """Nothing will ever be done about this one."""
        self._since.pop(tenant, None)

    def names(self) -> list[TenantId]:
        """Logs with something to do."""
        return sorted(self._since)

    def oldest_s(self) -> float:
        """Seconds that the oldest has waited."""
        times = list(self._since.values())
        return max(0.0, self._clock.monotonic() - min(times)) if times else 0.0


class LogHealth:
    """`AuditHealth`, and the list of what waits."""

    def __init__(self, *, clock: Clock, meter: Meter) -> None:
        self._meter = meter
        self._broken: dict[TenantId, str] = {}
        self.waiting = Marks(clock)
        """Entries without a place."""
        self.unsigned = Marks(clock)
        """Rows without a signed head."""

    def refuse_if_broken(self, tenant: TenantId) -> None:
        """Refuses on a fork of this log or of `_system`, and while any entry waits too long for its place or head."""
        if self.forked(tenant):
            raise Refusal(
                "audit_log_forked",
                "the audit log does not continue what was signed before: nothing is granted",
                blame=Blame.UNAVAILABLE,
                way_out="after a restore from backup: grantd restore --acknowledge; else find out why first",
            )
        if self.waiting.oldest_s() > MAX_LAG_S or self.unsigned.oldest_s() > MAX_UNSIGNED_S:
            raise Refusal(
                "audit_log_late",
                "the audit log is not being written: nothing is granted until it is",
                blame=Blame.UNAVAILABLE,
                way_out="try again in a minute; an operator sees the cause in grantd's log",
            )

    def forked(self, tenant: TenantId) -> bool:
        """As AuditHealth."""
        return tenant in self._broken or SYSTEM_TENANT in self._broken

    def noted(self, tenant: TenantId) -> None:
        """An entry of this log waits, or will once its transaction commits."""
        if tenant not in self._broken:  # a broken log refuses on its own; its lag must not refuse everybody else
            self.waiting.note(tenant)

    def broken(self, tenant: TenantId) -> bool:
        """Whether this log must not be signed any more."""
        return tenant in self._broken

    def break_log(self, tenant: TenantId, why: str) -> None:
        """From now on until the process ends: no signature, no grant. Said once, loudly."""
        if tenant not in self._broken:
            _log.error("audit.log_forked", tenant=tenant, why=why)
        self._broken[tenant] = why
        for marks in (self.waiting, self.unsigned):
            marks.forget(tenant)
        self.report()

    def report(self) -> None:
        """To the meter."""
        self._meter.gauge("audit_lag_seconds", self.waiting.oldest_s())
        self._meter.gauge("audit_unsigned_seconds", self.unsigned.oldest_s())
        self._meter.gauge("audit_broken_logs", float(len(self._broken)))
