"""A worker that somebody else speaks for: it costs itself its life, and the control process and the others nothing."""

from __future__ import annotations

import asyncio
import json

import pytest

from broker.bus import messages as m
from broker.bus.client import BusControl
from broker.bus.codec import BusError
from broker.bus.held import NOTES_AT_ONCE
from broker.bus.peer import BusLost
from broker.core.action import Action, ActionState
from broker.core.cert import CertSpec
from broker.core.errors import Fault, Refusal, SignerFault
from broker.core.grant import EndReason
from broker.core.ids import GrantId, SessionId
from broker.core.sshwire import ed25519_blob
from broker.service.live import Scope
from broker.service.start import Ticket
from recorder.events import Kind
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.bus.world import admitted, command, line, over_the_bus
from tests.broker.service.somebody import Somebody
from tests.broker.service.world import HANG, READ, House, until

KEY = ed25519_blob(bytes(range(32)))


async def held(house: House, control: BusControl, agent: Somebody, text: bytes = READ) -> Ticket:
    """A ticket in a worker's hands, of a grant of its own."""
    admission = await admitted(house, control, agent, await house.granted(agent))
    ticket = (await control.propose(admission, command(text))).ticket
    assert ticket is not None
    return ticket


async def entered(control: BusControl, ticket: Ticket) -> SessionId:
    """It runs, as far as control can see."""
    await control.peer.ask(m.ENTER, m.Entering(ticket.session.id, None))
    return ticket.session.id


async def ended_by(control: BusControl, ask: m.Ask[m.Q, m.A], question: m.Q) -> None:
    """The question ends who asks it."""
    with pytest.raises(BusLost):
        async with asyncio.timeout(10):
            await control.peer.ask(ask, question)


async def of(house: House, ticket: Ticket) -> Action:
    """Its action, as the store has it."""
    return await house.action(ticket.action)


# ---- what ended stays ended ------------------------------------------------------------------------------------------
async def test_a_ticket_that_was_kept_does_not_begin_after_the_end(house: House) -> None:
    """I-02: handed out before the revocation and entered after it, it is refused, whoever waited and for how long."""
    agent, owner = await house.add("deployer"), await house.add("olga")
    async with over_the_bus(house) as control:
        ticket = await held(house, control, agent)
        await house.cases.ending.end(TENANT, ticket.grant.id, EndReason.REVOKED, by=owner.id)
        with pytest.raises(Refusal, match="the grant is over"):
            await entered(control, ticket)
        assert house.world.live.count() == 0


async def test_no_certificate_once_it_was_cut(house: House) -> None:
    """I-02: between the cut and the worker's word that it is over, nothing more is signed for the session."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        session = await entered(control, await held(house, control, agent, HANG))
        cutting = asyncio.ensure_future(  # noqa: TID251  awaited below
            house.world.live.cut(Scope(tenant=TENANT), "revoked", within=10)
        )
        await asyncio.sleep(0)
        asked = len(house.signer.asked)
        with pytest.raises(SignerFault):
            await control.peer.ask(m.CERTIFICATE, m.Certificate(session, KEY, "10.0.0.1", files=False))
        control.peer.tell(m.LEFT, m.OfSession(session))
        await cutting
        assert len(house.signer.asked) == asked


@pytest.mark.parametrize("source", ["10.0.0.0/8", "10.0.0.1,10.0.0.2", "0.0.0.0/1", "web1", "", "fe80::1%eth0"])
async def test_a_certificate_works_from_one_address(house: House, source: str) -> None:
    """I-06: a worker says where it connects from, and not from where else."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        session = await entered(control, await held(house, control, agent))
        await ended_by(control, m.CERTIFICATE, m.Certificate(session, KEY, source, files=False))
    assert not [spec for spec in house.signer.asked if isinstance(spec, CertSpec) and spec.ca == "egress"]


async def test_a_session_is_not_within_another_grants(house: House) -> None:
    """I-22: whoever watches a session of one grant does not watch those of another by it."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        above = await entered(control, await held(house, control, agent, HANG))
        other = await held(house, control, agent)
        await ended_by(control, m.ENTER, m.Entering(other.session.id, above))


# ---- what it says of an end ------------------------------------------------------------------------------------------
LIES = {
    "a status beyond any": m.Over(SessionId(""), 1 << 63, "", "", cut=False, leaves=0, root=b"", sealed=False),
    "a status below none": m.Over(SessionId(""), -1, "", "", cut=False, leaves=0, root=b"", sealed=False),
    "a text": m.Over(SessionId(""), None, "", "\x1b[2J" * 100, cut=True, leaves=0, root=b"", sealed=False),
    "a long signal": m.Over(SessionId(""), None, "S" * 65, "", cut=False, leaves=0, root=b"", sealed=False),
    "no root": m.Over(SessionId(""), 0, "", "", cut=False, leaves=3, root=b"", sealed=True),
    "leaves beyond any": m.Over(SessionId(""), 0, "", "", cut=False, leaves=1 << 63, root=b"r" * 32, sealed=True),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_an_end_that_cannot_be_written_loses_no_session(house: House, lie: m.Over) -> None:
    """Its ticket is not taken back for it: the session is written as the dead worker's."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        ticket = await held(house, control, agent)
        said = m.Over(
            ticket.session.id, lie.exit_status, lie.signal, lie.reason, cut=lie.cut, leaves=lie.leaves, root=lie.root,
            sealed=lie.sealed,
        )  # fmt: skip
        await ended_by(control, m.FINISH, said)
    action = await of(house, ticket)
    assert (action.state, action.outcome and action.outcome.reason) == (ActionState.CUT, "worker_lost")


async def test_a_checkpoint_opens_no_session_again(house: House) -> None:
    """I-32: one that comes later than the end, however that came about, changes nothing."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        ticket = await held(house, control, agent)
        await control.peer.ask(m.FINISH, m.Over(ticket.session.id, 0, "", "", False, 0, b"", False))  # noqa: FBT003
    before = await house.world.store.read(TENANT, lambda tx: tx.sessions.get(ticket.session.id))
    await house.cases.control.note(ticket.session, leaves=7, root=b"r" * 32)
    assert before is not None
    assert await house.world.store.read(TENANT, lambda tx: tx.sessions.get(ticket.session.id)) == before


async def test_checkpoints_do_not_fill_the_log(house: House) -> None:
    """I-60: a few at once and then some a minute; one that takes back what was committed ends the worker."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        session = await entered(control, await held(house, control, agent, HANG))
        for leaves in range(1, 3 * NOTES_AT_ONCE):
            await control.peer.ask(m.NOTE, m.Noted(session, leaves, b"r" * 32))
        assert (await house.events()).count("recording.checkpoint") <= NOTES_AT_ONCE
        await ended_by(control, m.NOTE, m.Noted(session, 1, b"r" * 32))


# ---- what it does to the control process -----------------------------------------------------------------------------
async def test_an_event_that_nobody_can_read_ends_it_alone(house: House) -> None:
    """An EXEC nested without end: the desk ends in good order, and what the worker ran is written."""
    agent = await house.add("deployer")
    async with over_the_bus(house) as control:
        ticket = await held(house, control, agent, HANG)
        session = await entered(control, ticket)
        (live,) = house.world.live.all()
        async with live.shown():
            control.peer.tell(m.HEAD, m.Head(session, 0, 0, terminal=False, columns=0, rows=0, restore=b""))
            await control.peer.told(m.RECORDED, m.Recorded(session, 0, Kind.EXEC, 0, b"[" * 200_000))
            await until(lambda: house.world.live.count() == 0, within_s=20)
    assert (await of(house, ticket)).state is ActionState.CUT


async def test_a_beat_counts_no_more_than_can_be(house: House) -> None:
    """I-60: counters are told with each beat; no word of a worker keeps the control process busy."""
    most = tuple(m.Counted("connections_refused", "reason", "late", 10_000) for _ in range(60))
    async with over_the_bus(house) as control:
        for _ in range(50):
            await control.peer.told(m.BEAT, m.Beat(0.0, most))
        await until(lambda: any(name == "connections_refused" for name, _ in house.meter.counted), within_s=20)
        many = tuple(m.Counted("connections_refused", "reason", "late", 1) for _ in range(5_000))
        await control.peer.told(m.BEAT, m.Beat(0.0, many))
        with pytest.raises(BusLost):
            async with asyncio.timeout(10):
                await control.peer.ask(m.IS_OVER, m.UnderGrant(GrantId("g")))
    assert len(house.meter.counted) < 10_000


async def test_a_flood_of_words_leaves_the_loop_to_others(house: House) -> None:
    """I-60: between two looks of anybody else no more than a few of its frames are heeded."""
    async with line(house) as made:
        heeded = 0
        heed = made.desk.peer._heed  # noqa: SLF001

        def counted(message: object, group: asyncio.TaskGroup) -> None:
            nonlocal heeded
            heeded += 1
            heed(message, group)

        made.desk.peer._heed = counted  # type: ignore[method-assign]  # noqa: SLF001
        body = json.dumps(["tell", "left", {"session": "x"}]).encode()
        made.writer.write((len(body).to_bytes(4, "big") + body) * 5_000)
        worst = 0
        while heeded < 5_000:
            before = heeded
            await asyncio.sleep(0)
            worst = max(worst, heeded - before)
        assert worst <= 200


async def test_an_answer_that_is_none_keeps_nobody_waiting(house: House) -> None:
    """Whoever asked hears that the worker is gone."""
    async with line(house) as made:
        asking = asyncio.ensure_future(  # noqa: TID251  awaited below
            made.desk.peer.ask(m.MARK, m.Marks(SessionId("s"), "a", "b", ""))
        )
        await made.reader.readexactly(4)
        body = json.dumps(["yes", 1, {"more": 1}]).encode()
        made.writer.write(len(body).to_bytes(4, "big") + body)
        with pytest.raises(Fault) as caught:
            async with asyncio.timeout(10):
                await asking
        assert not isinstance(caught.value, BusError)


async def test_a_desk_ends_although_its_bus_stays_open(house: House) -> None:
    """The other end may be in the hands of a process that the worker made: what it ran is written all the same."""
    agent = await house.add("deployer")
    async with line(house) as made:
        control = house.cases.control
        admission = await admitted(house, control, agent, await house.granted(agent))
        made.desk._admissions[admission.grant.id] = admission  # noqa: SLF001
        decided = await made.desk._propose(m.Proposed(admission.grant.id, command(HANG)))  # noqa: SLF001
        assert decided.ticket is not None
        await made.desk._enter(m.Entering(decided.ticket.session.id, None))  # noqa: SLF001
        made.desk._kill = lambda: None  # noqa: SLF001
        made.desk.end()
        await until(lambda: house.world.live.count() == 0, within_s=20)
