"""Ending many grants without holding up anybody: marked at once, then written a slice at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from broker.core.grant import EndReason
from broker.core.ids import GrantId, TenantId
from broker.service.ending import Ending
from broker.service.ports import Choice, Tx
from broker.service.world import World

SLICE = 64
"""Grants that one transaction ends: others get their turn every few hundredths of a second."""


async def end_chosen(
    world: World, ending: Ending, tenant: TenantId, choice: Choice, reason: EndReason, *, by: str, words: str
) -> Sequence[GrantId]:
    """Ends every live grant of a choice; returns them. All of them count as ended before the first one is written.

    Raises:
        StoreFault: the store took some of them or none. Those that were found stay ended, and are written by the sweep.
    """
    ids = await world.store.run(tenant, lambda tx: tx.grants.live_ids(choice))
    ending.hold(tenant, ids, reason, by=by, words=words)
    await write_ends(world, ending, tenant, ids, reason, by=by, words=words)
    return ids


async def write_ends(
    world: World, ending: Ending, tenant: TenantId, ids: Sequence[GrantId], reason: EndReason, *, by: str, words: str
) -> None:
    """Writes the ends of grants that are held."""
    for first in range(0, len(ids), SLICE):
        part = ids[first : first + SLICE]
        await world.store.run(tenant, partial(_end_part, ending=ending, part=part, reason=reason, by=by, words=words))
        ending.let_go(part)


def _end_part(tx: Tx, *, ending: Ending, part: Sequence[GrantId], reason: EndReason, by: str, words: str) -> None:
    for grant_id in part:
        ending.end_in(tx, grant_id, reason, by=by, words=words)
