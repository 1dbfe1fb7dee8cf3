"""The bell: no ring is lost, nobody hears another tenant's, nobody who left is kept."""

from __future__ import annotations

import asyncio

from broker.service.wake import PENDING, Bell, heard
from tests.broker.adapters.store.fixtures import OTHER, TENANT
from tests.broker.service.world import READ, WRITE, House


async def test_a_listener_starts_rung() -> None:
    """What changed between its last look and its listening is not missed."""
    with Bell().listen(TENANT, PENDING) as event:
        assert await heard(event, 0)
        assert not await heard(event, 0.01)


async def test_a_ring_wakes_its_topics_and_no_others() -> None:
    """Topic and tenant both count (I-40)."""
    bell = Bell()
    with (
        bell.listen(TENANT, "a") as one, bell.listen(TENANT, "a") as two, bell.listen(TENANT, "b") as other_topic,
        bell.listen(OTHER, "a") as other_tenant,
    ):  # fmt: skip
        for event in (one, two, other_topic, other_tenant):
            event.clear()
        bell.ring(TENANT, "a", "nobody listens to this")
        assert one.is_set()
        assert two.is_set()
        assert not other_topic.is_set()
        assert not other_tenant.is_set()
        bell.ring_all(TENANT)
        assert other_topic.is_set()
        assert not other_tenant.is_set()


async def test_a_ring_while_one_looks_is_heard_at_the_next_wait() -> None:
    """wait, clear, read, repeat: a change between clear and the next wait shows there."""
    bell = Bell()
    with bell.listen(TENANT, "a") as event:
        assert await heard(event, 0)
        bell.ring(TENANT, "a")
        assert await heard(event, 0)


async def test_it_wakes_who_waits() -> None:
    """At the ring, not at the end of the wait."""
    bell = Bell()
    with bell.listen(TENANT, "a") as event:
        event.clear()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(heard(event, 30))
            await asyncio.sleep(0.01)
            bell.ring(TENANT, "a")
        assert waiting.result()


def test_who_left_is_not_kept() -> None:
    """A million watchers that came and went leave nothing behind (I-60); a ring to nobody makes nothing either."""
    bell = Bell()
    for number in range(100):
        with bell.listen(TENANT, str(number)), bell.listen(TENANT, str(number)):
            pass
        bell.ring(TENANT, f"never heard {number}")
    assert vars(bell) == {"_listeners": {}}


async def test_only_what_waits_for_a_person_wakes_the_watchers(house: House) -> None:
    """A watcher reads all that waits at each ring: a command that runs at once is none of its business."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    with house.world.bell.listen(TENANT, PENDING) as rung:
        rung.clear()
        await house.propose(agent, grant, READ)
        assert not rung.is_set()
        await house.propose(agent, grant, WRITE)
        assert rung.is_set()
