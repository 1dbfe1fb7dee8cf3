"""GREC v1, the recording format: header, keys, frames. Opens no file, makes no salt, reads no clock.

    part   := magic | u32 hlen | header_json | commit[32] | frame*        hlen counts header_json and commit
    frame  := fh[32] | ciphertext | tag[16]
    fh     := "GRF1" | u8 type | u8 flags | u16 0 | u64 seq | u64 t_us | u32 plen | u32 clen     (big-endian)

AES-256-GCM with counter nonces; the last frame carries the final bit in its nonce (STREAM), so a cut recording never
decrypts as a finished one. Key, base nonce and key commitment come from one HKDF-Expand: with the wrong key nothing
is decrypted at all. Everything in a frame header and in the part header is bound to each frame as associated data.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Protocol

from backports.zstd import CompressionParameter, DecompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

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
DEK_SIZE = 32
SALT_SIZE = 24
COMMIT_SIZE = 32
_NONCE_SIZE = 12
_LABEL = b"grantd/rec/v1/AEAD_AES_256_GCM\0"
_PREAMBLE = len(MAGIC) + 4
_WINDOW_LOG = 20  # the reader's zstd window is at most 1 MiB; our level 1 writer uses 512 KiB
# level 3: 0.7 MB more per session for 0-6 % smaller files. A table of 32 KiB stays in the processor's nearest cache:
# 8 % less work for files 1.5 % larger
_ZSTD: dict[int, int] = {CompressionParameter.compression_level: 1, CompressionParameter.hash_log: 13}
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_START = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PartKeys:
    """What one part is sealed with. Fresh for each part because each part has a fresh salt."""

    key: bytes = field(repr=False)
    base_nonce: bytes = field(repr=False)
    commit: bytes

    def nonce(self, seq: int, *, final: bool) -> bytes:
        """The base nonce XOR (00 00 00 | u64 seq | u8 final)."""
        counter = (seq << 8 | final).to_bytes(_NONCE_SIZE, "big")
        return bytes(a ^ b for a, b in zip(self.base_nonce, counter, strict=True))


def derive_keys(dek: bytes | bytearray, header_json: bytes, salt: bytes) -> PartKeys:
    """key[32] || base nonce[12] || commit[32] = HKDF-Expand(SHA-512). Source: C2SP chunked-encryption."""
    if len(dek) != DEK_SIZE:
        raise RecordingInvalid("a recording key has 32 bytes")
    info = _LABEL + salt + hashlib.sha256(header_json).digest()
    out = HKDFExpand(algorithm=SHA512(), length=DEK_SIZE + _NONCE_SIZE + COMMIT_SIZE, info=info).derive(bytes(dek))
    return PartKeys(key=out[:32], base_nonce=out[32:44], commit=out[44:])


def preamble(header_json: bytes, commit: bytes) -> bytes:
    """Everything before the first frame. Its leaf hash is leaf 0, its SHA-256 is bound to every frame."""
    return MAGIC + (len(header_json) + COMMIT_SIZE).to_bytes(4, "big") + header_json + commit


def decode_header(data: bytes) -> Header:
    """Read header JSON strictly; RecordingInvalid for any key too many, too few or malformed."""
    try:
        document = canonical.decode(data)
    except EntryError as error:
        raise RecordingInvalid(f"header is {error}") from error
    if document.keys() != _HEADER_KEYS or document["v"] != 1 or document["alg"] != ALG:
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
    head = source.read(_PREAMBLE)
    if len(head) != _PREAMBLE or not head.startswith(MAGIC):
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


class Sealer:
    """Encrypts the frames of one part, in order. Each number is used once: a failed write is never sealed again."""

    __slots__ = ("_aad", "_aead", "_keys", "_seq", "_zstd", "preamble")

    def __init__(self, header: Header, dek: bytes | bytearray) -> None:
        header_json = header.encode()
        self._keys = derive_keys(dek, header_json, header.salt)
        self.preamble = preamble(header_json, self._keys.commit)
        self._aad = hashlib.sha256(self.preamble).digest()
        self._aead = AESGCM(self._keys.key)
        self._seq = 0
        self._zstd: ZstdCompressor | None = None

    def data(self, plaintext: bytes | bytearray, t_us: int, *, segment: bool) -> bytes:
        """A compressed DATA frame; `segment` starts a fresh zstd context (the first frame always does)."""
        flags = Flag.ZSTD
        if segment or self._zstd is None:
            flags |= Flag.SEGMENT
            self._zstd = ZstdCompressor(options=_ZSTD)
        packed = self._zstd.compress(plaintext, mode=ZstdCompressor.FLUSH_BLOCK)
        return self.seal(FrameType.DATA, flags, t_us, plaintext=packed, plen=len(plaintext))

    def end(self, plaintext: bytes, t_us: int, *, instead_of_last: bool = False) -> bytes:
        """The final frame. After it this sealer is spent.

        `instead_of_last`: the last sealed frame could not be written, so the end takes its number. No nonce repeats,
        because the final bit is part of the nonce.
        """
        self._seq -= instead_of_last
        return self.seal(FrameType.END, Flag.FINAL, t_us, plaintext=plaintext, plen=len(plaintext))

    def seal(self, type_: FrameType, flags: Flag, t_us: int, *, plaintext: bytes, plen: int) -> bytes:
        """One frame around `plaintext` as it is stored (compressed or not); `plen` is its length before compression."""
        header = FrameHeader(
            type=type_, flags=flags, seq=self._seq, t_us=t_us, plen=plen, clen=len(plaintext) + TAG_SIZE
        )
        encoded = header.encode()
        decode_frame_header(encoded, seq=self._seq)  # what no reader would take is never written
        nonce = self._keys.nonce(self._seq, final=header.final)
        self._seq += 1
        return encoded + self._aead.encrypt(nonce, plaintext, self._aad + encoded)


class Opener:
    """Decrypts frames of one part, from its first frame or from any segment start. Releases nothing unauthenticated."""

    __slots__ = ("_aad", "_aead", "_keys", "_zstd")

    def __init__(self, header: Header, preamble_bytes: bytes, dek: bytes | bytearray) -> None:
        header_json = preamble_bytes[_PREAMBLE:-COMMIT_SIZE]
        self._keys = derive_keys(dek, header_json, header.salt)
        if not hmac.compare_digest(self._keys.commit, preamble_bytes[-COMMIT_SIZE:]):
            raise RecordingInvalid("this key is not the one the recording was made with")
        self._aad = hashlib.sha256(preamble_bytes).digest()
        self._aead = AESGCM(self._keys.key)
        self._zstd: ZstdDecompressor | None = None

    def open(self, frame: Frame) -> bytes:
        """The plaintext of a frame, at most 1 MiB.

        Raises:
            RecordingInvalid: naming the frame that does not authenticate or does not inflate to its stated length.
        """
        header = frame.header
        nonce = self._keys.nonce(header.seq, final=header.final)
        try:
            packed = self._aead.decrypt(nonce, frame.ciphertext(), self._aad + header.encode())
        except InvalidTag as error:
            raise RecordingInvalid(f"frame {header.seq}: not authentic") from error
        if Flag.ZSTD not in header.flags:
            return packed
        return self._inflate(packed, header)

    def _inflate(self, packed: bytes, header: FrameHeader) -> bytes:
        if Flag.SEGMENT in header.flags:
            self._zstd = ZstdDecompressor(options={DecompressionParameter.window_log_max: _WINDOW_LOG})
        if self._zstd is None:
            raise RecordingInvalid(f"frame {header.seq}: compressed, but no segment has started")
        try:
            # One byte more than stated: a bomb shows itself after plen + 1 bytes, not after filling memory.
            plain = self._zstd.decompress(packed, max_length=header.plen + 1)
        except (ZstdError, EOFError) as error:
            raise RecordingInvalid(f"frame {header.seq}: does not inflate") from error
        if len(plain) != header.plen or self._zstd.eof:
            raise RecordingInvalid(f"frame {header.seq}: does not inflate to its stated length")
        return plain


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
