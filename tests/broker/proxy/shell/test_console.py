"""Where the person sits: recorded first, in order; programs as they are, the gateway escaped (I-30, F38)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.proxy import limits
from broker.proxy.channel import GatewayChannel
from broker.proxy.connection import GatewayConnection
from broker.proxy.shell.canvas import Canvas
from broker.proxy.shell.cells import Styled
from broker.proxy.shell.console import RESTORED, Console
from broker.proxy.shell.strip import Strip
from broker.proxy.shell.wire import Wire
from broker.proxy.steering import ClientSteering
from recorder.errors import RecorderFailed
from recorder.grec import Kind
from recorder.sink import RecordingSink


@dataclass(slots=True)
class Journal:
    """Stands for both sides: what was recorded and what was sent, in order."""

    told: list[tuple[str, bytes]] = field(default_factory=list)
    fails: bool = False

    async def event(self, kind: Kind, chan: int, data: bytes) -> None:
        """As RecordingSink."""
        await asyncio.sleep(0)
        if self.fails:
            raise RecorderFailed("the disk is full")
        self.told.append((f"recorded {kind.name}", data))

    async def write(self, data: bytes, datatype: Any = None) -> None:  # noqa: ANN401  asyncssh's
        """As Wire."""
        await asyncio.sleep(0)
        self.told.append(("sent", data))


def console(journal: Journal, *, terminal: bool = True) -> Console:
    """One that is recorded."""
    made = Console(cast("Wire", journal), terminal=terminal)
    made.record_to(cast("RecordingSink", journal))
    return made


async def test_everything_is_recorded_before_it_is_sent() -> None:
    """I-30: also where several speak at once; the recording has the very order of the terminal."""
    journal = Journal()
    made = console(journal)
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(made.out(b"out %d\n" % number))
            group.create_task(made.say(f"say {number}"))
            group.create_task(made.draw(b"draw %d" % number))
    assert [what for what, _ in journal.told] == ["recorded OUT", "sent"] * 15
    assert [data for what, data in journal.told if what == "sent"] == [
        data for what, data in journal.told if what != "sent"
    ]


async def test_what_cannot_be_recorded_is_not_shown() -> None:
    """I-30: nothing, not even a word of the gateway's."""
    journal = Journal(fails=True)
    for show in (console(journal).say("x"), console(journal).out(b"x"), console(journal).draw(b"x")):
        with pytest.raises(RecorderFailed):
            await show
    unrecorded = Console(cast("Wire", journal), terminal=True)
    with pytest.raises(ConnectionError):
        await unrecorded.say("x")
    assert journal.told == []


async def test_what_others_wrote_is_escaped() -> None:
    """F38: a reason of an approver's, a name of a target's."""
    journal = Journal()
    await console(journal).say("denied: \x1b]0;x\x07\u202e\r\n")
    assert journal.told[-1][1] == b"grantd: denied: \\x1b]0;x\\x07\\u202e\\x0d\\x0a\r\n"


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"b\n\n"]), max_size=8))
def test_line_ends_are_whole_wherever_they_are_cut(pieces: list[bytes]) -> None:
    """A program without a terminal ends its lines with a line feed; the client's terminal wants both, once."""

    async def shown() -> bytes:
        journal = Journal()
        made = console(journal)
        for piece in pieces:
            await made.out(piece)
        return b"".join(data for what, data in journal.told if what == "sent")

    whole = b"".join(pieces)
    assert asyncio.run(shown()) == whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


async def test_a_program_in_a_terminal_of_its_own_passes_as_it_is() -> None:
    """Its lines end as its own terminal ends them."""
    journal = Journal()
    await console(journal).program(b"a\nb\r\n", drawn=True)
    assert journal.told[-1] == ("sent", b"a\nb\r\n")


async def test_the_terminal_is_put_back() -> None:
    """Only where a program touched it, and the alternate screen only where it was left on."""
    made = console(Journal())
    await made.out(b"plain\n")
    assert made.settled() == b""
    await made.out(b"no end")
    assert made.settled() == b"\r\n"
    await made.out(b"\x1b[31mred\n")
    assert made.settled() == RESTORED
    await made.program(b"\x1b[?1049h\x1b[?1049l", drawn=True)
    assert made.settled() == RESTORED
    await made.program(b"\x1b[?1049hx", drawn=True)
    assert made.settled() == b"\x1b[?1049l" + RESTORED
    assert made.settled() == b""


async def test_without_a_terminal_the_streams_are_apart() -> None:
    """Byte by byte, and the gateway speaks on stderr."""
    journal = Journal()
    made = console(journal, terminal=False)
    await made.out(b"a\n")
    await made.err(b"b\n")
    await made.say("c")
    assert [data for what, data in journal.told if what == "sent"] == [b"a\n", b"b\n", b"grantd: c\r\n"]
    assert [what for what, _ in journal.told if what != "sent"] == ["recorded OUT", "recorded ERR", "recorded ERR"]


async def test_a_word_over_a_full_screen_program_leaves_its_cursor() -> None:
    """The last row, and back: the program goes on where it was."""
    journal = Journal()
    made = console(journal)
    made.bottom = 24
    await made.say("access ends in 10 s")
    shown = journal.told[-1][1]
    assert shown.startswith(b"\x1b7\x1b[24;1H")
    assert shown.endswith(b"\x1b8")
    assert b"\n" not in shown


async def test_after_a_full_screen_program_no_empty_row_is_left() -> None:
    """The cursor is where the program found it, whatever colours and keys it puts back afterwards."""
    made = console(Journal())
    await made.out(b"before\n")
    await made.program(b"\x1b[?1049h\x1b[?1h\x1b=text\x1b[24;1H", drawn=True)
    await made.program(b"\x1b[?1l\x1b>\x1b[?1049l\x1b[23;0;0t\x1b[0m", drawn=True)
    assert made.settled() == RESTORED
    await made.program(b"no end\x1b[?1049hx\x1b[?1049l", drawn=True)
    assert made.settled() == RESTORED + b"\r\n"


async def test_the_last_word_stands_below_what_was_shown() -> None:
    """What was waited for is taken away, and a program's screen put away, before the reason of the end is told."""
    journal = Journal()
    made = console(journal)
    strip = Strip(Canvas(columns=40, lines=5))
    made.desk = strip
    await made.draw(strip.show((Styled(text="waiting 4:51"),)))
    made.leave()
    await made.tell("ended: expired")
    assert journal.told[-1][1] == b"\r\r\x1b[Jgrantd: ended: expired\r\n"
    made = console(journal)
    made.bottom = 24
    await made.program(b"\x1b[?1049hx", drawn=True)
    made.leave()
    await made.tell("ended: expired")
    assert journal.told[-1][1] == b"\x1b[?1049l" + RESTORED + b"grantd: ended: expired\r\n"


async def test_a_plain_terminal_is_sent_no_escape_sequence() -> None:
    """TERM=dumb: what a program wrote passes, nothing of the gateway's own is more than text."""
    journal = Journal()
    made = Console(cast("Wire", journal), terminal=True, plain=True)
    made.record_to(cast("RecordingSink", journal))
    await made.program(b"\x1b[31mred\n", drawn=True)
    made.bottom = 24
    await made.say("access ends in 10 s")
    assert b"\x1b" not in journal.told[-1][1] + made.settled()


class Door:
    """Stands for the client's channel and connection."""

    def __init__(self) -> None:
        self.granted = 0

    def take(self, size: int) -> None:
        """As GatewayChannel."""
        self.granted += size

    def leave(self) -> None:
        """As GatewayChannel."""


async def test_keys_come_in_the_pieces_they_were_typed_in() -> None:
    """A paste is told from typing by them; the window grows as they are read, and so do those that nobody read."""
    door = Door()
    wire = Wire(cast("GatewayConnection", door), cast("GatewayChannel", door), ClientSteering())
    for piece in (b"a", b"bc", b"x" * (limits.WAITING_WINDOW // 2)):
        wire.data_received(piece, None)
    assert [await wire.read(), await wire.read()] == [b"a", b"bc"]
    assert (wire.waiting, door.granted) == (True, 0)
    assert wire.drain() == b"x" * (limits.WAITING_WINDOW // 2)
    assert (wire.waiting, door.granted) == (False, limits.WAITING_WINDOW // 2 + 3)
    wire.data_received(b"last", None)
    wire.eof_received()
    assert [await wire.read(), await wire.read()] == [b"last", b""]
    wire.connection_lost(None)
    with pytest.raises(ConnectionError):
        await wire.read()
