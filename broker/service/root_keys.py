"""What a change of the root key does to each tenant, and the end of a tenant's keys. For the broker and for `grantd`.

Over a store alone: these run beside a broker that works, or instead of one.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from broker.core.errors import Fault, conflict
from broker.core.ids import SYSTEM_TENANT, TenantId
from broker.service import story
from broker.service.ports import Store, Tx

_SWEEPS = 5
"""A broker that has not heard of the new root key may make a key meanwhile; it hears within seconds."""


async def everyone(store: Store) -> list[TenantId]:
    """`_system` and every tenant."""
    return [SYSTEM_TENANT, *await store.tenants()]


async def rewrap(store: Store, tenant: TenantId, now: datetime) -> int:
    """Moves a tenant's keys from former root keys to the primary one; how many. Repeating it is harmless."""

    def unit(tx: Tx) -> int:
        moved = tx.keys.rekeying.rewrap()
        if moved:
            tx.audit.append(story.of_key("key.rewrapped", tenant, actor="", facts={"keys": moved}), now)
        return moved

    return await store.run(tenant, unit)


async def rewrap_all(store: Store, now: datetime) -> int:
    """As `rewrap`, for everybody, until nothing is left; how many keys moved."""
    moved = 0
    for _ in range(_SWEEPS):
        sweep = sum([await rewrap(store, tenant, now) for tenant in await everyone(store)])
        moved += sweep
        if not sweep:
            return moved
    raise Fault("keys are still made under the former root key: is a broker running that cannot read the new one?")


async def wrapped_by(store: Store) -> Counter[str]:
    """Root key id -> keys that it wraps, over all tenants."""
    found: Counter[str] = Counter()
    for tenant in await everyone(store):
        found.update(await store.read(tenant, lambda tx: tx.keys.rekeying.wrapped_by()))
    return found


async def end_root(store: Store, root_id: str, now: datetime) -> None:
    """Nothing is made under this root key again, in any tenant.

    Raises:
        StoreFault: it still wraps a key; nothing was ended in that tenant.
    """
    for tenant in await everyone(store):

        def unit(tx: Tx, tenant: TenantId = tenant) -> None:
            tx.keys.rekeying.end_root(root_id, now)
            facts = {"root": root_id}
            tx.audit.append(story.of_key("key.ended", tenant, actor="", facts=facts), now)

        await store.run(tenant, unit)


async def shred(store: Store, tenant: TenantId, now: datetime) -> int:
    """Deletes every key of a tenant: its secrets, recordings and what its log discloses can never be read again.

    Real only once every backup with the wrapped keys is gone, or the root key that wraps them.

    Returns:
        How many keys.

    Raises:
        Refusal: `not_frozen`: somebody may be at work in it.
    """

    def unit(tx: Tx) -> int:
        if tx.freezes.active() is None:
            raise conflict("not_frozen", "the tenant is not frozen, somebody may be at work in it", "freeze it first")
        gone = tx.keys.rekeying.shred(now)
        tx.audit.append(story.of_key("key.shredded", tenant, actor="", facts={"keys": gone.keys}), now)
        if gone.entries:
            facts = {"ranges": f"0-{gone.entries - 1}"}  # so that a verifier tells erased from stolen
            tx.audit.append(story.of_key("subject.erased", tenant, actor="", facts=facts), now)
        return gone.keys

    return await store.run(tenant, unit)
