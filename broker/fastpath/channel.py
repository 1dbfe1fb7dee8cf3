"""What a channel sends, without the copies between its writer and the cipher."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from asyncssh.channel import SSHChannel
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA

from broker.fastpath.connection import FastConnection

if TYPE_CHECKING:
    from collections.abc import Iterator


class FastChannel(SSHChannel[bytes]):
    """Stands before one of asyncssh's channel classes, on a FastConnection."""

    def write(self, data: bytes, datatype: int | None = None) -> None:
        """Sends what the peer's window lets through at once; the rest waits as it always does."""
        if not self._sends_at_once(datatype):
            super().write(data, datatype)
            return
        sent = self._send_at_once(data, datatype)
        if sent < len(data):
            super().write(data[sent:], datatype)

    def _sends_at_once(self, datatype: int | None) -> bool:
        connection = self._conn
        return (
            isinstance(connection, FastConnection)
            and connection.fast
            and self._send_state == "open"
            and self._send_chan is not None
            and not self._send_buf
            and self._encoding is None
            and (datatype is None or datatype in self._write_datatypes)
        )

    def _send_at_once(self, data: bytes, datatype: int | None) -> int:
        """Sends what the window lets through, as packets that leave together; how many bytes those were."""
        packets, sent = [], 0
        for piece in self._pieces(data):
            sent += len(piece)
            packets.append((self._head(datatype, len(piece)), piece))
        self._send_window -= sent
        kind = MSG_CHANNEL_DATA if datatype is None else MSG_CHANNEL_EXTENDED_DATA
        cast("FastConnection", self._conn).send_together(kind, packets, handler=self)
        return sent

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        view, at, room = memoryview(data), 0, self._send_window
        while at < len(view) and at < room:
            size = min(room - at, self._send_pktsize, len(view) - at)
            # a buffer as good as bytes: it is joined into a packet, now or once a key exchange is done
            yield cast("bytes", view[at : at + size])
            at += size

    def _head(self, datatype: int | None, size: int) -> bytes:
        fields = (self._send_chan or 0, *(() if datatype is None else (datatype,)), size)
        return b"".join(field.to_bytes(4, "big") for field in fields)
