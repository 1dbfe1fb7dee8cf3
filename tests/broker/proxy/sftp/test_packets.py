"""Packets: what is written is read back, what is not well made is refused, and no more is kept than one (M4)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import sftp
from broker.core.sftp import Op, Open, Status
from broker.proxy.sftp import packets as wire
from broker.proxy.sftp.files import MAX_RANGES, Span
from broker.proxy.sftp.packets import Fields, Malformed, Request, Splitter, framed, string
from tests.broker.proxy.sftp.world import ATTRS, in_pieces, opened, request, u32, u64


@given(st.lists(st.binary(min_size=1, max_size=300)), st.lists(st.integers(1, 40), max_size=3))
def test_packets_come_out_as_they_went_in(packets: list[bytes], sizes: list[int]) -> None:
    """Cut anywhere."""
    splitter = Splitter()
    stream = b"".join(map(framed, packets))
    assert [p for piece in in_pieces(stream, sizes) for p in splitter.feed(piece)] == packets


@pytest.mark.parametrize("length", [0, sftp.MAX_PACKET + 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_at_once(length: int) -> None:
    """Before anything of it is kept."""
    with pytest.raises(Malformed):
        Splitter().feed(u32(length))


def test_the_largest_packet_passes() -> None:
    """As OpenSSH's own server takes it."""
    whole = bytes(sftp.MAX_PACKET)
    assert Splitter().feed(framed(whole)) == [whole]


MALFORMED = {
    "cut short": request(1, Op.STAT, u32(9), b"/srv"),
    "longer than its fields": request(1, Op.STAT, string(b"/srv"), b"x"),
    "a NUL in a path": request(1, Op.REMOVE, string(b"/srv\0/x")),
    "a long path": request(1, Op.STAT, string(b"/" * 4097)),
    "a long handle": request(1, Op.READDIR, string(bytes(257))),
    "data beyond the packet": request(1, Op.WRITE, string(b"h"), u64(0), u32(10), b"x"),
    "unknown attributes": request(1, Op.SETSTAT, string(b"/a"), u32(0x10)),
    "attributes cut short": request(1, Op.SETSTAT, string(b"/a"), u32(0x4)),
    "no id": bytes([Op.STAT]),
    "a rename to nothing": request(1, Op.RENAME, string(b"/a")),
    "many extended attributes": request(1, Op.SETSTAT, string(b"/a"), u32(0x80000000), u32(1_000)),
}


@pytest.mark.parametrize("what", list(MALFORMED))
def test_what_is_not_well_made_is_refused(what: str) -> None:
    """Strictly: a server's lenience is not ours."""
    with pytest.raises(Malformed):
        wire.request_of(MALFORMED[what])


@given(st.binary(min_size=1, max_size=60))
def test_any_packet_is_a_request_or_malformed(data: bytes) -> None:
    """And nothing else is raised, on either side."""
    for read in (wire.request_of, wire.answer_of, wire.client_version, wire.server_offers):
        try:
            read(data)
        except Malformed:
            continue


def test_fields_are_read_as_they_are() -> None:
    """Paths as bytes, attributes by name, data where it lies."""
    made = wire.request_of(opened(7, b"/\xff", Open.WRITE | Open.CREAT))
    assert isinstance(made, Request)
    assert (made.id, made.path, made.flags) == (7, b"/\xff", 10)
    write = wire.request_of(request(8, Op.WRITE, string(b"h"), u64(2**40), string(b"data")))
    assert isinstance(write, Request)
    assert (write.handle, write.offset, bytes(write.data())) == (b"h", 2**40, b"data")
    everything = u32(0x8000000F) + u64(9) + u32(1) + u32(2) + u32(0o644) + u32(3) + u32(4) + u32(0)
    setstat = wire.request_of(request(9, Op.SETSTAT, string(b"/a"), everything))
    assert isinstance(setstat, Request)
    assert setstat.attrs == {"size": 9, "uid": 1, "gid": 2, "mode": 0o644, "atime": 3, "mtime": 4}


@pytest.mark.parametrize("name", [b"", b"longer-than-before", bytes(256)])
def test_a_handle_is_replaced_and_nothing_else(name: bytes) -> None:
    """Also behind the name of an extension."""
    for before in (
        request(1, Op.WRITE, string(b"own"), u64(3), string(b"data")),
        request(2, Op.EXTENDED, string(b"fsync@openssh.com"), string(b"own")),
    ):
        made = wire.request_of(before)
        assert isinstance(made, Request)
        assert made.with_handle(name) == before.replace(string(b"own"), string(name))


def test_answers_are_our_own_words() -> None:
    """A code that nobody knows is a failure."""
    packet = bytes([101]) + u32(5) + u32(99) + string(b"words") + string(b"")
    assert wire.answer_of(packet).status() is Status.FAILURE
    (told,) = Splitter().feed(wire.status(5, Status.EOF))
    assert told == bytes([101]) + u32(5) + u32(1) + string(b"End of file") + string(b"")


def test_names_are_read_to_their_end() -> None:
    """Each with its long name and attributes."""
    body = u32(2) + b"".join(string(n) + string(b"long") + ATTRS for n in (b"a", b"b"))
    assert list(Fields(body, 0).names()) == [b"a", b"b"]
    with pytest.raises(Malformed):
        list(Fields(body + b"x", 0).names())


@given(st.lists(st.tuples(st.integers(0, 100), st.binary(min_size=1, max_size=20)), max_size=60))
def test_a_hash_is_of_what_came_in_order(pieces: list[tuple[int, bytes]]) -> None:
    """From the first byte on, or there is none; ranges are bounded, bytes are counted."""
    span, data, in_order = Span(), b"", True
    for offset, piece in pieces:
        in_order = in_order and offset == len(data)
        span.take(offset, memoryview(piece))
        data += piece
    assert span.moved == len(data)
    assert span.sha256() == (hashlib.sha256(data).hexdigest() if in_order else None)
    assert len(span.ranges) <= MAX_RANGES
