"""What was kept to be used once is dropped when it cannot be used any more, and not before (I-60)."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from broker.core.roles import Role
from broker.service.forgetting import IDEMPOTENCY_FOR, Forgetting
from broker.service.ports import JoinToken, Tx
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.world import House

SECRET = hashlib.sha256(b"join secret").digest()
NONCE = b"nonce of one use"


async def test_it_drops_what_is_over_and_nothing_that_counts(house: House) -> None:
    """A replayed nonce stays refused, a retry finds its answer and a join token works, each until its own end."""
    agent = await house.add("builder", Role.AGENT)
    now = house.clock.now()
    ends = now + timedelta(minutes=10)

    def keep(tx: Tx) -> None:
        tx.idempotency.put(agent.id, "Execute", "key-1", b"d" * 32, "ac_1", now)
        assert tx.seen.first_time("change", NONCE, ends)
        tx.identities.put_join(JoinToken(tenant=TENANT, secret_sha256=SECRET, identity=agent.id, expires_at=ends))

    await house.store.run(TENANT, keep)
    forgetting = Forgetting(house.world)

    assert await forgetting.run(TENANT) == 0
    house.clock.forward(599)
    assert await forgetting.run(TENANT) == 0
    assert not await house.store.run(TENANT, lambda tx: tx.seen.first_time("change", NONCE, ends))

    house.clock.forward(2)
    assert await forgetting.run(TENANT) == 2
    later = house.clock.now()
    assert await house.store.run(TENANT, lambda tx: tx.identities.take_join(SECRET, later)) is None
    assert await house.store.read(TENANT, lambda tx: tx.idempotency.find(agent.id, "Execute", "key-1"))

    house.clock.forward(IDEMPOTENCY_FOR.total_seconds())
    assert await forgetting.run(TENANT) == 1
    assert await house.store.read(TENANT, lambda tx: tx.idempotency.find(agent.id, "Execute", "key-1")) is None
    assert await forgetting.run(TENANT) == 0


async def test_it_touches_one_tenant(house: House) -> None:
    """I-40: another tenant's spent nonces are another pass's."""
    ends = house.clock.now()
    await house.store.run(OTHER, lambda tx: tx.seen.first_time("change", NONCE, ends))
    house.clock.forward(60)
    assert await Forgetting(house.world).run(TENANT) == 0
    assert await Forgetting(house.world).run(OTHER) == 1
