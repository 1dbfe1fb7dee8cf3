"""The first thing after a start.

Whatever ended, or died, while the broker was down is ended and marked before anything is served.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from broker.core.action import ActionEvent, ActionState, advance
from broker.core.errors import Fault
from broker.core.grant import GrantState
from broker.core.ids import RecordingId, TenantId
from broker.service import story
from broker.service.ending import Ending
from broker.service.freeze import FreezeService
from broker.service.leftovers import LeftoversService
from broker.service.ports import Session, SessionState, Tx
from broker.service.world import World
from recorder.errors import RecordingInvalid
from recorder.store.files import Unfinished
from recorder.track import PartCheckpoint

log = structlog.get_logger()
FINISH_WITHIN = 10.0
"""Seconds that a start waits for what ended while the broker was down to be undone."""
_DIED = "broker_died"
_LEAVING = (GrantState.ENDING, GrantState.STUCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a start found."""

    sessions: int
    grants: int
    recordings: int


class Recovery:
    """Puts the store right with what the world looks like now."""

    def __init__(self, world: World, ending: Ending, freeze: FreezeService, leftovers: LeftoversService) -> None:
        self._world, self._ending, self._freeze, self._leftovers = world, ending, freeze, leftovers

    async def run(self) -> Recovered:
        """All tenants. Idempotent: a start that dies in here is followed by another.

        The commands themselves have ended: their connections went with the broker, and the reaper or the wrapper on
        the target ends them then (architecture.md section 9).
        """
        await self._freeze.restore_spooled()
        tenants = await self._world.store.tenants()
        broken = await self._broken_off(tenants)
        sessions = grants = 0
        for tenant in tenants:
            await self._freeze.restore(tenant)
            sessions += await self._lose(tenant, broken[tenant])
            grants += len((await self._ending.lapse_all(tenant)).grants)
            grants += await self._end_what_was_restored(tenant)
            await self._hand_endings(tenant)
            await self._arm(tenant)
        await self._finish_what_is_quick()
        await self._sweep_what_is_quick(tenants)
        count = sum(len(found) for found in broken.values())
        return Recovered(sessions=sessions, grants=grants, recordings=count)

    async def _broken_off(self, tenants: Sequence[TenantId]) -> defaultdict[TenantId, dict[RecordingId, Unfinished]]:
        open_now: dict[tuple[str, str], bool] = {}
        for tenant in tenants:
            for session in await self._world.store.read(tenant, lambda tx: tx.sessions.open(None)):
                open_now[tenant, session.recording] = True
        found = await self._world.recordings.scan_unfinished(is_closed=lambda ten, rec: (ten, rec) not in open_now)
        by_tenant: defaultdict[TenantId, dict[RecordingId, Unfinished]] = defaultdict(dict)
        for broken in found:
            by_tenant[TenantId(broken.ten)][RecordingId(broken.rec)] = broken
        return by_tenant

    async def _lose(self, tenant: TenantId, broken: dict[RecordingId, Unfinished]) -> int:
        return await self._world.store.run(tenant, lambda tx: self._mark_lost(tx, broken))

    def _mark_lost(self, tx: Tx, broken: dict[RecordingId, Unfinished]) -> int:
        now = self._world.clock.now()
        lost = tx.sessions.open(None)
        for session in lost:
            after = _lost(session, broken.get(session.recording), now)
            tx.sessions.put(after)
            tx.audit.append(story.of_session("recording.recovered", after, actor=""), now)
            tx.audit.append(story.of_session("session.cut", after, actor=""), now)
        for action in tx.actions.in_states((ActionState.RUNNING,), grant=None):
            gone = advance(action, ActionEvent.LOSE, note=_DIED)
            tx.actions.put(gone)
            tx.audit.append(story.of_action("action.lost", gone, actor=""), now)
        return len(lost)

    async def _end_what_was_restored(self, tenant: TenantId) -> int:
        """A database that is older than what was signed holds grants that were revoked since: all of them end."""
        if not self._world.audit_health.forked(tenant):
            return 0
        ended = await self._ending.end_restored(tenant)
        log.error("recovery.older_database", tenant=tenant, grants=ended)
        return ended

    async def _hand_endings(self, tenant: TenantId) -> None:
        """ENDING and STUCK grants: nothing of them runs in this new process."""
        for grant in await self._world.store.read(tenant, lambda tx: tx.grants.in_states(_LEAVING)):
            self._ending.finishing.hand(tenant, grant.id, grant.target_id)

    async def _finish_what_is_quick(self) -> None:
        """A target that hangs keeps nobody from what is served: its endings go on when the jobs run."""
        try:
            async with asyncio.timeout(FINISH_WITHIN):
                await self._ending.finishing.drain()
        except TimeoutError:
            log.warning("recovery.endings_go_on")

    async def _sweep_what_is_quick(self, tenants: Sequence[TenantId]) -> None:
        """Targets that hang, of one tenant, keep no other from being served: the job looks again."""
        try:
            async with asyncio.timeout(FINISH_WITHIN), asyncio.TaskGroup() as group:
                for tenant in tenants:
                    group.create_task(self._sweep(tenant))
        except TimeoutError:
            log.warning("recovery.leftovers_go_on")

    async def _sweep(self, tenant: TenantId) -> None:
        try:
            await self._leftovers.sweep(tenant, planned_before=self._world.clock.now())
        except Fault as fault:
            log.warning("recovery.leftovers_unknown", tenant=tenant, cause=fault.what)

    async def _arm(self, tenant: TenantId) -> None:
        """Every end that is still to come, from an index of two columns."""
        deadlines = await self._world.store.read(tenant, lambda tx: tx.grants.deadlines())
        self._world.ends.arm([(tenant, grant, at) for grant, at in deadlines], self._world.reading())


def _lost(session: Session, broken: Unfinished | None, now: datetime) -> Session:
    """The session as the broken-off recording shows it.

    What was audited before must still be there, else it is said loudly.
    """
    lost = replace(session, state=SessionState.LOST, closed_at=now, end_reason=_DIED)
    if broken is None or broken.scan is None:
        log.error("recording.missing", recording=session.recording, problem=broken.problem if broken else "no file")
        return replace(lost, recording_state="torn")
    if session.recording_root:
        _require(session, broken)
    scan = broken.scan
    return replace(lost, recording_state=scan.state, recording_leaves=scan.leaves, recording_root=scan.root)


def _require(session: Session, broken: Unfinished) -> None:
    checkpoint = PartCheckpoint(
        rec=session.recording, part=0, leaves=session.recording_leaves, root=session.recording_root, final=False
    )
    try:
        broken.require(checkpoint)
    except RecordingInvalid as error:
        log.error("recording.altered", recording=session.recording, problem=str(error))  # noqa: TRY400
