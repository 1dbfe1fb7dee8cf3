"""Which revoked grants stand on which target's list, and when a list is written anew (ADR 0037).

A list is the second line: the gateway has refused and cut before. So nothing here holds up a revocation, and what fails
is counted and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from broker.core.errors import Fault
from broker.core.events import AuditEvent
from broker.core.identity import Target
from broker.core.ids import GrantId, TargetId, TenantId
from broker.core.kinds import SshSettings
from broker.core.revoking import MAX_GRANTS
from broker.service.ports import RevocationLists, Tx
from broker.service.world import World

log = structlog.get_logger()
REMEMBERED: Final = timedelta(minutes=10)
"""How long a grant stays on a list: its last certificate lives a minute, clocks are off by half of one."""
RENEWED: Final = timedelta(minutes=50)
"""A list that nothing changes is written again after this, so that an old one means a broken one."""
AGAIN: Final = timedelta(seconds=30)
"""After a failure; also how soon a target is noticed that keeps a list from now on."""
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What a target was last told; `grants` is None where that failed."""

    grants: frozenset[str] | None
    at: datetime


class Revocations:
    """The lists of all targets that keep one. One object a process."""

    def __init__(self, world: World, lists: RevocationLists) -> None:
        self._world, self._lists = world, lists
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._kept: dict[tuple[TenantId, TargetId], _Kept] = {}
        self._seen: dict[TenantId, tuple[frozenset[GrantId], datetime]] = {}
        """What was revoked at the last look, and when to look again all the same."""

    async def tend(self, tenant: TenantId) -> None:
        """Writes what lists have to be written; a look at an index where there are none. Raises StoreFault."""
        now = self._world.clock.now()
        revoked = await self._world.store.read(tenant, lambda tx: tx.grants.revoked_since(now - REMEMBERED))
        ids = frozenset(grant for grant, _ in revoked)
        seen, due = self._seen.get(tenant, (frozenset[GrantId](), now))
        if ids <= seen and now < due:
            return
        keeping = await self._world.store.read(tenant, _keeping)
        async with asyncio.TaskGroup() as group:
            for target, login in keeping:
                group.create_task(self._keep(target, login, _of(revoked, target.id), now))
        self._seen[tenant] = (ids, now + AGAIN)

    async def _keep(self, target: Target, login: str, grants: Sequence[GrantId], now: datetime) -> None:
        key, wanted = (target.tenant, target.id), frozenset(grants)
        kept = self._kept.get(key)
        if kept is not None and kept.grants is not None and wanted <= kept.grants and now < kept.at + RENEWED:
            return
        async with self._room:
            pushed = await self._push(target, login, grants)
        self._kept[key] = _Kept(grants=wanted if pushed else None, at=now)

    async def _push(self, target: Target, login: str, grants: Sequence[GrantId]) -> bool:
        if len(grants) > MAX_GRANTS:
            log.warning("revocation_list.too_long", tenant=target.tenant, target=target.id, left_out=len(grants))

        async def announce(number: int) -> None:
            facts = {"target": target.id, "kind": "egress", "serial": str(number), "purpose": "list"}
            event = AuditEvent(tenant=target.tenant, name="credential.issued", actor="", facts=facts)
            await self._world.store.run(target.tenant, lambda tx: tx.audit.append(event, self._world.clock.now()))

        try:
            await self._lists.push(target, login, tuple(sorted(grants[:MAX_GRANTS])), announce)
        except Fault as fault:
            self._world.meter.count("revocation_list_failures")
            log.warning("revocation_list.failed", tenant=target.tenant, target=target.id, cause=fault.what)
            return False
        return True


def _keeping(tx: Tx) -> list[tuple[Target, str]]:
    """The targets that keep a list, and the login that does."""
    rows = [(row, row.settings) for row in tx.targets.all()]
    return [(row, of.krl_login) for row, of in rows if isinstance(of, SshSettings) and of.krl_login]


def _of(revoked: Sequence[tuple[GrantId, TargetId]], target: TargetId) -> list[GrantId]:
    return [grant for grant, of in revoked if of == target]
