"""Following a session: from any moment the very events that are recorded, at no cost to the session."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.roles import Role
from broker.service.feed import KEPT_COST, KEPT_OUTPUT_BYTES, WAITING_COST, Feed, Numbered, Overtaken
from recorder.events import Event, Kind
from tests.broker.adapters.store.fixtures import OTHER
from tests.broker.service.world import FLOOD, House, until

_EVENTS = st.lists(
    st.builds(
        Event,
        t_us=st.just(0),
        kind=st.sampled_from([Kind.OUT, Kind.OUT, Kind.ERR, Kind.HIDDEN]),
        chan=st.just(0),
        payload=st.builds(
            lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.sampled_from([1, 3, 900, 30_000, 65_536])
        ),
    ),
    max_size=40,
)


def out(data: bytes) -> Event:
    """Bytes of stdout."""
    return Event(0, Kind.OUT, 0, data)


@given(events=_EVENTS, joined=st.integers(0, 40), reads=st.sets(st.integers(0, 40)))
def test_whoever_joins_sees_all_that_follows_once_and_in_order(
    events: list[Event], joined: int, reads: set[int]
) -> None:
    """No gap, no duplicate: from any moment on, and 64 KiB of output back (formats.md 1.5)."""

    async def follow() -> None:
        feed, seen = Feed(), list[Numbered]()
        for event in events[:joined]:
            feed.take(event)
        with feed.followed() as follower:
            seen += follower.snapshot.events
            for at, event in enumerate(events[joined:]):
                feed.take(event)
                if at in reads or at % 8 == 7:
                    seen += await follower.read()
            feed.end()
            while more := await follower.read():
                seen += more
        first = seen[0].seq if seen else 0
        assert [item.event for item in seen] == events[first:]
        assert [item.seq for item in seen] == list(range(first, len(events)))
        assert follower.snapshot.next_seq == min(joined, len(events))
        before = sum(len(event.payload) for event in events[first:joined] if event.kind != Kind.HIDDEN)
        cost = sum(len(item.event.payload) for item in follower.snapshot.events)
        assert first == 0 or before >= KEPT_OUTPUT_BYTES or cost >= KEPT_COST // 2

    asyncio.run(follow())


async def test_who_does_not_keep_up_is_dropped_and_may_follow_anew() -> None:
    """I-60: bounded memory a follower; the others and the session notice nothing."""
    feed = Feed()
    with feed.followed() as slow, feed.followed() as quick:
        for number in range(2 * WAITING_COST // 65_536):
            feed.take(out(bytes(65_536)))
            assert [item.seq for item in await quick.read()] == [number]
        async with asyncio.timeout(20):
            await slow.until_overtaken()
        with pytest.raises(Overtaken):
            await slow.read()
        with pytest.raises(Overtaken):
            await slow.read()
    with feed.followed() as again:
        feed.take(out(b"on"))
        assert [item.event.payload for item in await again.read()] == [b"on"]


async def test_a_flood_of_single_bytes_stays_small() -> None:
    """I-27: what an event costs beside its bytes counts too."""
    feed = Feed()
    for _ in range(20_000):
        feed.take(out(b"x"))
    assert len(feed.snapshot().events) <= KEPT_COST // 200 + 1


async def test_a_late_follower_gets_the_state_of_the_screen() -> None:
    """Modes and size that were set before the kept output."""
    feed = Feed()
    feed.take(Event(0, Kind.EXEC, 0, b'{"argv":"vim","pty":true}'))
    feed.take(Event(0, Kind.RESIZE, 0, (132).to_bytes(2, "big") + (43).to_bytes(2, "big")))
    feed.take(out(b"\x1b[?1049h\x1b[?25l"))
    early = feed.snapshot()
    assert (early.terminal, early.columns, early.rows, early.restore) == (True, 0, 0, b"")
    for _ in range(3):
        feed.take(out(b"y" * 65_536))
    late = feed.snapshot()
    assert (late.columns, late.rows, late.restore) == (132, 43, b"\x1b[?1049h\x1b[?25l")
    assert [item.seq for item in late.events] == [5]


async def test_the_end_is_heard_by_who_waits_and_who_comes_later() -> None:
    """Empty: nothing more comes."""
    feed = Feed()
    with feed.followed() as follower:
        reading = asyncio.get_running_loop().create_task(follower.read())
        await asyncio.sleep(0)
        feed.end()
        assert await reading == []
    with feed.followed() as late:
        assert await late.read() == []


async def test_what_is_followed_is_what_is_recorded(house: House) -> None:
    """I-30: record, then show. A session of any kind is tapped by its sink alone, at any moment, in full."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    ticket = await house.started(agent, await house.granted(agent), FLOOD)
    session, seen = ticket.session, list[list[Numbered]]()
    async with house.running(ticket) as (running,):
        live = house.world.live.get(session.tenant, session.id)
        assert live is not None
        assert house.world.live.get(OTHER, session.id) is None
        for count in (2, 5, 9):
            await until(lambda count=count: live.feed.snapshot().next_seq >= count)  # type: ignore[misc]
            with live.feed.followed() as follower:
                seen.append([*follower.snapshot.events, *await follower.read(), *await follower.read()])
        with live.feed.followed() as follower:
            live.cut("terminated")
            seen.append(list(follower.snapshot.events))
            while more := await follower.read():
                seen[-1] += more
        await asyncio.wait([running])
    assert house.world.live.get(session.tenant, session.id) is None
    reader = await house.cases.session.play(manager.caller, session.id, "a test")
    kept = list(reader.events())
    for each in seen:
        assert [item.event for item in each] == kept[each[0].seq : each[0].seq + len(each)]
    assert seen[-1][-1].seq == len(kept) - 1
