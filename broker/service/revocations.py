"""Which revoked grants stand on which target's list, and when a list is written anew (ADR 0037).

A list is the second line: the gateway has refused and cut before. So nothing here holds up a revocation, and what fails
is counted and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

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
RENEWED: Final = timedelta(minutes=10)
"""A list that nothing changes is written again after this: an old one means a broken one, and one that somebody removed
keeps everybody out for no longer."""
AGAIN: Final = timedelta(seconds=30)
"""After a failure; also how soon a target is noticed that keeps a list from now on."""
TOPIC: Final = "revocations"
"""What the job listens for."""
_AT_ONCE: Final = 8
_Key: TypeAlias = tuple[TenantId, TargetId]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What a target was last told, and where; `grants` is None where that failed."""

    grants: frozenset[str] | None
    place: tuple[str, str, int, str]
    at: float
    """Monotonic: a clock that is set back keeps no list from its renewal."""

    def still_says(self, wanted: frozenset[GrantId], place: tuple[str, str, int, str], now: float) -> bool:
        """Whether nothing has to be written."""
        kept = self.grants is not None and wanted <= self.grants and place == self.place
        return kept and now < self.at + RENEWED.total_seconds()


class Revocations:
    """The lists of all targets that keep one. One object a process."""

    def __init__(self, world: World, lists: RevocationLists) -> None:
        self._world, self._lists = world, lists
        self._rooms = {True: asyncio.Semaphore(_AT_ONCE), False: asyncio.Semaphore(_AT_ONCE)}
        """For targets that took their last list, and for those that did not: these wait for one another alone."""
        self._kept: dict[_Key, _Kept] = {}
        self._busy: dict[_Key, bool] = {}
        """Where a list is being written now, and whether it was to be written once more meanwhile."""
        self._seen: dict[TenantId, tuple[frozenset[GrantId], float]] = {}
        """What was revoked at the last look, and when to look again all the same."""

    async def tend(self, tenant: TenantId, group: asyncio.TaskGroup) -> None:
        """Begins to write what lists have to be written, as children of `group`: one that hangs holds up no other.

        A look at an index where there are none. Raises StoreFault.
        """
        since, now = self._world.clock.now() - REMEMBERED, self._world.clock.monotonic()
        revoked = await self._world.store.read_aside(tenant, lambda tx: tx.grants.revoked_since(since))
        ids = frozenset(grant for grant, _ in revoked)
        seen, due = self._seen.get(tenant, (frozenset[GrantId](), now))
        if ids <= seen and now < due:
            return
        for target, login in await self._world.store.read(tenant, _keeping):
            self._begin(target, login, _of(revoked, target.id), group)
        self._seen[tenant] = (ids, now + AGAIN.total_seconds())

    def _begin(self, target: Target, login: str, grants: Sequence[GrantId], group: asyncio.TaskGroup) -> None:
        key, wanted = (target.tenant, target.id), frozenset(grants)
        kept = self._kept.get(key)
        if kept is not None and kept.still_says(wanted, _place(target, login), self._world.clock.monotonic()):
            return
        if key in self._busy:
            self._busy[key] = True
            return
        self._busy[key] = False
        group.create_task(self._keep(target, login, grants))

    async def _keep(self, target: Target, login: str, grants: Sequence[GrantId]) -> None:
        key, begun = (target.tenant, target.id), self._world.clock.monotonic()
        last = self._kept.get(key)
        try:
            async with self._rooms[last is None or last.grants is not None]:
                pushed = await self._push(target, login, grants)
            told = frozenset[str](grants) if pushed else None
            self._kept[key] = _Kept(grants=told, place=_place(target, login), at=begun)
        finally:
            if self._busy.pop(key):
                self._seen.pop(target.tenant, None)
                self._world.bell.ring(target.tenant, TOPIC)

    async def _push(self, target: Target, login: str, grants: Sequence[GrantId]) -> bool:
        if len(grants) > MAX_GRANTS:
            left_out = len(grants) - MAX_GRANTS
            log.warning("revocation_list.too_long", tenant=target.tenant, target=target.id, left_out=left_out)

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


def _place(target: Target, login: str) -> tuple[str, str, int, str]:
    """Where a list lies: another login or machine has none yet, or an older one."""
    return login, target.host, target.port, target.host_key


def _of(revoked: Sequence[tuple[GrantId, TargetId]], target: TargetId) -> list[GrantId]:
    return [grant for grant, of in revoked if of == target]
