"""One SFTP server on a target, as a file session speaks with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from broker.core.errors import TargetFault
from broker.proxy.sftp.packets import Splitter, server_offers
from broker.service.transfer import Link


def not_sftp() -> TargetFault:
    """The server said what no SFTP server says; its own words go nowhere (I-27)."""
    return TargetFault("the target's SFTP server does not speak as it should", code="not_sftp")


class Upstream:
    """Whole packets out of a link, whole batches into it."""

    def __init__(self, link: Link, *, writes: bool) -> None:
        self.link, self.writes = link, writes
        self.paths = self.handles = 0
        """Requests without an answer: those of paths, and those of open files."""
        self._splitter = Splitter()
        self._first: deque[bytes] = deque()
        self._outgoing: list[bytes] = []

    async def greeted(self) -> Mapping[bytes, bytes] | None:
        """What the server offers; None where it has ended already."""
        await self.link.greet()
        packets = await self.packets()
        if not packets:
            return None
        self._first.extend(packets[1:])
        return server_offers(packets[0])

    async def packets(self) -> list[bytes]:
        """The next packets, at least one; none once the server has ended."""
        if self._first:
            first = list(self._first)
            self._first.clear()
            return first
        while data := await self.link.hear():
            if packets := self._splitter.feed(data):
                return packets
        return []

    def queue(self, packet: bytes) -> None:
        """Leaves with the next `flush`."""
        self._outgoing.append(packet)

    async def flush(self) -> None:
        """Sends what is queued."""
        if self._outgoing:
            batch, self._outgoing = self._outgoing, []
            await self.link.say(batch)
