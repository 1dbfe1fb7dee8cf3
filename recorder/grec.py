"""GREC v1, the recording format: header and frames, as bytes. Opens no file, makes no salt, reads no clock.

    part   := magic | u32 hlen | header_json | commit[32] | frame*        hlen counts header_json and commit
    frame  := fh[32] | ciphertext | tag[16]
    fh     := "GRF1" | u8 type | u8 flags | u16 0 | u64 seq | u64 t_us | u32 plen | u32 clen     (big-endian)

What can be said of these bytes without the key: how frames are sealed and opened is said in sealing.py.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Protocol

from recorder import canonical
from recorder.canonical import Json
from recorder.errors import EntryError, RecordingInvalid
from recorder.events import (
    MAX_PAYLOAD,
    MAX_TIME,
    Event,
    JsonEvent,
    Kind,
    decode_events,
    encode_event,
    encode_events,
    encode_head,
    json_payload,
)
from recorder.merkle import leaf_hash

# the format is one name for its readers: what stands inside a frame is said in events.py
__all__ = [
    "MAX_PAYLOAD",
    "MAX_TIME",
    "Event",
    "JsonEvent",
    "Kind",
    "decode_events",
    "encode_event",
    "encode_events",
    "encode_head",
    "json_payload",
]

MAGIC = b"\x89GREC1\r\n"  # the CR LF shows damage by text-mode copies
FRAME_MAGIC = b"GRF1"
ALG = "A256GCM-HKDF512"
MAX_HLEN = 64 * 1024  # bytes of header JSON and commitment
MAX_PLAIN = 1024 * 1024  # bytes of plaintext in one frame
MAX_CLEN = MAX_PLAIN + 4 * 1024  # bytes of ciphertext and tag
MAX_SEQ = 2**32 - 1  # a frame number beyond it is refused: 2^32 frames of one key are never reached
FRAME_HEADER = struct.Struct(">4sBBHQQII")
TAG_SIZE = 16
SALT_SIZE = 24
COMMIT_SIZE = 32
HEADER_AT = len(MAGIC) + 4  # where the header JSON begins
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_START = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_HEADER_KEYS = frozenset({"v", "alg", "rec", "sid", "ten", "part", "prev", "start", "dek", "salt"})


class FrameType(IntEnum):
    """The frame types that this version reads. 2 and 3 are reserved and refused."""

    DATA = 1
    END = 4


class Flag(IntFlag):
    """Frame flags; any other bit is refused."""

    ZSTD = 0x01
    SEGMENT = 0x02  # a fresh zstd context starts here: decryption can begin at this frame
    FINAL = 0x80  # nothing may follow


_FLAGS = Flag.ZSTD | Flag.SEGMENT | Flag.FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A part's clear header: opaque ids only. No user, host, command or address belongs here."""

    rec: str
    sid: str
    ten: str
    part: int
    prev: tuple[int, bytes] | None  # leaves and root of the part before
    start: str  # RFC 3339, UTC, microseconds
    dek: str  # id of the data key, never the key
    salt: bytes

    def encode(self) -> bytes:
        """The canonical header JSON."""
        prev: Json = None if self.prev is None else {"leaves": self.prev[0], "root": self.prev[1].hex()}
        document: dict[str, Json] = {
            "v": 1,
            "alg": ALG,
            "rec": self.rec,
            "sid": self.sid,
            "ten": self.ten,
            "part": self.part,
            "prev": prev,
            "start": self.start,
            "dek": self.dek,
            "salt": self.salt.hex(),
        }
        data = canonical.encode(document)
        decode_header(data)
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHeader:
    """The 32 clear bytes before each ciphertext."""

    type: FrameType
    flags: Flag
    seq: int
    t_us: int
    plen: int
    clen: int

    @property
    def final(self) -> bool:
        """Whether this frame claims that nothing follows."""
        return Flag.FINAL in self.flags

    def encode(self) -> bytes:
        """The bytes, as they are also authenticated."""
        return FRAME_HEADER.pack(FRAME_MAGIC, self.type, self.flags, 0, self.seq, self.t_us, self.plen, self.clen)


def preamble(header_json: bytes, commit: bytes) -> bytes:
    """Everything before the first frame. Its leaf hash is leaf 0, its SHA-256 is bound to every frame."""
    return MAGIC + (len(header_json) + COMMIT_SIZE).to_bytes(4, "big") + header_json + commit


def decode_header(data: bytes) -> Header:
    """Read header JSON strictly; RecordingInvalid for any key too many, too few or malformed."""
    try:
        document = canonical.decode(data)
    except EntryError as error:
        raise RecordingInvalid(f"header is {error}") from error
    if document.keys() != _HEADER_KEYS or not canonical.is_number(document["v"], 1) or document["alg"] != ALG:
        raise RecordingInvalid("header of an unknown version or with unknown fields")
    part, salt, start = document["part"], document["salt"], document["start"]
    if type(part) is not int or not 0 <= part < MAX_SEQ:
        raise RecordingInvalid("header has no valid part number")
    if not isinstance(start, str) or not _START.fullmatch(start):
        raise RecordingInvalid("header has no valid start")
    return Header(
        rec=_id(document, "rec"),
        sid=_id(document, "sid"),
        ten=_id(document, "ten"),
        part=part,
        prev=_prev(document["prev"]),
        start=start,
        dek=_id(document, "dek"),
        salt=_hex(salt, SALT_SIZE),
    )


class Source(Protocol):
    """Where bytes come from: a binary file, or BytesIO."""

    def read(self, size: int, /) -> bytes:
        """Up to size bytes; fewer only at the end."""
        ...


def read_preamble(source: Source) -> tuple[Header, bytes, bytes]:
    """(header, preamble bytes, commitment) from the start of a part."""
    head = source.read(HEADER_AT)
    if len(head) != HEADER_AT or not head.startswith(MAGIC):
        raise RecordingInvalid("not a GREC v1 recording")
    hlen = int.from_bytes(head[len(MAGIC) :], "big")
    if not COMMIT_SIZE < hlen <= MAX_HLEN:
        raise RecordingInvalid("header length out of range")
    rest = source.read(hlen)
    if len(rest) != hlen:
        raise RecordingInvalid("recording ends inside its header")
    return decode_header(rest[:-COMMIT_SIZE]), head + rest, rest[-COMMIT_SIZE:]


class TornFrame(RecordingInvalid):
    """The bytes end inside a frame: a crash, or somebody cut. Every frame before is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One stored frame: its header and all its bytes."""

    header: FrameHeader
    raw: bytes

    def leaf(self) -> bytes:
        """The frame's Merkle leaf."""
        return leaf_hash(self.raw)

    def ciphertext(self) -> bytes:
        """Ciphertext and tag."""
        return self.raw[FRAME_HEADER.size :]


def read_frames(source: Source, *, first: int = 0) -> Iterator[Frame]:
    """The frames after the preamble, checked for everything that can be checked without the key.

    `first`: the number of the frame that the source stands before.

    Raises:
        TornFrame: the bytes end inside a frame.
        RecordingInvalid: naming the frame that breaks the format or the order.
    """
    last: FrameHeader | None = None
    while head := source.read(FRAME_HEADER.size):
        seq = first if last is None else last.seq + 1
        if last is not None and last.final:
            raise RecordingInvalid(f"frame {seq}: bytes after the final frame")
        if len(head) < FRAME_HEADER.size:
            raise TornFrame(f"frame {seq}: ends inside its header")
        header = decode_frame_header(head, seq=seq)
        if last is not None and header.t_us < last.t_us:
            raise RecordingInvalid(f"frame {seq}: time runs backwards")
        body = source.read(header.clen)
        if len(body) < header.clen:
            raise TornFrame(f"frame {seq}: ends inside its ciphertext")
        yield Frame(header=header, raw=head + body)
        last = header


class Seekable(Source, Protocol):
    """A source in which one can skip."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move; the new place."""
        ...


def walk_headers(source: Seekable, offset: int) -> Iterator[tuple[int, FrameHeader]]:
    """(offset, header) of each frame from `offset` on, which is where the preamble ends, without reading the frames.

    Ends where the headers end or stop making sense: for finding a place, never a proof of anything.
    """
    seq = 0
    while True:
        source.seek(offset)
        head = source.read(FRAME_HEADER.size)
        if len(head) < FRAME_HEADER.size:
            return
        try:
            header = decode_frame_header(head, seq=seq)
        except RecordingInvalid:
            return
        yield offset, header
        offset, seq = offset + FRAME_HEADER.size + header.clen, seq + 1


def decode_frame_header(data: bytes, *, seq: int) -> FrameHeader:
    """Read 32 bytes as the header of frame number `seq`; RecordingInvalid unless every field is in range."""
    magic, type_, flags, zero, found, t_us, plen, clen = FRAME_HEADER.unpack(data)
    if magic != FRAME_MAGIC or zero or type_ not in set(FrameType) or flags & ~_FLAGS:
        raise RecordingInvalid(f"frame {seq}: not a frame that this version knows")
    header = FrameHeader(type=FrameType(type_), flags=Flag(flags), seq=found, t_us=t_us, plen=plen, clen=clen)
    if found != seq or seq > MAX_SEQ:
        raise RecordingInvalid(f"frame {seq}: carries number {found}")
    if header.final != (header.type is FrameType.END):
        raise RecordingInvalid(f"frame {seq}: only the end frame is final")
    plain = Flag.ZSTD not in header.flags
    if Flag.SEGMENT in header.flags and plain:
        raise RecordingInvalid(f"frame {seq}: a segment start without compression")
    if t_us > MAX_TIME or plen > MAX_PLAIN or not TAG_SIZE <= clen <= MAX_CLEN or (plain and clen != plen + TAG_SIZE):
        raise RecordingInvalid(f"frame {seq}: length or time out of range")
    return header


def _id(document: Mapping[str, Json], name: str) -> str:
    value = document[name]
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise RecordingInvalid(f"header field {name} is not an opaque id")
    return value


def _prev(value: Json) -> tuple[int, bytes] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or value.keys() != {"leaves", "root"}:
        raise RecordingInvalid("header has no valid previous part")
    leaves = value["leaves"]
    if type(leaves) is not int or not 0 < leaves <= MAX_SEQ:
        raise RecordingInvalid("header has no valid previous part")
    return leaves, _hex(value["root"], 32)


def _hex(value: Json, size: int) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", value):
        raise RecordingInvalid(f"header holds something that is not {size} bytes of hex")
    return bytes.fromhex(value)
