"""What a worker may say. Whatever else it says ends it, changes nothing, and never ends the control process."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.bus import codec, desk, far
from broker.bus import messages as m
from broker.bus.peer import FROM_WORKER_BYTES, BusLost
from broker.core.action import ActionState
from broker.core.cert import CertSpec
from broker.core.ids import ActionId, GrantId, SessionId
from broker.core.sshwire import ed25519_blob
from broker.service.live import Scope
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.bus.world import Line, admitted, command, line, over_the_bus
from tests.broker.service.world import HANG, READ, WRITE, House, until

STRANGER = SessionId("se_" + "a" * 26)


def framed(message: object) -> bytes:
    """As the bus has it."""
    body = json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


def asked(ask: m.Ask[m.Q, m.A], question: m.Q, number: int = 1) -> bytes:
    """A question."""
    return framed(["ask", number, ask.verb, codec.write(ask.question, question)])


def over(session: SessionId) -> m.Over:
    """An end."""
    return m.Over(session, 0, "", "", cut=False, leaves=0, root=b"", sealed=False)


async def ended(made: Line) -> bool:
    """Whether the desk hung up, and had the worker ended."""
    async with asyncio.timeout(10):
        while await made.reader.read(65_536):
            pass
    return bool(made.kills)


KEY = ed25519_blob(bytes(range(32)))
TRESPASSES = {
    "no such verb": framed(["ask", 1, "reveal", {}]),
    "a control's verb": framed(["ask", 1, "cut", codec.write(m.Cutting, m.Cutting(STRANGER, "x", ""))]),
    "no such word": framed(["tell", "reveal", {}]),
    "no message": framed({"ask": 1}),
    "no JSON": struct.pack(">I", 4) + b"\x80\x04N.",
    "too long": struct.pack(">I", FROM_WORKER_BYTES + 1),
    "an answer to nothing": framed(["yes", 7, {}]),
    "another's session": asked(m.ENTER, m.Entering(STRANGER, None)),
    "another's end": asked(m.FINISH, over(STRANGER)),
    "another's certificate": asked(m.CERTIFICATE, m.Certificate(STRANGER, KEY, "127.0.0.1", files=False)),
    "another's checkpoint": asked(m.NOTE, m.Noted(STRANGER, 1, b"r" * 32)),
    "another's ticket": asked(m.ABANDON, m.OfSession(STRANGER)),
    "a counter of control's": framed(
        ["tell", "beat", codec.write(m.Beat, m.Beat(0.0, (m.Counted("executions", "state", "succeeded", 1),)))]
    ),
    "a label that is no word": framed(
        ["tell", "beat", codec.write(m.Beat, m.Beat(0.0, (m.Counted("connections_refused", "reason", "A\n", 1),)))]
    ),
    "more counters than there are": framed(
        ["tell", "beat", codec.write(m.Beat, m.Beat(0.0, (m.Counted("connections_refused", "reason", "x", 1),) * 65))]
    ),
    "a counter that ran away": framed(
        ["tell", "beat", codec.write(m.Beat, m.Beat(0.0, (m.Counted("connections_refused", "reason", "x", 2**40),)))]
    ),
    "a number twice": asked(m.FOLLOW_ACTION, m.Followed(GrantId("g"), ActionId("a"), None))
    + asked(m.FOLLOW_ACTION, m.Followed(GrantId("g"), ActionId("a"), None)),
}


@pytest.mark.parametrize("said", TRESPASSES.values(), ids=TRESPASSES.keys())
async def test_who_trespasses_is_ended(house: House, said: bytes) -> None:
    """At once, and nothing was written."""
    before = await house.events()
    async with line(house) as made:
        made.writer.write(said)
        assert await ended(made)
    assert await house.events() == before


async def test_a_grant_that_was_not_admitted_here(house: House) -> None:
    """A worker names a grant that exists, and that another worker has: it is refused like one that does not exist."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    async with line(house) as made:
        made.writer.write(asked(m.PROPOSE, m.Proposed(grant, command(READ))))
        (size,) = struct.unpack(">I", await made.reader.readexactly(4))
        answer = json.loads(await made.reader.readexactly(size))
        assert (answer[0], answer[2][1]) == ("no", "not_admitted")
    assert "action.running" not in await house.events()


async def test_a_ticket_is_used_once_and_ends_once(house: House) -> None:
    """Entered twice, ended while it runs, ended twice: each ends the worker."""
    agent = await house.add("deployer")
    grant = await house.granted(agent)
    for trespass in (
        [(m.ENTER, "enter"), (m.ENTER, "enter")],
        [(m.ENTER, "enter"), (m.FINISH, "end")],
        [(m.FINISH, "end"), (m.FINISH, "end")],
    ):
        async with over_the_bus(house) as control:
            admission = await admitted(house, control, agent, grant)
            ticket = (await control.propose(admission, command(READ))).ticket
            assert ticket is not None
            session = ticket.session.id
            first, last = (over(session) if what == "end" else m.Entering(session, None) for _, what in trespass)
            await control.peer.ask(trespass[0][0], first)  # type: ignore[arg-type]
            with pytest.raises(BusLost):
                await control.peer.ask(trespass[1][0], last)  # type: ignore[arg-type]
        assert (await house.action(ticket.action)).state is not ActionState.RUNNING
        assert house.world.live.count() == 0


async def test_a_certificate_is_the_tickets_own(house: House) -> None:
    """For the command that was decided, whatever the worker asks for; three of a ticket, and only while it runs."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        admission = await admitted(house, control, agent, await house.granted(agent, flags=frozenset()))
        ticket = (await control.propose(admission, command(READ))).ticket
        assert ticket is not None
        wanted = m.Certificate(ticket.session.id, KEY, "10.0.0.1", files=False)
        async with control.running(ticket.session):
            for _ in range(desk.CERTIFICATES):
                await control.peer.ask(m.CERTIFICATE, wanted)
        spec = house.signer.asked[-1]
        assert isinstance(spec, CertSpec)
        assert (spec.key_id, spec.source_address) == (ticket.grant.id, "10.0.0.1")
        assert "credential.issued" in await house.events()
        with pytest.raises(BusLost):
            await control.peer.ask(m.CERTIFICATE, wanted)


async def test_what_a_dead_worker_held_is_written(house: House) -> None:
    """What ran and what was about to is cut; what waited is taken back; nothing of it counts as running."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        admission = await admitted(house, control, agent, await house.granted(agent))
        running = (await control.propose(admission, command(HANG))).ticket
        ready = (await control.propose(admission, command(READ))).ticket
        waiting = (await control.propose(admission, command(WRITE))).action
        assert running is not None
        assert ready is not None
        await control.peer.ask(m.ENTER, m.Entering(running.session.id, None))
        assert house.world.live.count() == 1
    for ticket in (running, ready):
        action = await house.action(ticket.action)
        assert (action.state, action.outcome and action.outcome.reason) == (ActionState.CUT, desk.WORKER_LOST)
    assert (await house.action(waiting)).state is ActionState.CANCELLED
    assert house.world.live.count() == 0


async def test_a_cut_that_is_not_answered_ends_the_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-02: the cut is over in time, and what the worker ran is written as cut for that reason."""
    monkeypatch.setattr(far, "HEARD_WITHIN", 0.05)
    agent = await house.add("deployer")
    async with line(house) as made:
        control = house.cases.control
        admission = await admitted(house, control, agent, await house.granted(agent))
        made.desk._admissions[admission.grant.id] = admission  # noqa: SLF001
        decided = await made.desk._propose(m.Proposed(admission.grant.id, command(HANG)))  # noqa: SLF001
        assert decided.ticket is not None
        await made.desk._enter(m.Entering(decided.ticket.session.id, None))  # noqa: SLF001
        cut = await house.world.live.cut(Scope(tenant=TENANT), "revoked", within=10)
        assert cut.late == ()
        assert made.kills
    action = await house.action(decided.action)
    assert (action.state, action.outcome and action.outcome.reason) == (ActionState.CUT, "revoked")


VERBS = ["admit", "propose", "start", "enter", "finish", "certificate"]
MESSAGES = st.one_of(
    st.binary(max_size=64),
    st.tuples(
        st.sampled_from(["ask", "tell", "yes", "no", "never", "x"]), st.integers(0, 3) | st.text(max_size=3),
        st.sampled_from([*VERBS, "left", "opened", "recorded", "head", "beat", "?"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=6),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["session", "grant", "action", "line", "pty"]), inner, max_size=3),
            max_leaves=6,
        ),
    ).map(lambda parts: framed(list(parts))),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MESSAGES, max_size=6))
async def test_nothing_that_comes_is_more_than_refused(house: House, said: list[bytes]) -> None:
    """Whatever bytes: the desk ends or goes on, nothing runs and nothing is written."""
    async with line(house) as made:
        for each in said:
            made.writer.write(each)
        made.writer.write_eof()
        async with asyncio.timeout(10):
            while await made.reader.read(65_536):
                pass
    assert house.world.live.count() == 0
    assert house.targets.plans == []
    assert not {"action.running", "session.opened", "credential.issued"} & set(await house.events())


async def test_a_defect_of_the_desks_own_ends_its_worker_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """An error that nobody thought of, in a word or in an end: what the worker held is written all the same."""

    def breaks(*_: object) -> None:
        raise RuntimeError("a defect")

    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        admission = await admitted(house, control, agent, await house.granted(agent))
        first = (await control.propose(admission, command(HANG))).ticket
        second = (await control.propose(admission, command(HANG))).ticket
        assert first is not None
        assert second is not None
        for ticket in (first, second):
            await control.peer.ask(m.ENTER, m.Entering(ticket.session.id, None))
        monkeypatch.setattr(far.FarSession, "recorded", breaks)
        monkeypatch.setattr(far.FarSession, "leave", _once_broken(far.FarSession.leave))
        await control.peer.told(m.RECORDED, m.Recorded(first.session.id, 0, 1, 0, b"x"))
        await until(lambda: house.world.live.get(TENANT, second.session.id) is None)
    assert (await house.action(second.action)).state is ActionState.CUT


def _once_broken(leave: Callable[[far.FarSession], Awaitable[None]]) -> Callable[[far.FarSession], Awaitable[None]]:
    broken: list[None] = []

    async def leaves(self: far.FarSession) -> None:
        if not broken:
            broken.append(None)
            await leave(self)
            raise RuntimeError("a defect")
        await leave(self)

    return leaves


async def test_a_feed_that_goes_on(house: House) -> None:
    """Events of a session that is not followed are not taken; a head that cannot be ends the worker."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        admission = await admitted(house, control, agent, await house.granted(agent))
        ticket = (await control.propose(admission, command(HANG))).ticket
        assert ticket is not None
        session = ticket.session.id
        await control.peer.ask(m.ENTER, m.Entering(session, None))
        await control.peer.told(m.RECORDED, m.Recorded(session, 0, 1, 0, b"unseen"))
        (live,) = house.world.live.all()
        assert live.feed.snapshot().next_seq == 0
        await control.peer.told(m.HEAD, m.Head(session, 5, 3, terminal=False, columns=0, rows=0, restore=b""))
        await until(lambda: house.world.live.count() == 0)
