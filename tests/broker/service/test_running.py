"""A command between caller and target: recorded first, bounded, always written down (I-22, I-23, I-26, I-30)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from broker.core.action import Action, ActionState, Outcome, StdinMode
from broker.core.errors import StoreFault, TargetFault
from broker.core.ids import SessionId
from broker.core.roles import Role
from broker.service import closing
from broker.service.live import Scope
from broker.service.ports import Session
from broker.service.pump import WARN_AT
from broker.service.start import Ticket
from broker.service.world import Limits
from recorder.grec import Kind
from recorder.track import PartCheckpoint
from recorder.typed import InputPolicy
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.fake_targets import NOWHERE, AtOnce
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import EXECUTE, FLOOD, HANG, READ, House, opened, refused, until
from tests.pace import Since

SAY = b"echo out; echo err >&2; exit 3"


async def session_of(house: House, ticket: Ticket) -> Session:
    """Its row as it stands."""
    row = await house.store.inner.read(TENANT, lambda tx: tx.sessions.get(ticket.session.id))
    assert row is not None
    return row


def how(action: Action) -> tuple[ActionState, str]:
    """State and reason of a finished action."""
    assert action.outcome is not None
    return action.state, action.outcome.reason


async def recorded(house: House, who: Somebody, ticket: Ticket) -> dict[int, bytes]:
    """What its recording holds, by kind, as somebody plays it."""
    reader = await house.cases.session.play(who.caller, ticket.session.id, "a test")
    found: dict[int, bytes] = {}
    for event in reader.events():
        found[event.kind] = found.get(event.kind, b"") + event.payload
    return found


def sent_before_recorded(journal: list[tuple[str, bytes]], sent: str, kinds: set[str]) -> list[bytes]:
    """Bytes that went on although the recorder had not accepted them yet."""
    kept, early = b"", []
    for what, data in journal:
        if what in kinds:
            kept += data
        elif what == sent:
            if not kept.startswith(data):
                early.append(data)
            kept = kept[len(data) :]
    return early


async def test_a_command_from_start_to_end(house: House) -> None:
    """Output by stream, exit status, session, recording and log agree; the recording verifies and replays."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    ticket = await house.started(agent, await house.granted(agent), SAY)
    terminal = house.terminal()
    done = await house.run(ticket, terminal)
    assert done.outcome == Outcome(exit_status=3, signal="", reason="")
    assert done.state is ActionState.FAILED
    assert (terminal.out_bytes, terminal.err_bytes) == (b"out\n", b"err\n")
    session = await session_of(house, ticket)
    assert (session.state, session.recording_state, session.door) == ("closed", "final", "grpc")
    assert await house.action(done) == done
    kept = await recorded(house, manager, ticket)
    assert (kept[Kind.OUT], kept[Kind.ERR]) == (b"out\n", b"err\n")
    assert b'"status": 3' in kept[Kind.EXIT]
    assert house.world.live.count() == 0
    assert (await house.events())[-4:] == ["recording.closed", "session.closed", "action.failed", "recording.viewed"]


async def test_record_then_send(house: House) -> None:
    """I-30: nothing starts, is shown or reaches stdin before the recorder has it, where it keeps all input."""
    for one in (house.world, house.cases.run._site):  # noqa: SLF001
        object.__setattr__(one, "keeps_input", InputPolicy.ALL)
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    proposal = await house.propose(agent, grant, b"cat", stdin_mode=StdinMode.STREAM)
    assert proposal.ticket is not None
    await house.run(proposal.ticket, house.terminal(b"one\n", b"two\n"))
    await house.run(await house.started(agent, grant, SAY))
    journal = house.targets.journal
    assert [data for what, data in journal if what == "sent"] == [b"one\n", b"two\n", b"out\n", b"err\n"]
    assert sent_before_recorded(journal, "sent", {"recorded out", "recorded err"}) == []
    assert [data for what, data in journal if what == "written"] == [b"one\n", b"two\n"]
    assert sent_before_recorded(journal, "written", {"recorded in"}) == []
    kinds = [what for what, _ in journal]
    assert kinds.index("recorded exec") < kinds.index("recorded mark") < kinds.index("started")


async def test_a_recorder_that_fails_cuts_at_once(house: House) -> None:
    """I-30: within a second, busy or idle, and not a byte is sent after it failed."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    idle, busy = await house.started(agent, grant, HANG), await house.started(agent, grant, FLOOD)
    async with house.running(idle, busy) as tasks:
        await until(lambda: any(what == "sent" for what, _ in house.targets.journal))
        since = Since()
        for sink in house.recordings.sinks:
            sink.failed_with(OSError("no space left on device"))
        await asyncio.wait(tasks)
        assert since.s() < 1.0
    for task, ticket in zip(tasks, (idle, busy), strict=True):
        done = task.result()
        assert how(done) == (ActionState.CUT, "recorder_failed")
        row = await session_of(house, ticket)
        assert (row.state, row.end_reason) == ("cut", "recorder_failed")
    assert house.targets.running == []
    assert (await house.events()).count("session.cut") == 2
    assert sent_before_recorded(house.targets.journal, "sent", {"recorded out"}) == []


async def test_without_a_recorder_nothing_starts(house: House) -> None:
    """I-30: a new session is refused, and the target hears nothing of it."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), READ)
    house.recorder.close()
    done = await house.run(ticket)
    assert how(done) == (ActionState.CUT, "recorder_failed")
    assert (house.targets.plans, house.world.live.count()) == ([], 0)


async def test_a_caller_that_hangs_up_ends_the_command(house: House) -> None:
    """In the middle of output, of input, or by cancelling the call: cut on the target, sealed, written."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    terminal = house.terminal()
    terminal.gone = True
    flood = await house.run(await house.started(agent, grant, FLOOD), terminal)
    assert how(flood) == (ActionState.CUT, "caller_gone")
    proposal = await house.propose(agent, grant, b"cat", stdin_mode=StdinMode.STREAM)
    assert proposal.ticket is not None
    typed = await house.run(proposal.ticket, terminal)
    assert how(typed) == (ActionState.CUT, "caller_gone")
    ticket = await house.started(agent, grant, HANG)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(house.run(ticket))
        await until(lambda: len(house.targets.running) == 1)
        task.cancel()
    assert house.targets.running == []
    assert (await house.action(ticket.action)).state is ActionState.CUT
    assert (await session_of(house, ticket)).recording_state == "final"


async def test_a_short_recording_gets_no_filter(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read as quickly without: nothing is done for it after its end. One that is longer is told of once."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    await house.run(await house.started(agent, grant, SAY), house.terminal())
    assert house.cases.closing.recorded() == []
    monkeypatch.setattr(closing, "_READ_AS_IT_IS", 0)
    ticket = await house.started(agent, grant, SAY)
    await house.run(ticket, house.terminal())
    assert [session for _, session in house.cases.closing.recorded()] == [ticket.session.id]
    assert house.cases.closing.recorded() == []


async def test_much_output_gives_way(house: House) -> None:
    """Where target, recorder and caller are all quick, others still have their turn: a quarter of a MiB at most."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), SAY)
    house.targets.starts = AtOnce
    terminal = house.terminal()
    seen: list[int] = []

    async def look() -> None:
        while True:
            seen.append(len(terminal.out_bytes))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        await house.run(ticket, terminal)
        looking.cancel()
    sizes = [*seen, len(terminal.out_bytes)]
    assert sizes[-1] == 4_194_304 + len(b"out\n")
    assert max(after - before for before, after in pairwise(sizes)) <= 5 * 65_536


async def test_output_has_a_limit(tmp_path: Path) -> None:
    """I-26, I-60: a command that never stops writing is cut at the limit, not a byte over it is sent."""
    async with opened(tmp_path, limits=Limits(max_output_bytes=200_000)) as house:
        agent = await house.add("deployer")
        ticket = await house.started(agent, await house.granted(agent), FLOOD)
        terminal = house.terminal()
        done = await house.run(ticket, terminal)
        assert how(done) == (ActionState.CUT, "output_limit")
        assert len(terminal.out_bytes) == 3 * 65_536
        assert house.targets.running == []


async def test_limits_on_sessions(tmp_path: Path) -> None:
    """I-22, I-60: a grant runs as many at once as it may; one more fails by itself and disturbs none."""
    async with opened(tmp_path, limits=Limits(sessions_per_grant=2, sessions_per_process=3)) as house:
        agent, other = await house.add("deployer"), await house.add("other")
        grant, theirs = await house.granted(agent), await house.granted(other)
        tickets = [await house.started(agent, grant, HANG) for _ in range(3)]
        others = [await house.started(other, theirs, HANG) for _ in range(2)]
        async with house.running(*tickets[:2], others[0]) as tasks:
            assert how(await house.run(tickets[2])) == (ActionState.FAILED, "too_many_sessions")
            assert how(await house.run(others[1])) == (ActionState.FAILED, "too_many_sessions")
            assert len(house.targets.running) == 3
            assert (await house.world.live.cut(Scope(tenant=TENANT), "test", within=1)).sessions == 3
        assert [task.result().state for task in tasks] == ["cut", "cut", "cut"]


async def test_a_target_that_is_not_there(house: House) -> None:
    """A fixed word for the agent, FAILED, and a recording that says it too."""
    await house.put_target("gone1", host=NOWHERE)
    agent, viewer = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    ticket = await house.started(agent, await house.granted(agent, target="gone1"), READ)
    done = await house.run(ticket)
    assert how(done) == (ActionState.FAILED, "unreachable")
    assert (await session_of(house, ticket)).recording_state == "final"
    assert Kind.OUT not in await recorded(house, viewer, ticket)


async def test_a_lost_connection(house: House) -> None:
    """FAILED with its code; what was shown before stays."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), HANG)
    async with house.running(ticket) as (task,):
        house.targets.processes[0].end(TargetFault("gone", code="connection_lost"))
    assert how(task.result()) == (
        ActionState.FAILED,
        "connection_lost",
    )


async def test_a_defect_at_the_callers_side_still_ends_in_the_store(house: House) -> None:
    """Whatever a door raises: the command is cut on the target, the recording sealed, the rows written."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), FLOOD)
    terminal = house.terminal()
    terminal.failure = RuntimeError("a defect")
    done = await house.run(ticket, terminal)
    assert how(done) == (ActionState.FAILED, "broker_error")
    assert (house.targets.running, house.world.live.count()) == ([], 0)
    assert (await house.action(ticket.action)).state is ActionState.FAILED
    assert (await session_of(house, ticket)).state == "closed"


async def test_a_store_that_stumbles_at_the_end(house: House) -> None:
    """The outcome is written as soon as the store takes it again."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), HANG)
    async with house.running(ticket):
        house.store.writes_fail = True
        house.targets.processes[0].end(TargetFault("gone", code="connection_lost"))
        await until(lambda: house.store.refused > 0)
        house.store.writes_fail = False
    assert (await house.action(ticket.action)).state is ActionState.FAILED


async def test_nothing_reaches_the_target_before_its_certificate_is_written_down(house: House) -> None:
    """I-31: a store that fails at the announcement stops the command before the connection."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), READ)
    house.store.fails_once = True
    done = await house.run(ticket)
    assert how(done) == (ActionState.FAILED, "broker_error")
    assert house.targets.plans == []


@pytest.mark.parametrize("seal_reads", [True, False])
async def test_how_a_command_is_planned(house: House, *, seal_reads: bool) -> None:
    """Reads go pooled and as the unprivileged login, unless sealed; the rest has its own certificate and the proof."""
    await house.change_target(replace(house.web1, seal_reads=seal_reads))
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    grant = await house.granted(agent)
    await house.run(await house.started(agent, grant, READ))
    ticket = await house.started(agent, grant, EXECUTE, approver)
    await house.run(ticket)
    read, execute = house.targets.plans
    assert (read.login, read.sealed, read.proof.signatures) == ("reader", seal_reads, ())
    assert (execute.login, execute.sealed, len(execute.proof.signatures)) == ("deploy", True, 1)
    assert execute.proof.record == ticket.action.record().encoded()
    assert (execute.command, execute.not_after) == (EXECUTE, ticket.action.not_after)
    assert read.serial != execute.serial


async def test_a_refused_command_never_starts(house: House) -> None:
    """I-16: what cannot be parsed is refused, audited with its digest, and makes no action."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    assert await refused(house.propose(agent, grant, b"echo 'open")) == "command_refused"
    assert await refused(house.propose(agent, grant, b"")) == "empty_command"
    assert await refused(house.propose(agent, grant, READ, cwd="srv")) == "bad_cwd"
    assert await refused(house.propose(agent, grant, READ, cwd="/\ud800")) == "bad_cwd"
    assert await refused(house.propose(agent, grant, READ, env={"PATH": "."})) == "env_not_allowed"
    assert await refused(house.propose(agent, grant, READ, reason="\0")) == "bad_text"
    stdin = {"stdin_mode": StdinMode.DECLARED, "stdin": b"x" * 65_537}
    assert await refused(house.propose(agent, grant, b"cat", **stdin)) == "stdin_too_long"
    assert (await house.events())[2:] == ["action.denied"]


async def test_streamed_stdin_needs_the_flag_above_read(house: House) -> None:
    """A person decides what they can see: above read, stdin is declared, or the grant says otherwise."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.MANAGER)
    plain = await house.granted(agent)
    tee = b"tee /srv/app/file"
    assert await refused(house.propose(agent, plain, tee, stdin_mode=StdinMode.STREAM)) == "stdin_must_be_declared"
    declared = await house.propose(agent, plain, tee, stdin_mode=StdinMode.DECLARED, stdin=b"x")
    assert declared.action.stdin_sha256 != b""
    request = await house.cases.access.request(agent.caller, house.wish(flags=frozenset({"stream_stdin"})))
    await house.decide(approver, request)
    grant = (await house.request(request)).grant_id
    assert grant is not None
    streamed = await house.propose(agent, grant, tee, stdin_mode=StdinMode.STREAM)
    assert streamed.action.state is ActionState.AWAITING


async def test_a_running_command_can_be_taken_back(house: House) -> None:
    """By its owner, within a second; a person of the team may cut the session as well, and both are written down."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    grant = await house.granted(agent)
    mine, theirs = await house.started(agent, grant, HANG), await house.started(agent, grant, HANG)
    async with house.running(mine, theirs) as tasks:
        since = Since()
        await house.cases.waiting.cancel(agent.caller, mine.action.id)
        view = await house.cases.session.terminate(manager.caller, theirs.session.id, "looks wrong")
        assert since.s() < 1.0
        assert view.session.state in {"cut", "open"}
    assert [how(task.result())[1] for task in tasks] == ["cancelled", "terminated"]
    ended = await house.cases.waiting.cancel(agent.caller, mine.action.id)
    assert ended.state is ActionState.CUT
    assert await house.store.inner.read(TENANT, lambda tx: tx.sessions.open(None)) == []


async def test_who_cuts_a_session_says_why_to_the_person_in_it(house: House) -> None:
    """Escaped (I-11), for a session, a grant and a freeze; a caller that takes no words does not delay the end."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    cut: dict[str, Callable[[Ticket], Awaitable[object]]] = {
        "killed": lambda ticket: house.cases.session.terminate(manager.caller, ticket.session.id, "odd \x1b[2J"),
        "revoked": lambda ticket: house.cases.access.revoke(manager.caller, ticket.grant.id, "an incident"),
        "expired": lambda ticket: house.world.live.cut(
            Scope(tenant=TENANT, grant=ticket.grant.id), "expired", within=1
        ),
        "frozen": lambda _: house.cases.freeze.freeze(manager.caller, "all stop"),
    }
    told = {}
    for name, act in cut.items():
        ticket, terminal = await house.started(agent, await house.granted(agent), HANG), house.terminal()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(house.run(ticket, terminal))
            await until(lambda: bool(house.targets.running))
            await act(ticket)
            await running
        told[name] = terminal.told
    assert told == {
        "killed": ["an operator ended this: odd \\x1b[2J"],
        "revoked": ["an operator ended this: an incident"],
        "expired": [],
        "frozen": ["an operator ended this: all stop"],
    }


async def test_who_takes_no_words_does_not_delay_the_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-02: cut within a second all the same."""

    async def deaf(_: str) -> None:
        await asyncio.Event().wait()

    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    ticket, terminal = await house.started(agent, await house.granted(agent), HANG), house.terminal()
    monkeypatch.setattr(terminal, "tell", deaf)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.run(ticket, terminal))
        await until(lambda: bool(house.targets.running))
        since = Since()
        await house.cases.session.terminate(manager.caller, ticket.session.id, "odd")
        await running
        assert since.s() < 1.0


async def test_a_session_that_nobody_may_see(house: House) -> None:
    """I-46: an agent sees its own, another's does not exist, neither to look at nor to cut or play."""
    agent, other = await house.add("deployer"), await house.add("other")
    ticket = await house.started(agent, await house.granted(agent), READ)
    await house.run(ticket)
    view = await house.cases.session.get(agent.caller, ticket.session.id)
    assert (view.identity_name, view.target_name, view.command) == ("deployer", "web1", READ)
    session = house.cases.session
    for attempt in (
        session.get(other.caller, ticket.session.id),
        session.terminate(other.caller, ticket.session.id, "curious"),
        session.play(other.caller, ticket.session.id, "curious"),
        session.fetch(other.caller, SessionId("se_x"), "curious"),
    ):
        assert await refused(attempt) == "not_found"
    mine = await session.page(agent.caller, after=None, limit=10)
    assert [one.session.id for one in mine.rows] == [ticket.session.id]
    assert (await session.page(other.caller, after=None, limit=0)).rows == []


async def test_reading_a_recording_is_written_down_first(house: House) -> None:
    """I-33: who and why, before a byte is handed out; no row, no recording."""
    agent, manager = await house.add("deployer"), await house.add("manager", Role.MANAGER)
    ticket = await house.started(agent, await house.granted(agent), READ)
    await house.run(ticket)
    house.audit_fails = True
    with pytest.raises(StoreFault):
        await house.cases.session.play(manager.caller, ticket.session.id, "review")
    house.audit_fails = False
    sealed = await house.cases.session.fetch(manager.caller, ticket.session.id, "review")
    assert sealed.state == "final"
    assert (await house.events())[-1] == "recording.exported"


async def test_warnings_before_the_end(house: House) -> None:
    """At 60 and 10 seconds; one that comes into a shorter session is left out."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent, ttl=timedelta(seconds=10)), HANG)
    ticket = replace(ticket, seconds_left=10.3)
    terminal = house.terminal()
    async with asyncio.TaskGroup() as group:
        group.create_task(house.run(ticket, terminal))
        await until(lambda: terminal.warned != [])
        await house.world.live.cut(Scope(tenant=TENANT), "test", within=1)
    assert terminal.warned == [10.0]
    assert WARN_AT == (60.0, 10.0)


async def test_long_sessions_commit_on_the_way(house: House) -> None:
    """What a recording has committed to is in the log while it runs; the final one is written with the end."""
    agent = await house.add("deployer")
    ticket = await house.started(agent, await house.granted(agent), HANG)
    async with house.running(ticket):
        sink = house.recordings.sinks[0]
        for leaves, final in ((5, True), (7, False)):
            sink.checkpoints.put_nowait(
                PartCheckpoint(rec=sink.rec, part=0, leaves=leaves, root=bytes(32), final=final)
            )
        await until_event(house, "recording.checkpoint")
        assert (await session_of(house, ticket)).recording_leaves == 7
        await house.world.live.cut(Scope(tenant=TENANT), "test", within=1)
    assert (await session_of(house, ticket)).recording_state == "final"
    assert (await house.events()).count("recording.checkpoint") == 1


async def until_event(house: House, name: str) -> None:
    """Waits for an audit event."""
    for _ in range(200):
        if name in await house.events():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"no {name}")
