"""Endings that do not succeed: which, why, since when, and when they are tried next; and trying one at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.core.errors import not_found
from broker.core.grant import Grant, GrantState
from broker.core.ids import GrantId, TenantId
from broker.service.finishing import END_GRANT
from broker.service.ports import Effect, Store, Tx

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

    def unit(tx: Tx) -> None:
        effects = [effect for effect in tx.outbox.of(END_GRANT, grant) if effect.why]
        if not effects:
            raise not_found("failing end")
        for effect in effects:
            tx.outbox.hasten(effect, now)

    await store.run(tenant, unit)


def _failing(tx: Tx) -> list[Failing]:
    found = []
    for grant in tx.grants.in_states(_LEAVING):
        target = tx.targets.get(grant.target_id)
        effects = [effect for effect in tx.outbox.of(END_GRANT, grant.id) if effect.why]
        found += [Failing(grant=grant, target=target.name if target else "", effect=effect) for effect in effects]
    return found
