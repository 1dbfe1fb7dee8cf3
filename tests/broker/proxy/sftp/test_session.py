"""One file session: what is asked reaches the right server or none, noted before; whatever comes, it ends well."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core import sftp
from broker.core.action import Outcome
from broker.core.errors import TargetFault
from broker.core.sftp import EXTENSIONS, SHAPES, Field, Op, Open, Reply, Status, class_of
from broker.proxy.sftp import session as sessions
from broker.proxy.sftp.packets import string
from broker.service.pump import CutShort
from broker.service.transfer import NotAllowed
from policy.classes import CommandClass
from tests.broker.proxy.sftp.world import ATTRS, INIT, Stage, in_pieces, linked, opened, request, said, u32, u64

FIELDS = {
    Field.PATH: string(b"/srv/a"), Field.OTHER: string(b"/srv/b"), Field.HANDLE: string(u32(1)),
    Field.FLAGS: u32(Open.READ), Field.ATTRS: ATTRS, Field.OFFSET: u64(0), Field.LENGTH: u32(64),
    Field.DATA: string(b"data"), Field.TEXT: string(b"root"),
}  # fmt: skip
HANDLE = string(u32(1))
"""The first that a session gives out."""


def every_operation() -> list[bytes]:
    """One request of each kind, numbered from 100 on."""
    plain = [request(100 + op, op, *(FIELDS[field] for field in shape.fields)) for op, shape in SHAPES.items()]
    extended = [
        request(400 + number, Op.EXTENDED, string(name), *(FIELDS[field] for field in shape.fields))
        for number, (name, shape) in enumerate(EXTENSIONS.items())
    ]
    flags = [opened(500 + flag, b"/srv/a", flag) for flag in range(64)]
    return plain + extended + flags


async def test_reads_need_nobody() -> None:
    """The session that writes is not even asked for (I-18): reading is what was decided."""
    stage = Stage()
    stage.reader.files[b"/srv/a"] = bytearray(b"content")
    await stage.run(
        opened(1, b"/srv/a", Open.READ), request(2, Op.READ, HANDLE, u64(0), u32(100)),
        request(3, Op.READ, HANDLE, u64(7), u32(100)), request(4, Op.CLOSE, HANDLE),
    )  # fmt: skip
    assert stage.client.asked == 0
    assert stage.writer.asked == []
    assert request(2, Reply.DATA, string(b"content")) in stage.client.answers()
    (get,) = stage.notes("get")
    assert get == {
        "op": "get", "path": "/srv/a", "file": 1, "result": "ok", "off": 0, "len": 7, "total": None,
        "sha256": hashlib.sha256(b"content").hexdigest(),
    }  # fmt: skip


async def test_a_write_is_noted_before_it_is_sent_and_again_with_its_result() -> None:
    """I-30: the recorder has it first; the client hears of it last."""
    stage = Stage()
    await stage.run(request(1, Op.RENAME, string(b"/srv/a"), string(b"/srv/b")))
    told = {"op": "rename", "path": "/srv/a", "to": "/srv/b"}
    assert stage.journal[-4:-1] == [
        ("noted writer", told), ("sent writer", Op.RENAME), ("noted writer", told | {"result": "ok"}),
    ]  # fmt: skip
    assert stage.journal[-1][0] == "told"


async def test_a_file_that_is_put_has_its_hash() -> None:
    """formats.md 1.2: bytes, and SHA-256 of what went through whole and in order."""
    stage = Stage()
    data = random.Random(1).randbytes(300_000)
    writes = [
        request(10 + at // 30_000, Op.WRITE, HANDLE, u64(at), string(data[at : at + 30_000]))
        for at in range(0, len(data), 30_000)
    ]
    flags = Open.WRITE | Open.CREAT | Open.TRUNC
    await stage.run(opened(1, b"/up", flags), *writes, request(2, Op.CLOSE, HANDLE))
    assert stage.writer.files[b"/up"] == data
    assert stage.reader.asked == []
    (put,) = stage.notes("put")
    assert (put["len"], put["sha256"]) == (300_000, hashlib.sha256(data).hexdigest())
    assert [note.get("flags") for note in stage.notes("open")] == ["write creat trunc"] * 2


async def test_out_of_order_there_are_ranges_and_no_hash() -> None:
    """A hash is only what it says it is."""
    stage = Stage()
    await stage.run(
        opened(1, b"/up", Open.WRITE | Open.CREAT | Open.TRUNC), request(2, Op.WRITE, HANDLE, u64(5), string(b"late")),
        request(3, Op.WRITE, HANDLE, u64(0), string(b"early")), request(4, Op.CLOSE, HANDLE),
    )  # fmt: skip
    (put,) = stage.notes("put")
    assert (put["sha256"], put["ranges"], put["len"]) == (None, [[5, 9], [0, 5]], 9)


async def test_a_file_that_nobody_closes_is_noted_too() -> None:
    """What went through is known, however the session ends."""
    stage = Stage()
    await stage.run(opened(1, b"/up", Open.WRITE | Open.CREAT), request(2, Op.WRITE, HANDLE, u64(0), string(b"half")))
    assert [(note["op"], note["len"], note["result"]) for note in stage.notes("put")] == [("put", 4, "not_closed")]


async def test_what_is_denied_is_noted_and_the_session_goes_on() -> None:
    """The gate says no once; every write is refused in the fixed words, every read goes on (I-18, I-20)."""
    stage = Stage(allows=False)
    await stage.run(
        request(1, Op.REMOVE, string(b"/srv/a")), request(2, Op.STAT, string(b"/srv")),
        request(3, Op.MKDIR, string(b"/srv/d"), ATTRS), opened(4, b"/srv/x", Open.WRITE),
    )  # fmt: skip
    assert stage.client.asked == 1
    assert stage.statuses() == dict.fromkeys((1, 3, 4), Status.PERMISSION_DENIED)
    assert stage.writer.asked == []
    assert [packet[0] for packet in stage.reader.asked] == [Op.STAT]
    denied = [note["op"] for note in stage.notes() if note.get("result") == "denied"]
    assert denied == ["remove", "mkdir", "open"]


@pytest.mark.parametrize("allows", [True, False])
async def test_no_operation_above_read_reaches_the_server_that_reads(*, allows: bool) -> None:
    """I-18, F04: whatever is asked, in whatever order, on whatever handle."""
    for seed in range(5):
        stage = Stage(allows=allows)
        asked = every_operation()
        random.Random(seed).shuffle(asked)
        await stage.run(opened(1, b"/srv/a", Open.READ), *asked)
        assert {class_of(packet) for packet in stage.reader.asked} == {CommandClass.READ}
        if not allows:
            assert stage.writer.asked == []


async def test_a_file_opened_for_reading_is_never_written() -> None:
    """Its handle belongs to the server that reads: nothing is asked of anybody."""
    stage = Stage()
    await stage.run(
        opened(1, b"/srv/a", Open.READ), request(2, Op.WRITE, HANDLE, u64(0), string(b"x")),
        request(3, Op.FSETSTAT, HANDLE, ATTRS), request(4, Op.EXTENDED, string(b"fsync@openssh.com"), HANDLE),
    )  # fmt: skip
    assert stage.statuses() == dict.fromkeys((2, 3, 4), Status.PERMISSION_DENIED)
    assert stage.client.asked == 0


async def test_the_link_itself_refuses_what_is_above_its_class() -> None:
    """A second look, below the door: a defect up there sends nothing."""
    stage = Stage()
    link = linked(stage.reader, stage.journal, CommandClass.READ)
    for packet in every_operation():
        if class_of(packet) is not CommandClass.READ:
            with pytest.raises(NotAllowed):
                await link.say([opened(1, b"/a", Open.READ), packet])
    with pytest.raises(NotAllowed):
        await link.say([request(1, Op.EXTENDED, string(b"copy-data"))])
    assert stage.reader.asked == []


async def test_reads_are_answered_while_a_person_decides() -> None:
    """The client waits with its write; what was asked before is answered."""
    stage = Stage()
    stage.client.decided.clear()
    stage.client.send(INIT, request(1, Op.STAT, string(b"/")), request(2, Op.REMOVE, string(b"/a")))
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.until_its_end())
        async with asyncio.timeout(5):
            while len(stage.client.answers()) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert stage.writer.asked == []
        stage.client.decided.set()
        async with asyncio.timeout(5):
            while 2 not in stage.statuses():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        stage.client.feed(b"")
    assert stage.statuses() == {2: Status.OK}


async def test_what_was_asked_first_is_done_first() -> None:
    """A client may ask for what it did not wait for: sshfs opens a new file and looks at it in one breath."""
    stage = Stage()
    held: list[bytes] = []
    honest = stage.writer.honest

    def hold(packet: bytes) -> bytes:
        held.append(honest(packet))
        return b""

    stage.writer.answer = hold
    stage.client.send(INIT, opened(1, b"/new", Open.WRITE | Open.CREAT), request(2, Op.LSTAT, string(b"/new")))
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.until_its_end())
        async with asyncio.timeout(5):
            while not held:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert stage.reader.asked == []
            stage.writer.push(held.pop())
            while not stage.reader.asked:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        stage.client.feed(b"")
    assert [packet[0] for packet in stage.client.answers()[1:]] == [Reply.HANDLE, Reply.ATTRS]


async def test_copies_both_ways_go_on_side_by_side() -> None:
    """What is asked of one open file does not wait for another's."""
    stage = Stage()
    stage.reader.files[b"/a"] = bytearray(b"content")
    flags = Open.WRITE | Open.CREAT | Open.TRUNC
    await stage.run(opened(1, b"/a", Open.READ), opened(2, b"/b", flags))
    both = Stage()
    both.writer.answer = lambda packet: both.writer.honest(packet) if packet[0] == Op.OPEN else b""
    both.client.send(INIT, opened(1, b"/a", Open.READ))
    async with asyncio.TaskGroup() as group:
        group.create_task(both.until_its_end())
        async with asyncio.timeout(10):
            while len(both.client.answers()) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            both.client.send(opened(2, b"/b", flags))
            while len(both.client.answers()) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            write = request(3, Op.WRITE, string(u32(2)), u64(0), string(b"data"))
            both.client.send(write, request(4, Op.READ, HANDLE, u64(0), u32(10)))
            while len(both.client.answers()) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            both.writer.push(said(3, Status.OK))
            both.client.feed(b"")


async def test_what_is_unknown_is_unsupported_and_named_by_its_number() -> None:
    """A client's own words are in no note; copy-data, which would outlive its session, is not offered."""
    stage = Stage()
    await stage.run(
        request(1, 21, string(b"x")), request(2, Op.EXTENDED, string(b"\x1b[2J")),
        request(3, Op.EXTENDED, string(b"copy-data"), string(u32(1))),
    )  # fmt: skip
    assert stage.statuses() == dict.fromkeys((1, 2, 3), Status.OP_UNSUPPORTED)
    assert [note["op"] for note in stage.notes()] == ["type 21", "extension", "extension"]
    offered = stage.client.answers()[0]
    assert b"statvfs@openssh.com" in offered
    assert b"posix-rename@openssh.com" in offered
    assert b"copy-data" not in offered
    assert b"made-up" not in offered


async def test_a_targets_own_words_reach_nobody() -> None:
    """I-27: the code passes, the sentence is ours."""
    stage = Stage()
    stage.reader.answer = lambda packet: said(int.from_bytes(packet[1:5], "big"), 3, b"\x1b]0;evil\x07")
    await stage.run(request(1, Op.STAT, string(b"/")))
    assert stage.statuses() == {1: Status.PERMISSION_DENIED}
    assert b"evil" not in stage.client.told
    assert b"Permission denied" in stage.client.told


HOSTILE = {
    "an entry that climbs": lambda n: request(n, Reply.NAME, u32(1), string(b"../x"), string(b""), ATTRS),
    "an empty entry": lambda n: request(n, Reply.NAME, u32(1), string(b""), string(b""), ATTRS),
    "fewer entries than it says": lambda n: request(n, Reply.NAME, u32(2), string(b"x"), string(b""), ATTRS),
    "an answer to another question": lambda n: request(n, Reply.DATA, string(b"x")),
    "an answer to nothing": lambda n: request(n + 9, Reply.STATUS, u32(0), string(b""), string(b"")),
    "a request": lambda n: request(n, Op.STAT, string(b"/")),
    "success without a name": lambda n: request(n, Reply.STATUS, u32(0), string(b""), string(b"")),
}


@pytest.mark.parametrize("what", list(HOSTILE))
async def test_a_hostile_server_ends_the_session(what: str) -> None:
    """F30: nothing of it reaches the client."""
    stage = Stage()
    honest = stage.reader.honest

    def answer(packet: bytes) -> bytes:
        if packet[0] != Op.READDIR:
            return honest(packet)
        hostile = HOSTILE[what](int.from_bytes(packet[1:5], "big"))
        return u32(len(hostile)) + hostile

    stage.reader.answer = answer
    with pytest.raises(TargetFault):
        await stage.run(request(1, Op.OPENDIR, string(b"/")), request(2, Op.READDIR, HANDLE))
    assert [packet[0] for packet in stage.client.answers()] == [sftp.VERSION_TYPE, Reply.HANDLE]


async def test_more_than_was_asked_for_ends_the_session() -> None:
    """A server that floods a read is no server."""
    stage = Stage()
    honest = stage.reader.honest
    flood = request(2, Reply.DATA, string(bytes(101)))
    stage.reader.answer = lambda packet: u32(len(flood)) + flood if packet[0] == Op.READ else honest(packet)
    with pytest.raises(TargetFault):
        await stage.run(opened(1, b"/a", Open.READ), request(2, Op.READ, HANDLE, u64(0), u32(100)))


async def test_a_server_that_ends_ends_the_session() -> None:
    """The client does not wait for ever."""
    stage = Stage()
    stage.client.send(INIT)
    stage.reader.end(Outcome(exit_status=127, signal="", reason=""))
    await stage.until_its_end()


async def test_handles_are_the_sessions_own() -> None:
    """Two servers name their files alike; the client sees neither's names, and no other's works."""
    stage = Stage()
    flags = Open.WRITE | Open.CREAT
    await stage.run(
        opened(1, b"/r", Open.READ), opened(2, b"/w", flags), request(3, Op.CLOSE, string(u32(0))),
        request(4, Op.CLOSE, string(u32(2))), request(5, Op.CLOSE, HANDLE), request(6, Op.CLOSE, HANDLE),
    )  # fmt: skip
    assert stage.statuses() == {3: Status.FAILURE, 4: Status.OK, 5: Status.OK, 6: Status.FAILURE}
    assert [packet[0] for packet in stage.reader.asked] == [Op.OPEN, Op.CLOSE]
    assert [packet[0] for packet in stage.writer.asked] == [Op.OPEN, Op.CLOSE]


async def test_open_files_and_open_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """M4: a client gets no more handles than there are, and is not read while too much is unanswered."""
    monkeypatch.setattr(sessions, "MAX_FILES", 3)
    stage = Stage()
    await stage.run(*(opened(number, b"/a", Open.READ) for number in range(5)))
    assert stage.statuses() == {3: Status.FAILURE, 4: Status.FAILURE}
    monkeypatch.setattr(sessions, "MAX_PENDING", 4)
    monkeypatch.setattr(sessions, "ANSWERS_WITHIN_S", 0.05)
    mute = Stage()
    mute.reader.answer = lambda _packet: b""
    mute.client.send(INIT, *(request(number, Op.STAT, string(b"/")) for number in range(9)))
    with pytest.raises(TimeoutError):
        await mute.until_its_end(within=1)
    assert len(mute.reader.asked) == 4


async def test_notes_are_bounded() -> None:
    """A client that asks without end fills no disk."""
    stage = Stage()
    stage.client.send(INIT)
    for number in range(3_000):
        stage.client.send(request(number, 99))
    with pytest.raises(Exception, match="output_limit"):
        await stage.until_its_end()


@settings(max_examples=60, deadline=None)
@given(
    noise=st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(every_operation())), max_size=8),
    raw=st.binary(max_size=64),
    sizes=st.lists(st.integers(1, 50), max_size=4),
)
def test_whatever_a_client_sends_the_session_ends(noise: list[bytes], raw: bytes, sizes: list[int]) -> None:
    """Any bytes, cut anywhere: refused or answered, never a crash; and nothing above read reaches the reader."""
    stage = Stage(allows=False)
    stream = b"".join(u32(len(packet)) + packet for packet in (INIT, *noise)) + raw
    for piece in in_pieces(stream, sizes):
        stage.client.feed(piece)
    stage.client.feed(b"")
    asyncio.run(stage.until_its_end())
    assert {class_of(packet) for packet in stage.reader.asked} <= {CommandClass.READ}


@settings(max_examples=60, deadline=None)
@given(greeting=st.one_of(st.none(), st.binary(min_size=1, max_size=30)), says=st.binary(min_size=1, max_size=60))
def test_whatever_a_server_says_the_session_ends(greeting: bytes | None, says: bytes) -> None:
    """Any bytes: the session ends with a fault of the target's or goes on, and nothing else is raised."""
    stage = Stage(greeting=greeting)
    stage.reader.answer = lambda _packet: says

    async def run() -> None:
        stage.client.send(INIT, request(1, Op.STAT, string(b"/")))
        stage.client.feed(b"")
        asyncio.get_running_loop().call_later(0.02, stage.reader.end, Outcome(exit_status=0, signal="", reason=""))
        await stage.until_its_end()

    try:
        asyncio.run(run())
    except TargetFault as fault:
        assert fault.code == "not_sftp"  # noqa: PT017  either is right


@pytest.mark.parametrize(
    "path",
    [b"/proc/sysrq-trigger", b"/proc/./sysrq-trigger", b"../../sys/power//state", b"/sys/power/./state",
     b"/sys/power/suspend_stats/../state", b"/dev/watchdog", b"/dev/./watchdog0"],
)  # fmt: skip
async def test_no_write_reaches_a_file_that_stops_the_machine(path: bytes) -> None:
    """I-16, I-18: `echo b > /proc/sysrq-trigger` is a reboot, which always asks; a file session is no way round it.

    Nor is a second name for it; and reading goes on, as `cat` may.
    """
    stage = Stage()
    await stage.run(
        opened(1, path, Open.WRITE), opened(2, path, Open.WRITE | Open.CREAT | Open.TRUNC),
        request(3, Op.RENAME, string(b"/tmp/x"), string(path)), request(4, Op.SYMLINK, string(path), string(b"/tmp/x")),
        request(5, Op.EXTENDED, string(b"hardlink@openssh.com"), string(path), string(b"/tmp/x")),
        request(6, Op.SETSTAT, string(path), ATTRS), opened(7, path, Open.READ),
    )  # fmt: skip
    assert stage.statuses() == dict.fromkeys(range(1, 7), Status.PERMISSION_DENIED)
    assert stage.writer.asked == []
    assert [packet[0] for packet in stage.reader.asked] == [Op.OPEN]
    assert {note["result"] for note in stage.notes()} >= {"denied"}
    link = linked(stage.writer, stage.journal, CommandClass.WRITE)
    with pytest.raises(NotAllowed):
        await link.say([opened(1, path, Open.WRITE)])


async def test_what_a_target_complains_of_is_bounded() -> None:
    """I-60: a hostile server that writes to its stderr without end fills no disk."""
    stage = Stage()
    for _ in range(5):
        stage.reader.complain(b"x" * 16_384)
    with pytest.raises(CutShort, match="output_limit"):
        await stage.run(request(1, Op.STAT, string(b"/")))


async def test_answers_that_come_while_a_batch_is_sent_are_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that waits for room goes on though the last answers came before its batch was all sent."""
    monkeypatch.setattr(sessions, "MAX_PENDING", 2)
    stage = Stage()
    stage.reader.slow = True
    stage.client.send(INIT, *(request(number, Op.STAT, string(b"/")) for number in range(7)))
    stage.client.feed(b"")
    await stage.until_its_end(within=20)
    assert len(stage.client.answers()) == 8


@pytest.mark.parametrize("flags", [Open.WRITE, Open.WRITE | Open.EXCL, Open.WRITE | Open.CREAT])
async def test_an_old_file_that_was_not_emptied_has_no_hash(flags: Open) -> None:
    """formats.md 1.2: there may be more behind what was written. EXCL without CREAT empties nothing."""
    stage = Stage()
    write = request(2, Op.WRITE, HANDLE, u64(0), string(b"head"))
    await stage.run(opened(1, b"/up", flags), write, request(3, Op.CLOSE, HANDLE))
    (put,) = stage.notes("put")
    assert (put["sha256"], put["ranges"]) == (None, [[0, 4]])


async def test_asking_for_nothing_does_not_make_a_part_the_whole() -> None:
    """A server says EOF to a read of no bytes, wherever the file ends."""
    stage = Stage()
    stage.reader.files[b"/srv/a"] = bytearray(b"content")
    await stage.run(
        opened(1, b"/srv/a", Open.READ), request(2, Op.READ, HANDLE, u64(0), u32(3)),
        request(3, Op.READ, HANDLE, u64(3), u32(0)), request(4, Op.CLOSE, HANDLE),
    )  # fmt: skip
    (get,) = stage.notes("get")
    assert (get["len"], get["sha256"]) == (3, None)


async def test_names_are_told_apart_in_the_recording() -> None:
    r"""F38: a byte that is not UTF-8 and a name that spells its escape are two names."""
    stage = Stage()
    paths = (b"/\xff", b"/\\xff", b"/\\\\xff", "/\u00ff".encode())
    await stage.run(*(request(number, Op.REMOVE, string(path)) for number, path in enumerate(paths)))
    told = [note["path"] for note in stage.notes("remove") if "result" in note]
    assert told == ["/\\xff", "/\\\\xff", "/\\\\\\\\xff", "/\u00ff"]
