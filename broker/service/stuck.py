"""Endings that do not succeed: which, why, since when, and when they are tried next; and trying one at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.core.errors import invalid, not_found
from broker.core.grant import Grant, GrantState
from broker.core.identity import Caller
from broker.core.ids import GrantId, TenantId
from broker.core.request import MAX_REASON_BYTES, checked_text
from broker.service import story
from broker.service.finishing import END_GRANT
from broker.service.ports import Effect, Store, Tx
from broker.service.world import World

_LEAVING = (GrantState.STUCK, GrantState.ENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """A grant whose access could not be taken away yet, and the effect that tries on."""

    grant: Grant
    target: str
    """Its name."""
    effect: Effect


async def failing(store: Store, tenant: TenantId) -> Sequence[Failing]:
    """All of a tenant that failed at least once, whether STUCK already or not."""
    return await store.read(tenant, _failing)


async def retry(store: Store, tenant: TenantId, grant: GrantId, now: datetime) -> None:
    """Has it tried at the sweep's next look, seconds from now. Raises Refusal `not_found` where nothing fails."""
    await store.run(tenant, lambda tx: _hasten(tx, grant, now))


class StuckService:
    """The same for people who are not at the broker's host: Admins and Owners, of their own tenant."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def list(self, caller: Caller) -> Sequence[Failing]:
        """As `failing`."""
        return await failing(self._world.store, caller.tenant)

    async def retry(self, caller: Caller, grant_id: GrantId, reason: str) -> Failing:
        """As `retry`; the log names the caller and why. Raises Refusal `reason_needed`, `not_found`."""
        if not reason.strip():
            raise invalid("reason_needed", "whoever tries an end again says why", "say it with --reason")
        checked_text("reason", reason, MAX_REASON_BYTES)
        now = self._world.clock.now()

        def unit(tx: Tx) -> Failing:
            found = next((one for one in _failing(tx) if one.grant.id == grant_id), None)
            if found is None:
                raise not_found("failing end")
            _hasten(tx, grant_id, now)
            tx.audit.append(story.of_grant("grant.retried", found.grant, actor=caller.identity, reason=reason), now)
            return found

        return await self._world.store.run(caller.tenant, unit)


def _hasten(tx: Tx, grant: GrantId, now: datetime) -> None:
    effects = [effect for effect in tx.outbox.of(END_GRANT, grant) if effect.why]
    if not effects:
        raise not_found("failing end")
    for effect in effects:
        tx.outbox.hasten(effect, now)


def _failing(tx: Tx) -> list[Failing]:
    found = []
    for grant in tx.grants.in_states(_LEAVING):
        target = tx.targets.get(grant.target_id)
        effects = [effect for effect in tx.outbox.of(END_GRANT, grant.id) if effect.why]
        found += [Failing(grant=grant, target=target.name if target else "", effect=effect) for effect in effects]
    return found
