"""What policy wants watched: nothing goes to the target unless another person looks on (F14, I-12, I-34)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.adapters.store.schema import audit_pending
from broker.core.action import ActionState, StdinMode
from broker.core.roles import Role
from broker.service.live import LiveSession
from broker.service.policies import decided_with
from broker.service.ports import PolicyVersion
from broker.service.start import Ticket
from broker.service.world import Limits
from policy.engine import NeedsApproval, Permit, shipped_policy
from policy.ruleset import Ruleset
from policy.shell import Classified, classify
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.terminal import Terminal
from tests.broker.service.world import HANG, READ, WRITE, House, opened, refused, until, watching

WATCHED = """
@id("four.eyes") @watched("owner admin")
permit (principal, action == Action::"run", resource) when { principal.teams.containsAny(resource.teams) };
"""
HELD = "held: this must be watched, and nobody watches; nothing goes to the target until somebody does"
FLOWS = "your input goes through again"


class Keyboard(Terminal):
    """Types what a test puts in, when it puts it in."""

    def __init__(self, house: House) -> None:
        super().__init__(house.targets.journal)
        self.keys: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        return await self.keys.get()


async def demanded(house: House) -> None:
    """From now on everything that runs must be watched by an Owner or an Admin."""
    sources = {**shipped_policy(), "eyes.cedar": WATCHED}
    version = Ruleset.load(sources).version
    row = PolicyVersion(tenant=TENANT, version=version, sources=sources, put_by="", put_at=house.clock.now())
    await house.store.run(TENANT, lambda tx: tx.policies.put(row))


@asynccontextmanager
async def started(
    house: House, agent: Somebody, line: bytes = b"cat"
) -> AsyncIterator[tuple[Ticket, LiveSession, Keyboard]]:
    """A command that waits for a watcher, with the terminal in front of it; over when the block is."""
    grant = await house.granted(agent)
    proposal = await house.propose(agent, grant, line, stdin_mode=StdinMode.STREAM)
    assert proposal.ticket is not None
    keyboard = Keyboard(house)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.run(proposal.ticket, keyboard))
        session = proposal.ticket.session
        await until(lambda: bool(keyboard.told))
        live = house.world.live.get(TENANT, session.id)
        assert live is not None
        yield proposal.ticket, live, keyboard
        running.cancel()


async def endlessly(house: House, who: Somebody, ticket: Ticket) -> None:
    """Watches until somebody ends it."""
    async with watching(house, who, ticket) as watch:
        while await watch.follower.read():
            pass


def written(house: House) -> bytes:
    """What reached the target's stdin."""
    return b"".join(data for what, data in house.targets.journal if what == "written")


async def test_nothing_reaches_the_target_before_somebody_watches(house: House) -> None:
    """Neither the command nor a byte; then both, in order. That it had to be so is in the log when it starts."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    await demanded(house)
    async with started(house, agent) as (ticket, live, keyboard):
        keyboard.keys.put_nowait(b"early ")
        await asyncio.sleep(0.05)
        assert (house.targets.processes, keyboard.told) == ([], [HELD])
        query = select(audit_pending.c.entry).where(audit_pending.c.tenant == TENANT)
        entries = await house.store.inner.read_sql(TENANT, lambda conn: list(conn.execute(query).scalars()))
        opened_row = next(entry for entry in map(json.loads, entries) if entry["code"] == "SE1001I")
        assert opened_row["watched"] == 1
        async with watching(house, owner, ticket) as watch:
            assert live.oversight.lets(watch.watcher)
            await until(lambda: written(house) == b"early ")
            await until(lambda: keyboard.out_bytes == b"early ")
            assert keyboard.told == [HELD, FLOWS]


async def test_the_input_stops_at_once_when_the_last_watcher_goes(house: House) -> None:
    """Within 100 ms, whatever made them go; what the target writes still comes; back when one is back."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    admin = await house.add("admin", Role.ADMIN)
    await demanded(house)
    async with started(house, agent) as (ticket, live, keyboard):
        dismissed = asyncio.ensure_future(refused(endlessly(house, admin, ticket)))  # noqa: TID251  awaited below
        async with watching(house, owner, ticket):
            await until(lambda: len(live.oversight.standing().watchers) == 2)
            keyboard.keys.put_nowait(b"both ")
            await until(lambda: written(house) == b"both ")
        keyboard.keys.put_nowait(b"one ")
        await until(lambda: written(house) == b"both one ")
        house.cases.identify.forget(admin.caller.key)
        assert not live.oversight.flows, "not at the next look: now"
        keyboard.keys.put_nowait(b"none ")
        await asyncio.sleep(0.1)
        assert written(house) == b"both one "
        house.targets.processes[0].say(b"by itself")
        await until(lambda: keyboard.out_bytes.endswith(b"by itself"))
        assert await dismissed == "not_permitted"
        async with watching(house, owner, ticket):
            await until(lambda: written(house) == b"both one none ")
        assert keyboard.told == [HELD, FLOWS, HELD, FLOWS]


@pytest.mark.parametrize("who", ["manager", "requester's owner", "only looks"])
async def test_whom_policy_does_not_name_does_not_count(house: House, who: str) -> None:
    """Another role, who asked through an agent of theirs, who only looks: they see it, and nothing flows."""
    owner = await house.add("boss", Role.OWNER)
    agent = await house.add("deployer", owner=owner if who == "requester's owner" else None)
    manager = await house.add("manager", Role.MANAGER)
    await demanded(house)
    async with started(house, agent) as (ticket, live, keyboard):
        someone = manager if who == "manager" else owner
        async with watching(house, someone, ticket, only_look=who == "only looks") as watch:
            assert not live.oversight.lets(watch.watcher)
            await asyncio.sleep(0.05)
            assert (house.targets.processes, keyboard.told) == ([], [HELD])


async def test_what_nobody_watches_for_long_is_cut(tmp_path: Path) -> None:
    """It never reached the target; a pause that its author left ends the same way; a watcher's being there does not."""
    limits = Limits(unwatched_for=timedelta(seconds=0.3))
    async with opened(tmp_path, limits=limits) as house:
        agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
        paused = await house.started(agent, await house.granted(agent), HANG)
        async with house.running(paused) as (running,):
            async with watching(house, owner, paused) as watch:
                await house.cases.watch.pause(watch)
                await asyncio.sleep(1.0)
                assert not running.done()
            await asyncio.wait([running], timeout=5)
            outcome = running.result().outcome
            assert outcome is not None
            assert outcome.reason == "unwatched"
        await demanded(house)
        never = house.run(await house.started(agent, await house.granted(agent), READ))
        before = len(house.targets.processes)
        done = await asyncio.wait_for(never, 5)
        assert (done.state, done.outcome and done.outcome.reason) == (ActionState.CUT, "unwatched")
        assert len(house.targets.processes) == before


async def test_an_approved_command_is_watched_too(house: House) -> None:
    """The demand of the moment it starts counts, with a person's yes as without."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    await demanded(house)
    ticket = await house.started(agent, await house.granted(agent), WRITE, owner)
    assert ticket.watchers == {"owner", "admin"}


async def test_the_time_of_waiting_is_taken_from_the_command(house: House) -> None:
    """I-01: the target counts what is left when it starts, not what was left when it was decided."""
    agent, owner = await house.add("deployer"), await house.add("owner", Role.OWNER)
    await demanded(house)
    async with started(house, agent) as (ticket, _, _):
        await asyncio.sleep(0.3)
        async with watching(house, owner, ticket):
            await until(lambda: bool(house.targets.plans))
            assert house.targets.plans[0].seconds_left <= ticket.seconds_left - 0.3


def test_a_forward_that_its_grant_decided_is_watched_all_the_same() -> None:
    """F14: a grant stands in for the approver, never for the watcher."""
    grant = replace(samples.grant(), flags=frozenset({"forward=db:5432"}))
    seen = classify(b"grantd-forward db 5432")
    assert isinstance(seen, Classified)
    asked = NeedsApproval(quorum=1, roles=frozenset({"owner"}), reasons=("run.team",), watchers=frozenset({"admin"}))
    assert decided_with(grant, seen, asked) == Permit(reasons=("grant.forward",), watchers=frozenset({"admin"}))
