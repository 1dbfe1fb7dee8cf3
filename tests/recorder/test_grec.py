"""Attacks on a recording: each is refused with the key, and keyless against the audited root (I-30, I-32).

The table is section 6 of the format's specification; "K" below is a reader with the key, "P" a keyless verifier that
holds the audited (leaves, root).
"""

from __future__ import annotations

import io
import struct
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from backports.zstd import ZstdCompressor
from hypothesis import given
from hypothesis import strategies as st

from recorder import grec
from recorder.errors import RecordingInvalid
from recorder.grec import Event, Flag, FrameType, Header, Kind
from recorder.merkle import leaf_hash, root_of
from recorder.scan import State, check_commitment, scan
from recorder.sealing import Opener, Sealer, derive_keys

DEK = bytes(range(32))
HEADER = Header(
    rec="rec_1",
    sid="ses_1",
    ten="t1",
    part=0,
    prev=None,
    start="2026-11-22T00:00:00.000000Z",
    dek="dek_1",
    salt=bytes(range(24)),
)
EVENTS = [
    [Event(0, Kind.RESIZE, 0, b"\0\x50\0\x18"), Event(5, Kind.OUT, 0, b"one\r\n")],
    [Event(1_000_000, Kind.OUT, 0, b"two\r\n")],
    [Event(2_000_000, Kind.ERR, 1, b"three\r\n"), Event(2_000_001, Kind.EXIT, 0, b'{"status":0}')],
]


def build(header: Header = HEADER, dek: bytes = DEK, *, end: bool = True) -> list[bytes]:
    """A small recording as its pieces: the preamble and each frame."""
    sealer = Sealer(header, dek)
    pieces = [sealer.preamble]
    pieces += [sealer.data(grec.encode_events(events), events[0].t_us, segment=False) for events in EVENTS]
    if end:
        pieces.append(sealer.end(b'{"dur":2000001}', 2_000_001))
    return pieces


PIECES = build()
FILE = b"".join(PIECES)
LEAVES = [leaf_hash(piece) for piece in PIECES]
ROOT = root_of(LEAVES)


def with_key(data: bytes, dek: bytes = DEK, expected: Header = HEADER) -> list[Event]:
    """K: everything decrypted, complete to the end frame, of the session that was asked for."""
    source = io.BytesIO(data)
    header, start, _ = grec.read_preamble(source)
    if (header.sid, header.ten) != (expected.sid, expected.ten):
        raise RecordingInvalid("another session")
    opener = Opener(header, start, dek)
    events: list[Event] = []
    final = False
    for frame in grec.read_frames(source):
        plain = opener.open(frame)
        final = frame.header.final
        if frame.header.type is FrameType.DATA:
            events += grec.decode_events(plain, frame.header.t_us, seq=frame.header.seq)
    if not final:
        raise RecordingInvalid("no end")
    return events


def keyless(data: bytes) -> State:
    """P: the file against the audited commitment of the sealed recording."""
    found = scan(io.BytesIO(data), {len(LEAVES)})
    found.require_sound()
    check_commitment(found, len(LEAVES), ROOT)
    if found.leaves != len(LEAVES):
        raise RecordingInvalid("more than was audited")
    return found.state


def refused(data: bytes) -> None:
    """Both refuse."""
    with pytest.raises(RecordingInvalid):
        with_key(data)
    with pytest.raises(RecordingInvalid):
        keyless(data)


def renumber(frames: list[bytes]) -> list[bytes]:
    """The frames with their numbers rewritten to fit their place."""
    return [frame[:8] + struct.pack(">Q", seq) + frame[16:] for seq, frame in enumerate(frames)]


def test_it_reads_back() -> None:
    """Without an attack, both accept, and K sees every event."""
    assert with_key(FILE) == [event for events in EVENTS for event in events]
    assert keyless(FILE) is State.FINAL


def test_every_flipped_bit_is_refused_keyless() -> None:
    """P: all single-bit flips of a small file."""
    for position in range(len(FILE) * 8):
        damaged = bytearray(FILE)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(RecordingInvalid):
            keyless(bytes(damaged))


def test_every_flipped_bit_is_refused_with_the_key() -> None:
    """K: all single-bit flips of a small file, clear times, lengths, header and commitment among them."""
    for position in range(len(FILE) * 8):
        damaged = bytearray(FILE)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(RecordingInvalid):
            with_key(bytes(damaged))


def test_every_truncation_reads_as_its_whole_frames() -> None:
    """Cut anywhere, a recording is never final, and shows exactly the frames that are whole."""
    borders = [sum(map(len, PIECES[: count + 1])) for count in range(len(PIECES))]
    for cut in range(len(FILE)):
        data = FILE[:cut]
        if cut < borders[0]:
            with pytest.raises(RecordingInvalid):
                scan(io.BytesIO(data))
            continue
        found = scan(io.BytesIO(data))
        whole = sum(border <= cut for border in borders)
        assert found.state is (State.TRUNCATED if cut in borders else State.TORN)
        assert (found.leaves, found.root) == (whole, root_of(LEAVES[:whole]))
        assert found.torn_bytes == cut - borders[whole - 1]
        assert found.problem is None
        refused(data)


def test_a_cut_recording_cannot_pretend_to_be_final() -> None:
    """Setting the final flag, or moving the end frame up, is refused: the final bit is in the nonce."""
    start, *frames = PIECES
    last = bytearray(frames[1])
    last[4], last[5] = FrameType.END, Flag.FINAL
    refused(start + frames[0] + bytes(last))
    last = bytearray(frames[1])
    last[5] |= Flag.FINAL
    refused(start + frames[0] + bytes(last))
    refused(start + b"".join(renumber([frames[0], frames[-1]])))


@pytest.mark.parametrize("rewritten", [False, True])
@pytest.mark.parametrize(
    "order", [(1, 0, 2, 3), (0, 2, 3), (0, 1, 1, 2, 3), (0, 1, 2), (0, 1, 2, 3, 3), (3,), (), (0, 1, 2, 3, 0)]
)
def test_frames_keep_their_places(order: tuple[int, ...], rewritten: bool) -> None:  # noqa: FBT001 - a parameter
    """Swapped, dropped, repeated or trailing frames are refused, with and without their numbers rewritten."""
    start, *frames = PIECES
    chosen = [frames[number] for number in order]
    refused(start + b"".join(renumber(chosen) if rewritten else chosen))


def test_bytes_after_the_end() -> None:
    """Nothing follows the end frame: not garbage, not another end."""
    refused(FILE + b"x")
    refused(FILE + PIECES[-1])
    assert scan(io.BytesIO(FILE + b"x")).problem == "frame 4: bytes after the final frame"


@pytest.mark.parametrize(
    "change", [{"sid": "ses_2"}, {"ten": "t2"}, {"part": 1}, {"salt": bytes(24)}, {"rec": "rec_2"}]
)
def test_frames_of_another_header(change: dict[str, Any]) -> None:
    """Frames sealed under one header do not open under another, even with the same key."""
    other = build(replace(HEADER, **change))
    refused(other[0] + b"".join(PIECES[1:]))
    refused(PIECES[0] + b"".join(other[1:]))
    refused(b"".join([*PIECES[:2], other[2], *PIECES[3:]]))


@pytest.mark.parametrize("change", [{"sid": "ses_2"}, {"ten": "t2"}])
def test_another_sessions_file_under_this_name(change: dict[str, Any]) -> None:
    """A whole and authentic file of another session or tenant is refused by who asked for this one."""
    refused(b"".join(build(replace(HEADER, **change))))


def test_a_substituted_key_is_refused_before_decryption() -> None:
    """Another key fails at the commitment: a swapped key row cannot make a file read as something else."""
    with pytest.raises(RecordingInvalid, match="not the one the recording was made with"):
        with_key(FILE, dek=bytes(32))
    with pytest.raises(RecordingInvalid, match="32 bytes"):
        with_key(FILE, dek=b"short")


def test_every_part_has_its_own_keys() -> None:
    """The same data key with a fresh salt gives another key, base nonce and commitment: nothing repeats."""
    one = derive_keys(DEK, HEADER.encode(), HEADER.salt)
    other_header = replace(HEADER, salt=bytes(24))
    two = derive_keys(DEK, other_header.encode(), other_header.salt)
    assert one.key != two.key
    assert one.base_nonce != two.base_nonce
    assert one.commit != two.commit
    assert "key" not in repr(one).replace("PartKeys", "")


def test_rollback_of_an_open_recording() -> None:
    """An open recording put back to an earlier state has fewer leaves than its last audited checkpoint."""
    earlier = b"".join(PIECES[:3])
    found = scan(io.BytesIO(earlier), {4})
    with pytest.raises(RecordingInvalid, match="4 leaves were audited, 3 are there"):
        check_commitment(found, 4, root_of(LEAVES[:4]))


# -- what only a writer with the key could make ---------------------------------------------------------------------


def forged(frame: bytes) -> bytes:
    """A file with this one DATA frame, made with the real key."""
    return Sealer(HEADER, DEK).preamble + frame


def seal(plaintext: bytes, *, flags: Flag, plen: int) -> bytes:
    """A first DATA frame."""
    return Sealer(HEADER, DEK).seal(FrameType.DATA, flags, 0, plaintext=plaintext, plen=plen)


def open_one(frame: bytes) -> bytes:
    """The frame's plaintext."""
    source = io.BytesIO(forged(frame))
    header, start, _ = grec.read_preamble(source)
    opener = Opener(header, start, DEK)
    return b"".join(map(opener.open, grec.read_frames(source)))


@pytest.mark.parametrize("stated", [0, 10, 1024 * 1024])
def test_a_bomb_does_not_go_off(stated: int) -> None:
    """200 MB in 20 kB: refused after one byte more than the frame states."""
    bomb = ZstdCompressor(level=1).compress(bytes(200_000_000), mode=ZstdCompressor.FLUSH_BLOCK)
    assert len(bomb) < 100_000
    frame = seal(bomb, flags=Flag.ZSTD | Flag.SEGMENT, plen=stated)
    tracemalloc.start()
    with pytest.raises(RecordingInvalid, match="stated length"):
        open_one(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize(
    ("packed", "plen"),
    [
        (b"not zstd at all", 10),
        (ZstdCompressor().compress(b"whole", mode=ZstdCompressor.FLUSH_FRAME), 5),
        (ZstdCompressor().compress(b"short", mode=ZstdCompressor.FLUSH_BLOCK), 6),
        (bytes.fromhex("28b52ffd00ff") + bytes(10), 3),
    ],
)
def test_malformed_compression(packed: bytes, plen: int) -> None:
    """Garbage, an ended stream, a length that is not what was stated, a giant window: refused."""
    with pytest.raises(RecordingInvalid, match="inflate"):
        open_one(seal(packed, flags=Flag.ZSTD | Flag.SEGMENT, plen=plen))


def test_compression_begins_with_a_segment() -> None:
    """A compressed frame before any segment start is refused."""
    packed = ZstdCompressor().compress(b"x", mode=ZstdCompressor.FLUSH_BLOCK)
    with pytest.raises(RecordingInvalid, match="no segment"):
        open_one(seal(packed, flags=Flag.ZSTD, plen=1))


@pytest.mark.parametrize(
    "change",
    [
        (0, b"GRF2"),
        (4, b"\x02"),
        (4, b"\x03"),
        (4, b"\x04"),
        (5, b"\x04"),
        (5, b"\x40"),
        (5, b"\x02"),
        (5, b"\x80"),
        (6, b"\0\x01"),
        (8, b"\0\0\0\1\0\0\0\0"),
        (16, b"\xff" * 8),
        (24, b"\xff" * 4),
        (24, struct.pack(">I", 1024 * 1024 + 1)),
        (28, b"\0\0\0\x0f"),
        (28, b"\xff" * 4),
    ],
)
def test_frame_headers_out_of_range(change: tuple[int, bytes]) -> None:
    """Unknown types and flags, numbers, times and lengths out of range are refused before anything is allocated."""
    offset, value = change
    raw = bytearray(seal(b"plain", flags=Flag(0), plen=5))
    raw[offset : offset + len(value)] = value
    found = scan(io.BytesIO(forged(bytes(raw))))
    assert found.problem is not None
    assert found.problem.startswith("frame 0: ")


def test_frame_numbers_end() -> None:
    """There is no frame beyond 2^32: the counter never wraps."""
    header = struct.pack(">4sBBHQQII", b"GRF1", 1, 0, 0, 2**32, 0, 0, 16)
    with pytest.raises(RecordingInvalid):
        grec.decode_frame_header(header, seq=2**32)


def test_time_does_not_run_backwards() -> None:
    """A frame that starts before the one before it is refused, even sealed with the key."""
    sealer = Sealer(HEADER, DEK)
    data = sealer.preamble + sealer.data(b"", 5, segment=False) + sealer.data(b"", 4, segment=False)
    assert scan(io.BytesIO(data)).problem == "frame 1: time runs backwards"


@pytest.mark.parametrize(
    "plain",
    [
        b"\x00",
        b"\x00\x01",
        b"\x00\x01\x00\x05abc",
        b"\x01\x01\x00\x00",
        b"\x80\x00\x01\x00\x00",
        b"\xff" * 12,
        b"\x00\x01\xff\xff\xff\xff\x7f\x00",
        b"\x00\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x00\x01\x00\x00" + b"\xff" * 8 + b"\x7f\x01\x00\x00",
    ],
)
def test_malformed_events(plain: bytes) -> None:
    """Cut, overlong, oversized, late-starting events are refused, and the frame is named."""
    with pytest.raises(RecordingInvalid, match="frame 7"):
        grec.decode_events(plain, 1, seq=7)


def test_unknown_kinds_are_kept() -> None:
    """A reader keeps what a later writer may add."""
    event = Event(3, 200, 0, b"later")
    assert grec.decode_events(grec.encode_events([event]), 3, seq=0) == [event]


@pytest.mark.parametrize(
    "event", [Event(5, 1, -1, b""), Event(5, 1, 2**32, b""), Event(1, 1, 0, b""), Event(5, 1, 0, bytes(256 * 1024 + 1))]
)
def test_events_that_cannot_be(event: Event) -> None:
    """What no reader would take is not written."""
    with pytest.raises(RecordingInvalid):
        grec.encode_event(event, 2)


@given(
    st.lists(
        st.builds(
            Event, st.integers(0, 2**40), st.sampled_from(list(Kind)), st.integers(0, 2**32 - 1), st.binary(max_size=50)
        ),
        min_size=1,
        max_size=20,
    )
)
def test_any_events_read_back(events: list[Event]) -> None:
    """Events in order of time come back as they were."""
    events.sort(key=lambda event: event.t_us)
    assert grec.decode_events(grec.encode_events(events), events[0].t_us, seq=0) == events


@given(st.binary(max_size=200), st.sampled_from(range(len(PIECES))))
def test_no_bytes_crash_the_reader(data: bytes, keep: int) -> None:
    """Any bytes, after any number of good frames, are a recording or RecordingInvalid."""
    with pytest.raises(RecordingInvalid):
        with_key(b"".join(PIECES[:keep]) + data)


@pytest.mark.parametrize(
    "change",
    [
        {"rec": ""},
        {"rec": "a b"},
        {"rec": "../x"},
        {"sid": "person@example.com"},
        {"ten": "x" * 65},
        {"part": -1},
        {"start": "2026-11-22"},
        {"start": "\u0662\u0660\u0662\u0666-11-22T00:00:00.000000Z"},
        {"dek": "\n"},
        {"salt": b""},
        {"prev": (0, bytes(32))},
        {"prev": (1, b"")},
    ],
)
def test_headers_that_cannot_be(change: dict[str, Any]) -> None:
    """Only opaque ids and well-formed values go into the clear header."""
    with pytest.raises(RecordingInvalid):
        replace(HEADER, **change).encode()


GOOD = HEADER.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        GOOD + b" ",
        GOOD.replace(b'"v":1', b'"v":2'),
        GOOD.replace(b'"v":1', b'"v":true'),
        GOOD.replace(b"A256GCM", b"A128GCM"),
        GOOD.replace(b'"prev":null', b'"prev":{}'),
        GOOD.replace(b'"prev":null', b'"prev":{"leaves":true,"root":""}'),
        GOOD.replace(b'"prev":null', b'"prev":7'),
        GOOD.replace(b'"part":0', b'"part":true'),
        GOOD.replace(b'"start":"2026-11-22T00:00:00.000000Z"', b'"start":7'),
        GOOD.replace(b'"v":1', b'"v":1,"w":1'),
        GOOD.replace(b'"sid":"ses_1"', b'"sid":1'),
        GOOD.replace(b'"salt":"00', b'"salt":"0G'),
    ],
)
def test_malformed_headers(data: bytes) -> None:
    """A header has one form; nothing is ignored."""
    with pytest.raises(RecordingInvalid):
        grec.decode_header(data)


@pytest.mark.parametrize("hlen", [0, 32, 64 * 1024 + 1, 2**32 - 1])
def test_header_length_is_bounded(hlen: int) -> None:
    """A stated header length out of range is refused before it is read."""
    with pytest.raises(RecordingInvalid, match="out of range"):
        grec.read_preamble(io.BytesIO(grec.MAGIC + struct.pack(">I", hlen) + bytes(100)))
    with pytest.raises(RecordingInvalid, match="inside its header"):
        grec.read_preamble(io.BytesIO(grec.MAGIC + struct.pack(">I", 200) + bytes(100)))
