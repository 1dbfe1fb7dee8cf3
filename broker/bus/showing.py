"""A worker's session, shown to the control process while somebody there follows it. Never slows the session."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from broker.bus import messages as m
from broker.bus.peer import BusLost, Peer
from broker.service.feed import Follower, Numbered, Overtaken

if TYPE_CHECKING:
    from broker.service.live import LiveSession


class Showing:
    """Of one session."""

    def __init__(self, live: LiveSession, peer: Peer) -> None:
        self._live, self._peer = live, peer
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """From what it shows now on."""
        self.end()
        self._task = asyncio.get_running_loop().create_task(self._show())

    def end(self) -> None:
        """Nobody follows any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _show(self) -> None:
        with suppress(BusLost), self._live.feed.followed() as follower:
            await self._begin(follower)
            try:
                while events := await follower.read():
                    await self._tell(events)
            except Overtaken:
                self._peer.tell(m.OVERTAKEN, m.OfSession(self._live.session))

    async def _begin(self, follower: Follower) -> None:
        snapshot = follower.snapshot
        head = m.Head(
            session=self._live.session, kept=len(snapshot.events), next_seq=snapshot.next_seq,
            terminal=snapshot.terminal, columns=snapshot.columns, rows=snapshot.rows, restore=snapshot.restore,
        )  # fmt: skip
        self._peer.tell(m.HEAD, head)
        await self._tell(snapshot.events)

    async def _tell(self, events: tuple[Numbered, ...] | list[Numbered]) -> None:
        for each in events:
            event = each.event
            word = m.Recorded(self._live.session, event.t_us, event.kind, event.chan, event.payload)
            await self._peer.told(m.RECORDED, word)
