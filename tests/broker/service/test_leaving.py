"""A caller that leaves in the very moment in which its session begins: what was begun is sealed, not broken off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from broker.core.action import ActionState
from broker.service.ports import Session
from recorder.scan import State
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.test_shell import for_ever, opened_shell
from tests.broker.service.world import READ, House, until


@contextmanager
def stalled(house: House) -> Iterator[None]:
    """The disk takes its time for what is asked of it now; goes on with the end of the block."""
    release = threading.Event()

    def hang() -> None:
        release.wait(30)

    house.recorder.call(hang)
    try:
        yield
    finally:
        release.set()


async def _kept(house: House, session: Session) -> tuple[str, State]:
    """What its row says of its recording, and what lies on the disk."""
    row = await house.store.read(TENANT, lambda tx: tx.sessions.get(session.id))
    assert row is not None
    reader = await house.recordings.open(
        ten=TENANT, rec=session.recording, sid=session.id, start=session.opened_at, dek=None
    )
    return row.recording_state, reader.state


async def test_a_command_whose_caller_leaves_while_its_recording_opens(house: House) -> None:
    """I-30, F06: nothing reaches the target, and its recording has an end: nobody takes it for one that broke off."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), READ)
    async with asyncio.TaskGroup() as group:
        with stalled(house):
            running = group.create_task(house.run(ticket))
            await until(lambda: house.world.live.count() == 1)
            running.cancel()
            await asyncio.sleep(0.05)
            assert not running.done()
    assert running.cancelled()
    action = await house.action(ticket.action)
    assert (action.state, action.outcome and action.outcome.reason) == (ActionState.CUT, "caller_gone")
    assert house.targets.plans == []
    assert await _kept(house, ticket.session) == ("final", State.FINAL)
    assert "recording.failed" not in await house.events()


async def test_a_shell_whose_caller_leaves_while_its_recording_opens(house: House) -> None:
    """As a command: its body is never begun."""
    ticket, terminal = await opened_shell(house), house.terminal()
    async with asyncio.TaskGroup() as group:
        with stalled(house):
            held = group.create_task(house.cases.sessions.shells.hold(ticket, terminal, for_ever))
            await until(lambda: house.world.live.count() == 1)
            held.cancel()
            await asyncio.sleep(0.05)
    assert held.cancelled()
    assert await _kept(house, ticket.session) == ("final", State.FINAL)
