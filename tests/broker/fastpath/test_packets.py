"""The quick way is asyncssh's way: the same packets, the same order and numbers, the same ends (docs/adr/0027)."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Iterator

import pytest
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
)
from asyncssh.packet import String, UInt32
from hypothesis import given
from hypothesis import strategies as st

from tests.broker.fastpath.ends import CHANNELS, FastEnd, Heard, StockEnd, encryption, heard, made, padded, sealed

MAX = 256 * 1024
"""asyncssh's own ceiling of a packet."""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for many examples."""
    with asyncio.Runner() as made:
        yield made


def data(channel: int, content: bytes) -> bytes:
    """CHANNEL_DATA."""
    return bytes((MSG_CHANNEL_DATA,)) + UInt32(channel) + String(content)


def both(runner: asyncio.Runner, pieces: list[bytes]) -> Heard:
    """What both make of it, which is the same."""
    stock = runner.run(heard(StockEnd, pieces))
    fast = runner.run(heard(FastEnd, pieces))
    assert fast.packets == stock.packets
    assert fast.ended == stock.ended
    return fast


ALL_KINDS = [
    padded(data(0, b"one")),
    padded(bytes((MSG_CHANNEL_EXTENDED_DATA,)) + UInt32(7) + UInt32(1) + String(b"two")),
    padded(bytes((MSG_CHANNEL_WINDOW_ADJUST,)) + UInt32(0) + UInt32(1)),
    padded(bytes((MSG_IGNORE,)) + String(b"")),
    padded(bytes((MSG_CHANNEL_REQUEST,)) + UInt32(0) + String(b"x") + b"\x01"),
    padded(bytes((MSG_GLOBAL_REQUEST,)) + String(b"x") + b"\x01"),
    padded(bytes((MSG_CHANNEL_REQUEST,)) + UInt32(7) + String(b"y") + b"\x00"),
    padded(data(7, b"")),
    padded(bytes((MSG_CHANNEL_EOF,)) + UInt32(7)),
    padded(data(0, b"last"), 255),
]


def test_split_at_every_boundary(runner: asyncio.Runner) -> None:
    """Wherever the network cuts a stream of all kinds of packets, all of them arrive, and in order."""
    stream = sealed(ALL_KINDS)
    for cut in range(len(stream) + 1):
        got = both(runner, [stream[:cut], stream[cut:]])
        assert len(got.packets) == len(ALL_KINDS)
        assert [number for _, number, _, _ in got.packets[:4]] == [0xFFFFFFFE, 0xFFFFFFFF, 0, 1]
    assert len(both(runner, [bytes((byte,)) for byte in stream]).packets) == len(ALL_KINDS)


def test_the_largest_packet_and_one_byte_more(runner: asyncio.Runner) -> None:
    """Hostile lengths: the ceiling is asyncssh's, and it is looked at before the bytes came."""
    largest = padded(data(0, bytes(MAX - 1 - 9 - 4)), 4)
    assert len(largest) == MAX
    stream = sealed([largest, ALL_KINDS[0]])
    assert len(both(runner, [stream[at : at + 50_000] for at in range(0, len(stream), 50_000)]).packets) == 2
    got = both(runner, [sealed([ALL_KINDS[0]]), UInt32(MAX + 1) + bytes(12)])
    assert len(got.packets) == 1
    assert "Max packet size" in got.ended


@pytest.mark.parametrize("size", [0, 1, 4, 11, 12, 15, 16, 17, 31, 100])
def test_short_and_odd_lengths(runner: asyncio.Runner, size: int) -> None:
    """A length that no packet has, with a tag that holds all the same: its sender has the keys."""
    stream = sealed([(b"\x04" + bytes(size))[:size], ALL_KINDS[0]])
    for cut in (4, 16, len(stream)):
        both(runner, [stream[:cut], stream[cut:]])


@pytest.mark.parametrize("padding", [0, 1, 12, 13, 14, 15, 200, 255])
def test_paddings_that_eat_the_packet(runner: asyncio.Runner, padding: int) -> None:
    """A padding length of nothing, of everything and of more: what is left is read as asyncssh reads it."""
    packet = bytes((padding,)) + data(0, b"xx") + bytes(4)
    both(runner, [sealed([packet, ALL_KINDS[0]])])


@pytest.mark.parametrize("content", [UInt32(0), UInt32(0)[:3], b"", UInt32(3), UInt32(0) + UInt32(9) + b"short"])
@pytest.mark.parametrize("kind", [MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA, MSG_CHANNEL_WINDOW_ADJUST, 255])
def test_fields_that_end_early(runner: asyncio.Runner, kind: int, content: bytes) -> None:
    """No channel, a channel that is not there, a string longer than its packet."""
    both(runner, [sealed([padded(bytes((kind,)) + content), ALL_KINDS[0]])])


def test_a_wrong_tag_ends_it(runner: asyncio.Runner) -> None:
    """Every flipped bit of a packet: nothing of it is handed on, and nothing after it."""
    stream = sealed(ALL_KINDS[:2])
    first = len(sealed(ALL_KINDS[:1]))
    for at in range(4, first):
        broken = bytearray(stream)
        broken[at] ^= 1
        got = both(runner, [bytes(broken)])
        assert got.packets == []
        assert "MAC verification failed" in got.ended


_CHANNELS = st.sampled_from([*CHANNELS, 1])
_PAYLOADS = st.one_of(
    st.builds(data, _CHANNELS, st.binary(max_size=200)),
    st.builds(lambda kind, rest: bytes((kind,)) + rest, st.integers(0, 255), st.binary(max_size=40)),
    st.builds(
        lambda kind, channel, rest: bytes((kind,)) + UInt32(channel) + rest,
        st.integers(90, 100), _CHANNELS, st.binary(max_size=40),
    ),
)  # fmt: skip
# A packet shorter than a block is none (RFC 4253 section 6): asyncssh may open one first, and end in other words.
_SHORTEST = 12
_PACKETS = st.builds(padded, _PAYLOADS, st.one_of(st.none(), st.integers(0, 255))).filter(
    lambda packet: len(packet) >= _SHORTEST
)


@given(packets=st.lists(_PACKETS, max_size=8), cuts=st.lists(st.integers(0, 4000), max_size=6), flip=st.data())
def test_any_stream(runner: asyncio.Runner, packets: list[bytes], cuts: list[int], flip: st.DataObject) -> None:
    """Any packets of a peer that has the keys, cut anywhere, one byte of them changed or none."""
    stream = bytearray(sealed(packets))
    if stream and flip.draw(st.booleans()):
        stream[flip.draw(st.integers(0, len(stream) - 1))] ^= 1 << flip.draw(st.integers(0, 7))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    both(runner, [bytes(stream[a:b]) for a, b in itertools.pairwise(edges)])


# ---- out -------------------------------------------------------------------------------------------------------------
async def _sent(kind: type[StockEnd | FastEnd], packets: list[tuple[int, tuple[bytes, ...]]]) -> bytes:
    end = await made(kind)
    for pkttype, fields in packets:
        end.send_packet(pkttype, *fields)
    return bytes(end.heard.sent)


def _opened(stream: bytes) -> list[tuple[bytes, int]]:
    """The payloads and padding lengths of what was sent, without decoys."""
    cipher, found = encryption(), []
    while stream:
        size = int.from_bytes(stream[:4], "big")
        packet = cipher.decrypt_packet(0, stream[:4], stream[4 : 4 + size], 4, stream[4 + size : 20 + size])
        assert packet
        assert size % 16 == 0
        stream = stream[20 + size :]
        if packet[1] != MSG_IGNORE:
            found.append((packet[1 : -packet[0]], packet[0]))
    return found


def test_what_is_sent_is_the_same_without_the_decoys(runner: asyncio.Runner) -> None:
    """Payloads and paddings of each length, in order, under the same keys; padding is not guessable."""
    packets: list[tuple[int, tuple[bytes, ...]]]
    packets = [(MSG_CHANNEL_DATA, (UInt32(0), String(os.urandom(size)))) for size in range(64)]
    packets += [(MSG_GLOBAL_REQUEST, (String("x"), b"\x01")), (MSG_CHANNEL_EOF, (UInt32(0),)), (MSG_IGNORE, ())]
    stock, fast = runner.run(_sent(StockEnd, packets)), runner.run(_sent(FastEnd, packets))
    assert _opened(fast) == _opened(stock)
    assert all(4 <= padding <= 19 for _, padding in _opened(fast))
    assert len(fast) < len(stock)


def test_no_padding_is_used_twice(runner: asyncio.Runner) -> None:
    """The pool of random bytes is read once and made anew."""

    async def drawn() -> list[bytes]:
        end = await made(FastEnd)
        return [end._random(16) for _ in range(10_000)]  # noqa: SLF001

    assert len(set(runner.run(drawn()))) == 10_000


def test_a_counter_is_one_for_both_ways(runner: asyncio.Runner) -> None:
    """No nonce serves twice: what asyncssh's own code seals in between moves the same counter on."""

    async def mixed() -> bytes:
        end = await made(FastEnd)
        for number in range(6):
            end._auth_complete = number % 2 == 0  # noqa: SLF001  an odd one goes asyncssh's way
            end.send_packet(MSG_CHANNEL_DATA if number % 2 == 0 else 50, UInt32(0), String(b"x"))
        return bytes(end.heard.sent)

    assert [payload[0] for payload, _ in _opened(runner.run(mixed()))] == [94, 50, 94, 50, 94, 50]


# ---- together --------------------------------------------------------------------------------------------------------
async def _together(packets: list[tuple[bytes, bytes]], *, apart: bool, rekey_bytes: int) -> tuple[bytes, int, int]:
    """What was sent, in how many writes, and what was put off until new keys are there."""
    end = await made(FastEnd)
    end._rekey_bytes = rekey_bytes  # noqa: SLF001
    writes: list[bytes] = []
    end._send = lambda data: writes.append(bytes(data))  # type: ignore[method-assign]  # noqa: SLF001
    if apart:
        for fields in packets:
            end.send_packet(MSG_CHANNEL_DATA, *fields)
    else:
        end.send_together(MSG_CHANNEL_DATA, packets, handler=None)
    sealed_ones = b"".join(data for data in writes if data)
    return sealed_ones, len(writes), len(end._deferred_packets)  # noqa: SLF001


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 1_000))
def test_packets_that_leave_together_are_those_that_leave_alone(
    runner: asyncio.Runner, pieces: list[bytes], rekey_bytes: int
) -> None:
    """The same packets under the same nonces, also where a key exchange is due in between; in one write if none is."""
    packets = [(UInt32(0), String(piece)) for piece in pieces]
    together, writes, put_off = runner.run(_together(packets, apart=False, rekey_bytes=rekey_bytes))
    alone, _, put_off_alone = runner.run(_together(packets, apart=True, rekey_bytes=rekey_bytes))
    seen = [payload for payload, _ in _opened(together) if payload[0] == MSG_CHANNEL_DATA]
    assert seen == [payload for payload, _ in _opened(alone) if payload[0] == MSG_CHANNEL_DATA]
    assert put_off == put_off_alone
    if not put_off:
        assert writes == (1 if pieces else 0)


# ---- ends ------------------------------------------------------------------------------------------------------------
def test_an_end_that_has_come_goes_before_what_was_read(runner: asyncio.Runner) -> None:
    """P16: hundreds may be read from in one turn of the loop, and its timers have theirs afterwards."""

    async def read() -> list[int]:
        end, seen = await made(FastEnd), list[int]()
        end.glance = lambda now: seen.append(len(end.heard.packets) if now <= end._loop.time() else -1)  # noqa: SLF001
        channel = next(iter(CHANNELS))
        end.data_received(sealed([padded(data(channel, b"x")), padded(data(channel, b"y"))]))
        end.data_received(b"")
        assert len(end.heard.packets) == 2
        end._transport = None  # noqa: SLF001
        return seen

    assert runner.run(read()) == [0, 2]


# ---- acknowledgements ------------------------------------------------------------------------------------------------
class _Socketed(asyncio.Transport):
    """A transport over a real socket."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})

    def abort(self) -> None:
        """Nothing to abort."""


def _is_quick(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))


def test_the_first_reads_are_acknowledged_at_once(runner: asyncio.Runner) -> None:
    """A login does not wait for a peer that waits for us; later the kernel does as it likes again."""

    async def asked() -> list[bool]:
        end, seen = await made(FastEnd), []
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
            end._transport = _Socketed(sock)  # noqa: SLF001
            for _ in range(70):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
                end.acknowledge_at_once()
                seen.append(_is_quick(sock))
            end._transport = None  # noqa: SLF001
        return seen

    assert runner.run(asked()) == [True] * 64 + [False] * 6


# ---- turns -----------------------------------------------------------------------------------------------------------
class _Reading(asyncio.Transport):
    """Says whether it reads; with `max_size` it is one of the standard library's."""

    def __init__(self, *, bounded: bool) -> None:
        super().__init__()
        self.reads, self.paused = True, 0
        if bounded:
            self.max_size = 256 * 1024

    def pause_reading(self) -> None:
        self.reads = False
        self.paused += 1

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Never full."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sent."""

    def abort(self) -> None:
        """Nothing to abort."""


@pytest.mark.parametrize("bounded", [True, False])
def test_much_at_once_gives_way(runner: asyncio.Runner, *, bounded: bool) -> None:
    """uvloop alone would go on with the same socket; what stopped it for another reason keeps it stopped."""

    async def read() -> _Reading:
        end, transport = await made(FastEnd), _Reading(bounded=bounded)
        end.connection_made(transport)
        end._recv_handler = lambda: False  # noqa: SLF001  what stands in it is not looked at here
        end.data_received(bytes(1_000))
        assert transport.paused == 0
        end.data_received(bytes(64 * 1024))
        assert transport.reads is bounded
        await asyncio.sleep(0)
        assert transport.reads
        end.data_received(bytes(64 * 1024))
        end._deaf = True  # noqa: SLF001
        await asyncio.sleep(0)
        assert transport.reads is bounded
        end._transport = None  # noqa: SLF001
        return transport

    assert runner.run(read()).paused == (0 if bounded else 2)
