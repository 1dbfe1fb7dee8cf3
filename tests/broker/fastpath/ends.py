"""One end of a connection without a network: keys are given, packets are kept, nothing else of asyncssh is replaced."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeVar

import asyncssh
from asyncssh.connection import SSHServerConnection, SSHServerConnectionOptions
from asyncssh.constants import MSG_CHANNEL_REQUEST
from asyncssh.encryption import GCMEncryption
from asyncssh.packet import SSHPacket, SSHPacketHandler, UInt32

from broker.fastpath import FastConnection
from broker.fastpath.gcm import gcm_of

KEY, IV = bytes(range(16)), bytes(range(12))
CHANNELS = (0, 7)


@dataclass(slots=True)
class Heard:
    """What came out of a stream: packets by (kind, number, payload, where the fields began), and how it ended."""

    packets: list[tuple[int, int, bytes, bytes]] = field(default_factory=list)
    ended: str = ""
    sent: bytearray = field(default_factory=bytearray)


class Wire(asyncio.Transport):
    """Takes what is sent, and has no other side."""

    def __init__(self, heard: Heard) -> None:
        super().__init__()
        self._heard = heard

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._heard.sent += data

    def abort(self) -> None:
        """Nothing to abort."""

    def get_write_buffer_size(self) -> int:
        return 0


class _Channel(SSHPacketHandler):
    """Keeps its packets. A request takes a while, so that what follows it has to wait."""

    def __init__(self, end: _End) -> None:
        self._end = end

    @property
    def logger(self) -> object:  # type: ignore[override]
        return self._end.logger

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> object:  # type: ignore[override]
        if pkttype == MSG_CHANNEL_REQUEST:
            return self._later(pkttype, pktid, packet)
        return self._end.keep(pkttype, pktid, packet)

    async def _later(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        await asyncio.sleep(0)
        self._end.keep(pkttype, pktid, packet)

    def process_connection_close(self, exc: Exception | None) -> None:
        """As a channel."""


class _End(SSHServerConnection):
    """Logged in, keys exchanged."""

    def __init__(self, options: SSHServerConnectionOptions, heard: Heard) -> None:
        super().__init__(asyncio.get_running_loop(), options)
        self.heard = heard
        self._transport = Wire(heard)
        self._recv_handler = self._recv_pkthdr
        self._recv_encryption = self._send_encryption = None
        self._auth_complete = self._kex_complete = self._strict_kex = True
        self._recv_blocksize = self._send_blocksize = self._recv_macsize = 16
        self._send_enchdrlen = 1
        self._recv_seq = 0xFFFFFFFE
        self._keepalive_interval = 0
        self._channels = {number: _Channel(self) for number in CHANNELS}  # type: ignore[misc]
        self._rekey_seconds = 0
        self.take_keys()

    def take_keys(self) -> None:
        self._recv_encryption, self._send_encryption = encryption(), encryption()

    def keep(self, kind: int, number: int, packet: SSHPacket) -> bool:
        """One more packet."""
        read = packet.get_consumed_payload()
        self.heard.packets.append((kind, number, packet.get_full_payload(), read))
        assert read + packet.get_remaining_payload() == packet.get_full_payload()
        return True

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> object:  # type: ignore[override]
        """What is for no channel: known or not."""
        self.keep(pkttype, pktid, packet)
        return pkttype < 100

    def _force_close(self, exc: Exception | None) -> None:
        self.heard.ended = self.heard.ended or repr(exc)
        self._inpbuf = b""
        self._transport = None


E = TypeVar("E", bound=_End)


class StockEnd(_End):
    """asyncssh's own way."""


class FastEnd(FastConnection, _End):
    """The quick way."""

    fast = True

    def take_keys(self) -> None:
        self._recv_encryption, self._send_encryption = gcm_of(encryption()), gcm_of(encryption())


def encryption() -> GCMEncryption:
    """A cipher as asyncssh makes it."""
    made = GCMEncryption.new("aes128-gcm", KEY, IV)
    assert isinstance(made, GCMEncryption)
    return made


def sealed(packets: list[bytes]) -> bytes:
    """Packets (padding length first, padding last) as a peer with the keys would send them."""
    cipher, stream = encryption(), bytearray()
    for packet in packets:
        first, tag = cipher.encrypt_packet(0, UInt32(len(packet)), packet)
        stream += first + tag
    return bytes(stream)


def padded(payload: bytes, padding: int | None = None) -> bytes:
    """A packet as asyncssh pads it, unless told otherwise."""
    size = padding if padding is not None else -(1 + len(payload)) % 16
    if padding is None and size < 4:
        size += 16
    return bytes((size & 0xFF,)) + payload + b"\x55" * size


async def made(kind: type[E]) -> E:
    """One end, with nothing heard."""
    options = await asyncssh.SSHServerConnectionOptions.construct(
        None, config=None, server_host_keys=[HOST_KEY], login_timeout=0, gss_host=None
    )
    return kind(options, Heard())


async def heard(kind: type[_End], pieces: list[bytes]) -> Heard:
    """What one end makes of a stream that comes in these pieces."""
    end = await made(kind)
    for piece in pieces:
        if not end.heard.ended:
            end.data_received(piece)
        await _settle(end)
    return end.heard


async def _settle(end: _End) -> None:
    while end._tasks:  # noqa: ASYNC110, SLF001
        await asyncio.sleep(0)


HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
