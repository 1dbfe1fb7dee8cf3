"""A gated shell as a client sees it: a stock asyncssh client with a terminal of pyte's before an open door."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pyte

from broker.core.action import Action, ActionState
from broker.core.approval import Verdict
from broker.proxy.shell.editor import PASTE_OFF
from broker.service.ports import Session
from recorder.grec import Event
from tests.broker.proxy.world import Gate
from tests.broker.rpc.agent import decide, identified
from tests.broker.rpc.world import TENANT

SHELL = frozenset({"shell"})
PATIENCE = 15.0


class Seat:
    """A person at a terminal."""

    def __init__(
        self,
        client: asyncssh.SSHClientConnection,
        process: asyncssh.SSHClientProcess[bytes],
        *,
        columns: int = 160,
        lines: int = 30,
    ) -> None:
        self.client, self.process = client, process
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def taken(
        cls, front: Gate, *, flags: frozenset[str] = SHELL, ttl_s: int = 600, term: str = "xterm-256color",
        **more: Any,  # noqa: ANN401  asyncssh's
    ) -> Seat:  # fmt: skip
        """Logged in, with the first prompt on the screen."""
        client = await front.connect(await front.admit(flags=flags, ttl_s=ttl_s))
        process = await client.create_process(
            term_type=term, term_size=(160, 30), encoding=None, **more
        )  # fmt: skip
        seat = cls(client, process)
        seat.follow()
        await seat.sees("$")
        return seat

    def follow(self) -> None:
        """Shows what comes."""

        async def read() -> None:
            with contextlib.suppress(asyncssh.Error, OSError):  # the client left, or was cut
                while data := await self.process.stdout.read(65_536):
                    self.raw += data
                    self.stream.feed(data)

        self._reading = asyncio.ensure_future(read())  # noqa: TID251  a test's own

    def type(self, *keys: str | bytes) -> None:
        """Keys, each in a packet of its own."""
        for key in keys:
            self.process.stdin.write(key.encode() if isinstance(key, str) else key)

    async def enter(self, line: str) -> None:
        """A line and Enter, once there is a prompt."""
        await self.until(lambda rows: rows[-1].endswith("$"), "a prompt")
        before = len(self.raw)
        self.type(line)
        await self.until(lambda _: len(self.raw) > before, line)
        self.type("\r")
        await self.until(lambda _: PASTE_OFF in self.raw[before:], line)

    def rows(self) -> list[str]:
        """What stands on the screen."""
        return [row.rstrip() for row in self.screen.display if row.strip()]

    async def sees(self, text: str) -> list[str]:
        """The screen, once `text` stands on it."""
        return await self.until(lambda rows: any(text in row for row in rows), text)

    async def until(self, holds: Any, what: str = "") -> list[str]:  # noqa: ANN401
        """The screen, once it holds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds(self.rows()):  # noqa: ASYNC110  a screen rings no bell
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not seen: {what!r} in\n" + "\n".join(self.rows())) from None
        return self.rows()

    async def prompt(self, number: int) -> list[str]:
        """The screen, once so many prompts stand on it and the last one is at its end."""
        return await self.until(
            lambda rows: sum(" $ " in f"{row} " for row in rows) >= number and rows[-1].endswith("$"),
            f"{number} prompts",
        )

    async def left(self) -> int | None:
        """The exit status, once the shell is over."""
        async with asyncio.timeout(PATIENCE):
            await self.process.wait_closed()
        return self.process.exit_status


async def actions(front: Gate) -> list[Action]:
    """All there are, oldest first."""
    states = tuple(ActionState)
    found = await front.house.world.store.read(TENANT, lambda tx: list(tx.actions.in_states(states, grant=None)))
    return sorted(found, key=lambda action: action.proposed_at)


async def awaiting(front: Gate) -> Action:
    """The one action that waits for a person."""
    async with asyncio.timeout(PATIENCE):
        while True:
            waiting = [each for each in await actions(front) if each.state is ActionState.AWAITING]
            if waiting:
                return waiting[0]
            await asyncio.sleep(0.02)


async def allowed(front: Gate) -> None:
    """The action that waits, allowed by a person."""
    await decide(front.house, (await awaiting(front)).id, Verdict.APPROVE)


async def recorded(front: Gate) -> tuple[list[Session], dict[str, list[Event]]]:
    """All sessions by kind, and what was recorded of each."""
    page = await front.house.world.store.read(
        TENANT, lambda tx: tx.sessions.page(identity=None, after=None, limit=50)
    )  # fmt: skip
    admin = await identified(front.house, "admin")
    events = {}
    for session in page:
        reader = await front.house.cases.session.play(admin, session.id, "a test")
        events[str(session.id)] = list(reader.events())
    return sorted(page, key=lambda session: session.kind), events


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose name fits into a prompt."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as made:
        yield Path(made)
