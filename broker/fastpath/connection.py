"""The packets of one connection. Everything but sealed channel data still goes through asyncssh's own code.

Reaches into names that asyncssh does not promise: `pins` holds the sources that this was written against.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_IGNORE,
)
from asyncssh.misc import MACError, ProtocolError
from asyncssh.packet import PacketDecodeError, SSHPacket

from broker.fastpath.gcm import LENGTH, TAG, Gcm, gcm_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncssh.packet import SSHPacketLogger

READ: Final = 64 * 1024
"""Bytes read at once, so that one that sends much does not hold up one that sends a keystroke."""
_BLOCK: Final = 16
_LEAST_PADDING: Final = 4
_SHORTEST: Final = _BLOCK - LENGTH
"""asyncssh reads a whole block before it looks at the length: nothing shorter than that can be a packet."""
_KIND: Final = 1
"""Where a packet's kind stands: behind one byte that tells its padding."""
_CHANNEL: Final = 6
"""Where the fields of a channel's packet begin: behind the kind and four bytes of the channel's number."""
_OFTEN: Final = frozenset({MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA, MSG_CHANNEL_WINDOW_ADJUST})
_LAST_BEFORE_CHANNELS: Final = 79
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
_CHANCE: Final = 64 * 1024


class OpenedPacket(SSHPacket):
    """A packet read where it was decrypted: neither its padding length nor its padding was cut off by a copy."""

    def __init__(self, opened: bytes) -> None:
        self._packet = opened
        self._idx = _KIND
        # an empty payload where the padding is nothing or everything, as asyncssh's slice would be
        self._len = len(opened) - opened[0] if opened[0] else 0

    def get_consumed_payload(self) -> bytes:
        """As SSHPacket."""
        return self._packet[_KIND : self._idx]

    def get_remaining_payload(self) -> bytes:
        """As SSHPacket."""
        return self._packet[self._idx : self._len]

    def get_full_payload(self) -> bytes:
        """As SSHPacket."""
        return self._packet[_KIND : self._len]

    def channel(self) -> int:
        """The number of the channel that it is for; the fields follow. Raises PacketDecodeError."""
        self._idx = _KIND + 1
        return self.get_uint32()


class FastConnection(SSHConnection):
    """Stands before one of asyncssh's connection classes; `fast` says whether it does anything.

    The stream of packets, their order, numbers, rekeying, deferral and errors are asyncssh's own.
    """

    fast = False
    _at = 0
    """How much of `_inpbuf` was read."""
    _chance = b""
    _chance_used = 0
    _quick_reads = 64
    _reads_on = False
    """Whether the loop goes on reading by itself while something is there."""
    _deaf = False
    """Nothing is read for now, for another reason than to give way."""
    glance: Callable[[float], None] | None = None
    """Called with the loop's time before what was read is looked at: hundreds may be read in one turn of the loop."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reads little at once, where the loop lets us say how much."""
        if self.fast:
            self._reads_on = not hasattr(transport, "max_size")
            if not self._reads_on:
                transport.max_size = READ  # type: ignore[attr-defined]  # asked just now
        super().connection_made(transport)

    def _give_way(self, size: int) -> None:
        """uvloop reads one socket up to 32 times before it looks at the next; after much it looks at the next first."""
        if self._reads_on and size >= READ and self._transport is not None and not self._deaf:
            self._transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._deaf and not self._transport.is_closing():
            self._transport.resume_reading()

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """New keys, new ciphers."""
        super().send_newkeys(k, h)
        if self.fast:
            self._send_encryption = gcm_of(self._send_encryption)
            self._next_recv_encryption = gcm_of(self._next_recv_encryption)

    def acknowledge_at_once(self) -> None:
        """Before each of the first reads; Linux forgets it after a while, and alone has it.

        A peer that puts small packets off until its last one was acknowledged waits 40 ms otherwise, twice a login.
        """
        if not self._quick_reads:
            return
        self._quick_reads -= 1
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is not None and _QUICKACK is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    # ---- in ----------------------------------------------------------------------------------------------------------
    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """Reads. Never copied again is what was read as packets: only what is left of one."""
        if self.glance is not None:
            self.glance(self._loop.time())
        if not self.fast:
            super().data_received(data, datatype)
            return
        rest = self._inpbuf[self._at :] if self._at else self._inpbuf
        self._inpbuf, self._at = (rest + data if rest else bytes(data)), 0
        self._recv_data()
        self._give_way(len(data))

    def _recv_pkthdr(self) -> bool:
        gcm = self._recv_encryption
        if not isinstance(gcm, Gcm):
            return super()._recv_pkthdr()
        found = self._next_sealed()
        if found is None:
            return False
        start, end = found
        opened = gcm.open(self._inpbuf[start : start + LENGTH], memoryview(self._inpbuf)[start + LENGTH : end])
        if not opened:
            raise MACError("MAC verification failed")
        if opened[_KIND : _KIND + 1] and opened[_KIND] in _OFTEN and self._auth_complete and self._decompressor is None:
            packet = OpenedPacket(opened)
            channel = self._channel_of(packet)
            if channel is not None:
                self._consume(end)
                self._hand_to(channel, opened[_KIND], packet)
                return True
        return self._as_asyncssh(gcm, opened, start)

    def _next_sealed(self) -> tuple[int, int] | None:
        """Where the next packet begins and ends, once all of it is there."""
        start, held = self._at, len(self._inpbuf)
        if held - start < _BLOCK:
            return None
        size = int.from_bytes(self._inpbuf[start : start + LENGTH], "big")
        if size > self._max_recv_pktlen:
            raise ProtocolError("Max packet size exceeded")
        if size < _SHORTEST:
            raise MACError("MAC verification failed")
        end = start + LENGTH + size + TAG
        return None if end > held else (start, end)

    def _consume(self, end: int) -> None:
        if end == len(self._inpbuf):
            self._inpbuf, self._at = b"", 0
        else:
            self._at = end

    def _channel_of(self, packet: OpenedPacket) -> SSHChannel[bytes] | None:
        try:
            return self._channels.get(packet.channel())
        except PacketDecodeError:
            return None

    def _hand_to(self, channel: SSHChannel[bytes], kind: int, packet: OpenedPacket) -> None:
        seq = self._recv_seq
        try:
            handled = channel.process_packet(kind, seq, packet)
        except PacketDecodeError as error:
            raise ProtocolError(str(error)) from None
        if handled is not True:
            raise ProtocolError("A channel did not take its data")
        self._finish_recv_packet(kind, seq)

    def _as_asyncssh(self, gcm: Gcm, opened: bytes, start: int) -> bool:
        """Everything that is rare: asyncssh reads it again from the buffer, and is told what was in it."""
        self._inpbuf, self._at = self._inpbuf[start:], 0
        gcm.opened = opened
        return super()._recv_pkthdr() and self._recv_packet()

    # ---- out ---------------------------------------------------------------------------------------------------------
    def send_packet(self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None) -> None:
        """Sends; whatever is to be deferred, compressed or counted otherwise goes asyncssh's way."""
        gcm = self._send_encryption
        if not isinstance(gcm, Gcm):
            super().send_packet(pkttype, *args, handler=handler)
        elif pkttype == MSG_IGNORE:
            return  # asyncssh puts one before each packet, against a weakness of CBC
        elif pkttype <= _LAST_BEFORE_CHANNELS or self._compressor is not None or not self._flows():
            super().send_packet(pkttype, *args, handler=handler)
        else:
            self._send(gcm.seal((self._packet_of(pkttype, args),)))

    def send_together(
        self, pkttype: int, packets: Sequence[tuple[bytes, ...]], *, handler: SSHPacketLogger | None
    ) -> None:
        """Packets of one channel, each as `send_packet` would send it; what may leave now leaves in one write."""
        gcm, ready = self._send_encryption, list[bytes]()
        if isinstance(gcm, Gcm) and self._compressor is None:
            for fields in packets:
                if not self._flows():
                    break
                ready.append(self._packet_of(pkttype, fields))
            if ready:
                self._send(gcm.seal(ready))
        for fields in packets[len(ready) :]:
            self.send_packet(pkttype, *fields, handler=handler)

    def _flows(self) -> bool:
        """Nothing is deferred, and no key exchange is due."""
        return (
            self._auth_complete
            and self._kex_complete
            and self._rekey_bytes_sent < self._rekey_bytes
            and (not self._rekey_seconds or time.monotonic() < self._rekey_time)
        )

    def _packet_of(self, pkttype: int, args: tuple[bytes, ...]) -> bytes:
        """The next packet, padded and counted: whoever asks for it sends it."""
        padding = -(2 + sum(map(len, args))) % _BLOCK
        if padding < _LEAST_PADDING:
            padding += _BLOCK
        packet = b"".join((bytes((padding, pkttype)), *args, self._random(padding)))
        self._send_seq = (self._send_seq + 1) & 0xFFFFFFFF
        self._rekey_bytes_sent += len(packet)
        return packet

    def _random(self, size: int) -> bytes:
        """Random bytes, each used once; asking the kernel for a few each time costs more than sealing them."""
        start = self._chance_used
        if start + size > len(self._chance):
            self._chance, start = os.urandom(_CHANCE), 0
        self._chance_used = start + size
        return self._chance[start : start + size]
