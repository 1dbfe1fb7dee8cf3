"""How many commands a second when 64 want to run at once: the broker, asyncssh alone, and ssh over masters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import asyncssh

from bench.brokered import READ, must_have_run
from bench.machine import cpu_s
from bench.peers import OpenSsh, asyncssh_connected, asyncssh_once
from bench.stage import BenchStage
from grantd.aio import AsyncClient

AT_ONCE: Final = 64
CONNECTIONS: Final = 10
"""All sides: as many leases, each with its own connection, as connections of asyncssh."""


class Rate:
    """Both sides in one loop. `ran` holds the id of every action that succeeded."""

    def __init__(self, stage: BenchStage, *, each: int, rounds: int) -> None:
        """`each`: commands of one worker in one round."""
        self._stage, self._each, self._rounds = stage, each, rounds
        self._grants = [stage.grant() for _ in range(CONNECTIONS)]
        self.ran: list[str] = []

    def measure(self) -> dict[str, list[float]]:
        """Commands a second of each, and CPU ms of the broker a command, round by round after one warm-up."""
        return asyncio.run(self._measure())

    async def _measure(self) -> dict[str, list[float]]:
        samples: dict[str, list[float]] = {}
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(AsyncClient(self._stage.agent_profile))
            connections = [await asyncssh_connected(self._stage) for _ in range(CONNECTIONS)]
            for connection in connections:
                stack.callback(connection.abort)
            masters = [stack.enter_context(OpenSsh(self._stage, name=f"mux{n}")) for n in range(CONNECTIONS)]
            for number in range(self._rounds + 1):
                brokered, alone = await self._brokered(client), await self._alone(connections)
                round_of = {**brokered, **alone, **await self._mux(masters)}
                for name, value in round_of.items() if number else ():
                    samples.setdefault(name, []).append(value)
        return samples

    async def _brokered(self, client: AsyncClient) -> Mapping[str, float]:
        async def once(worker: int) -> None:
            result = await client.run(self._grants[worker % CONNECTIONS], READ)
            must_have_run(result)
            self.ran.append(result.action.id)

        before = cpu_s(self._stage.broker_pid)
        rate = await self._at_once(once)
        spent = cpu_s(self._stage.broker_pid) - before
        return {"brokered rate": rate, "broker cpu ms": spent * 1e3 / (AT_ONCE * self._each)}

    async def _alone(self, connections: Sequence[asyncssh.SSHClientConnection]) -> Mapping[str, float]:
        async def once(worker: int) -> None:
            await asyncssh_once(connections[worker % CONNECTIONS])

        return {"asyncssh rate": await self._at_once(once)}

    async def _mux(self, masters: Sequence[OpenSsh]) -> Mapping[str, float]:
        """A process for each command, over as many connections as the others have."""

        async def once(worker: int) -> None:
            await masters[worker % CONNECTIONS].mux_beside()

        return {"ssh mux rate": await self._at_once(once)}

    async def _at_once(self, once: Callable[[int], Awaitable[None]]) -> float:
        async def work(worker: int) -> None:
            for _ in range(self._each):
                await once(worker)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for worker in range(AT_ONCE):
                group.create_task(work(worker))
        return AT_ONCE * self._each / (time.perf_counter() - began)
