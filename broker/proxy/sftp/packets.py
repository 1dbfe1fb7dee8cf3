"""SFTP version 3 on the wire, read strictly and within bounds. Knows no socket, no grant and no target.

Whatever bytes arrive, a packet comes out or `Malformed` is raised, and never more is kept than one packet needs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from broker.core import sftp
from broker.core.sftp import EXTENSIONS, SHAPES, Field, Op, Open, Reply, Shape, Status
from policy.classes import CommandClass

MAX_PATH: Final = 4_096
MAX_HANDLE: Final = 256
MAX_TEXT: Final = 16 * 1024
MAX_OFFERS: Final = 64
MAX_NAMES: Final = 4_096
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct(">BI")
_SIZE, _OWNER, _MODE, _TIMES, _MORE = 0x1, 0x2, 0x4, 0x8, 0x80000000
_CODES: Final = frozenset(Status)
_KNOWN: Final = _SIZE | _OWNER | _MODE | _TIMES | _MORE


class Malformed(Exception):
    """These bytes are no SFTP. The session that sent them ends."""


class Splitter:
    """Bytes as they come in; whole packets, without their length, out."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole now. Keeps at most one that is not."""
        self._held += data
        packets, start = [], 0
        while len(self._held) - start >= _U32.size:
            (length,) = _U32.unpack_from(self._held, start)
            if not 0 < length <= sftp.MAX_PACKET:
                raise Malformed("a packet's length is out of bounds")
            end = start + _U32.size + length
            if len(self._held) < end:
                break
            packets.append(bytes(memoryview(self._held)[start + _U32.size : end]))
            start = end
        del self._held[:start]
        return packets


class Fields:
    """One packet's fields, read in order."""

    def __init__(self, packet: bytes, at: int) -> None:
        self._packet, self.at = packet, at

    def u32(self) -> int:
        """An unsigned 32-bit number."""
        return self._number(_U32)

    def u64(self) -> int:
        """An unsigned 64-bit number."""
        return self._number(_U64)

    def string(self, limit: int) -> bytes:
        """A string of at most `limit` bytes."""
        length = self.u32()
        if length > limit:
            raise Malformed("a string is too long")
        end = self.at + length
        if end > len(self._packet):
            raise Malformed("a string reaches beyond its packet")
        value = self._packet[self.at : end]
        self.at = end
        return value

    def skip(self) -> int:
        """Passes over a string without copying it; how long it is."""
        length = self.u32()
        self.at += length
        if self.at > len(self._packet):
            raise Malformed("a string reaches beyond its packet")
        return length

    def path(self) -> bytes:
        """A path: bytes without NUL."""
        path = self.string(MAX_PATH)
        if b"\0" in path:
            raise Malformed("a path holds a NUL byte")
        return path

    def attrs(self) -> dict[str, int]:
        """Attributes, by name."""
        flags = self.u32()
        if flags & ~_KNOWN:
            raise Malformed("unknown attributes")
        found: dict[str, int] = {}
        if flags & _SIZE:
            found["size"] = self.u64()
        if flags & _OWNER:
            found["uid"], found["gid"] = self.u32(), self.u32()
        if flags & _MODE:
            found["mode"] = self.u32()
        if flags & _TIMES:
            found["atime"], found["mtime"] = self.u32(), self.u32()
        if flags & _MORE:
            for _ in range(self._few(MAX_OFFERS)):
                self.string(MAX_TEXT)
                self.string(MAX_TEXT)
        return found

    def end(self) -> None:
        """Nothing may follow."""
        if self.at != len(self._packet):
            raise Malformed("a packet is longer than its fields")

    def _few(self, most: int) -> int:
        count = self.u32()
        if count > most:
            raise Malformed("too many of something")
        return count

    def offers(self) -> Iterator[tuple[bytes, bytes]]:
        """Pairs of names and values up to the end."""
        for _ in range(MAX_OFFERS):
            if self.at == len(self._packet):
                return
            yield self.string(MAX_TEXT), self.string(MAX_TEXT)
        self.end()

    def names(self) -> Iterator[bytes]:
        """The file names of a NAME answer, each checked to its end."""
        for _ in range(self._few(MAX_NAMES)):
            yield self.string(MAX_PATH)
            self.string(MAX_TEXT)
            self.attrs()
        self.end()

    def _number(self, form: struct.Struct) -> int:
        try:
            (value,) = form.unpack_from(self._packet, self.at)
        except struct.error:
            raise Malformed("a packet is shorter than its fields") from None
        self.at += form.size
        number: int = value
        return number


@dataclass(slots=True, kw_only=True)
class Request:
    """One request of a client."""

    id: int
    op: Op
    shape: Shape
    command_class: CommandClass
    packet: bytes
    path: bytes = b""
    other: bytes = b""
    handle: bytes = b""
    after_handle: int = 0
    """Where in the packet the handle ends."""
    flags: int = 0
    offset: int = 0
    length: int = 0
    """Bytes that are asked for, or sent."""
    data_at: int = 0
    attrs: dict[str, int] | None = None

    def data(self) -> memoryview:
        """What a write carries."""
        return memoryview(self.packet)[self.data_at :]

    def with_handle(self, handle: bytes) -> bytes:
        """The packet for whoever knows the file by another handle. Only where the handle is the first field."""
        head = bytes(self.packet[: self._before_handle()])
        return b"".join((head, string(handle), memoryview(self.packet)[self.after_handle :]))

    def _before_handle(self) -> int:
        return self.after_handle - len(self.handle) - _U32.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """A request that is in no table."""

    id: int
    name: str
    """Its number, or that it is an extension: never the client's own word."""


def request_of(packet: bytes) -> Request | Unsupported:
    """The request in a packet."""
    fields = Fields(packet, 1)
    number = fields.u32()
    try:
        op = Op(packet[0])
    except ValueError:
        return Unsupported(id=number, name=f"type {packet[0]}")
    shape = SHAPES.get(op)
    if shape is None:
        shape = EXTENSIONS.get(fields.string(MAX_TEXT))
        if shape is None:
            return Unsupported(id=number, name="extension")
    request = Request(id=number, op=op, shape=shape, command_class=shape.command_class, packet=packet)
    _fill(request, fields)
    request.command_class = sftp.class_of(packet) or request.command_class
    return request


def _fill(request: Request, fields: Fields) -> None:
    for field in request.shape.fields:
        match field:
            case Field.PATH:
                request.path = fields.path()
            case Field.OTHER:
                request.other = fields.path()
            case Field.HANDLE:
                request.handle = fields.string(MAX_HANDLE)
                request.after_handle = fields.at
            case Field.FLAGS:
                request.flags = fields.u32()
            case Field.ATTRS:
                request.attrs = fields.attrs()
            case Field.TEXT:
                fields.skip()
            case Field.OFFSET | Field.LENGTH | Field.DATA:
                _fill_extent(request, fields, field)
    fields.end()


def _fill_extent(request: Request, fields: Fields, field: Literal[Field.OFFSET, Field.LENGTH, Field.DATA]) -> None:
    match field:
        case Field.OFFSET:
            request.offset = fields.u64()
        case Field.LENGTH:
            request.length = fields.u32()
        case Field.DATA:
            request.length = fields.skip()
            request.data_at = fields.at - request.length


def client_version(packet: bytes) -> int:
    """The version that a client's first packet says."""
    if packet[0] != sftp.INIT:
        raise Malformed("the first packet is no INIT")
    fields = Fields(packet, 1)
    version = fields.u32()
    for _ in fields.offers():
        pass
    return version


def server_offers(packet: bytes) -> dict[bytes, bytes]:
    """What a server's first packet offers beyond version 3."""
    if packet[0] != sftp.VERSION_TYPE:
        raise Malformed("the first answer is no VERSION")
    fields = Fields(packet, 1)
    if fields.u32() != sftp.VERSION:
        raise Malformed("the server speaks another version")
    return dict(fields.offers())


def version(offers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Our first answer to a client."""
    pairs = b"".join(string(name) + string(value) for name, value in offers)
    return framed(bytes([sftp.VERSION_TYPE]) + _U32.pack(sftp.VERSION) + pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of a server."""

    id: int
    kind: Reply
    packet: bytes

    def status(self) -> Status:
        """Of a STATUS: an unknown code is a failure, and the server's own words are nobody's."""
        code = Fields(self.packet, _HEAD.size).u32()
        return Status(code) if code in _CODES else Status.FAILURE

    def handle(self) -> bytes:
        """Of a HANDLE."""
        fields = Fields(self.packet, _HEAD.size)
        handle = fields.string(MAX_HANDLE)
        fields.end()
        return handle

    def data(self) -> memoryview:
        """Of a DATA."""
        fields = Fields(self.packet, _HEAD.size)
        fields.skip()
        fields.end()
        return memoryview(self.packet)[_HEAD.size + _U32.size :]

    def names(self) -> list[bytes]:
        """Of a NAME."""
        return list(Fields(self.packet, _HEAD.size).names())

    def attrs(self) -> dict[str, int]:
        """Of an ATTRS."""
        fields = Fields(self.packet, _HEAD.size)
        found = fields.attrs()
        fields.end()
        return found


def answer_of(packet: bytes) -> Answer:
    """The answer in a packet."""
    try:
        kind, number = Reply(packet[0]), _HEAD.unpack_from(packet)[1]
    except (ValueError, struct.error):
        raise Malformed("no answer") from None
    return Answer(id=number, kind=kind, packet=packet)


def status(number: int, code: Status) -> bytes:
    """A STATUS in our own words."""
    words = string(sftp.PHRASES[code].encode()) + string(b"")
    return framed(_HEAD.pack(Reply.STATUS, number) + _U32.pack(code) + words)


def handle(number: int, name: bytes) -> bytes:
    """A HANDLE."""
    return framed(_HEAD.pack(Reply.HANDLE, number) + string(name))


def limits(number: int, handles: int) -> bytes:
    """The answer to `limits@openssh.com`: what we take."""
    told = (sftp.MAX_PACKET, sftp.MAX_DATA, sftp.MAX_DATA, handles)
    return framed(_HEAD.pack(Reply.EXTENDED_REPLY, number) + b"".join(_U64.pack(each) for each in told))


def string(value: bytes) -> bytes:
    """A string on the wire."""
    return _U32.pack(len(value)) + value


def framed(packet: bytes) -> bytes:
    """A packet with its length."""
    return _U32.pack(len(packet)) + packet


def shown(path: bytes) -> str:
    r"""A path as recordings hold it: a byte that is not UTF-8 as \xNN, and so a backslash as two. Injective (F38)."""
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def opening_flags(flags: int) -> str:
    """How a file is opened, in words."""
    known = [flag.name.lower() for flag in Open if flag & flags and flag.name]
    return " ".join(known + ([hex(rest)] if (rest := flags & ~sum(Open)) else []))
