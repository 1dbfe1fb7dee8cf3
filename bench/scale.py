"""Many sessions at once, idle and busy: what they cost, and what they cost everybody else.

`python -m bench.scale --idle 1000 --busy 200 --workers 0 --workers 2`: for each number of workers a house of its own,
real sshd included. Prints memory and processor time of the broker's processes, the latency of a read beside them, and
how long the revocation of one grant takes. No goal hangs on it: it is run by hand, on a machine that is quiet.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncssh

from grantd.cli.sshfiles import SshFiles
from grantd.v1 import access_pb2
from tests.e2e.stage import House
from tests.processes import descendants

PER_GRANT: Final = 7
"""Sessions of one grant: as many reads as one connection to a target takes."""
AT_ONCE: Final = 4
"""Sessions that begin at the same time: the door takes so many strangers of one source, divided among its workers."""
LINE: Final = b"x" * 1_023 + b"\n"
LINES_A_SECOND: Final = 10
WATCHED_S: Final = 10.0
"""For which processor time is counted."""
READS: Final = 50
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of the broker's processes: the control process first, then its workers."""

    memory_mib: tuple[float, ...]
    """Proportional: pages that several share are divided among them."""
    processor: tuple[float, ...]
    """Of one processor, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one phase cost."""

    sessions: int
    cost: Cost
    reads_ms: Sequence[float]

    def told(self, phase: str) -> str:
        """As a line."""
        memory = " + ".join(f"{mib:.0f}" for mib in self.cost.memory_mib)
        processor = " + ".join(f"{share:.0%}" for share in self.cost.processor)
        centiles = statistics.quantiles(self.reads_ms, n=100)
        return (
            f"  {phase:<8} {self.sessions:>5} sessions  memory {memory} MiB  processor {processor}"
            f"  read beside p50 {centiles[49]:.1f} ms, p99 {centiles[98]:.1f} ms"
        )


def broker_processes(house: House) -> list[int]:
    """The control process and its workers."""
    below = [pid for pid in descendants(house.pid) if b"broker.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [house.pid, *below]


def memory_mib(pid: int) -> float:
    """Proportional set size."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


def processor_s(pid: int) -> float:
    """Seconds of processor so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Crowd:
    """Clients of the SSH door, one connection a session."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._connections: list[asyncssh.SSHClientConnection] = []
        self._readers: list[asyncio.Task[None]] = []
        self._files: list[tuple[str, SshFiles]] = []
        self.grants: list[str] = []

    async def begin(self, number: int, command: str) -> None:
        """So many sessions more, all of which run the command."""
        turn = asyncio.Semaphore(AT_ONCE)
        files = [self._grant() for _ in range(-(-number // PER_GRANT))]
        async with asyncio.TaskGroup() as group:
            for index in range(number):
                group.create_task(self._one(files[index // PER_GRANT], command, turn))

    def _grant(self) -> SshFiles:
        grant = self._house.grant()
        self.grants.append(grant)
        return self._house.ssh_files(grant)

    async def _one(self, files: SshFiles, command: str, turn: asyncio.Semaphore) -> None:
        async with turn:
            connection = await connect(files)
            self._connections.append(connection)
            process = await connection.create_process(command, encoding=None, stdin=asyncssh.DEVNULL)
            self._readers.append(asyncio.get_running_loop().create_task(_drain(process)))

    async def end(self) -> None:
        """All of them leave."""
        for connection in self._connections:
            connection.abort()
        for reader in self._readers:
            reader.cancel()
        if self._readers:
            await asyncio.wait(self._readers)


async def _drain(process: asyncssh.SSHClientProcess[bytes]) -> None:
    with suppress(asyncssh.Error, OSError):
        while await process.stdout.read(65_536):
            pass


async def connect(files: SshFiles) -> asyncssh.SSHClientConnection:
    """A client under a grant."""
    return await asyncssh.connect(
        files.host, files.port, username=files.user, client_keys=[(str(files.key), str(files.certificate))],
        config=None, known_hosts=None, agent_path=None, gss_host=None, preferred_auth="publickey",
        compression_algs=["none"], login_timeout=120,
    )  # fmt: skip


async def reads(house: House, number: int) -> list[float]:
    """Milliseconds that a read takes on a connection of its own that is open already."""
    files = house.ssh_files(house.grant())
    connection = await connect(files)
    try:
        found = []
        for _ in range(number):
            began = time.perf_counter()
            await connection.run("uname -s", check=True)
            found.append((time.perf_counter() - began) * 1_000)
            await asyncio.sleep(0.05)
        return found
    finally:
        connection.abort()


async def cost(house: House, seconds: float) -> Cost:
    """What the broker's processes use, for so long."""
    pids = broker_processes(house)
    before, began = [processor_s(pid) for pid in pids], time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    shares = tuple((processor_s(pid) - was) / took for pid, was in zip(pids, before, strict=True))
    return Cost(memory_mib=tuple(map(memory_mib, pids)), processor=shares)


@asynccontextmanager
async def written(path: Path) -> AsyncIterator[None]:
    """A file that grows, while the context is open."""

    async def grow() -> None:
        while True:
            with path.open("ab") as file:
                file.write(LINE)
            await asyncio.sleep(1 / LINES_A_SECOND)

    path.write_bytes(b"")
    growing = asyncio.get_running_loop().create_task(grow())
    try:
        yield
    finally:
        growing.cancel()


async def revoked_ms(house: House, grant: str) -> float:
    """How long the revocation of a grant takes whose sessions run."""
    client = house.client("owner")
    asked = access_pb2.RevokeGrantRequest(grant_id=grant, reason="scale")
    began = time.perf_counter()
    await asyncio.to_thread(client.call, client.access.RevokeGrant, asked)
    return (time.perf_counter() - began) * 1_000


async def measure(
    house: House, *, idle: int, busy: int, seconds: float, number: int, say: Callable[[str], None]
) -> None:
    """Nothing, then idle sessions, then busy ones beside them; then one of the idle grants is taken away."""
    crowd, file = Crowd(house), house.folder / "growing"
    try:
        say(Found(sessions=0, cost=await cost(house, seconds), reads_ms=await reads(house, number)).told("alone"))
        await crowd.begin(idle, "tail -f /dev/null")
        say(Found(sessions=idle, cost=await cost(house, seconds), reads_ms=await reads(house, number)).told("idle"))
        async with written(file):
            await crowd.begin(busy, f"tail -f {file}")
            both = idle + busy
            say(Found(sessions=both, cost=await cost(house, seconds), reads_ms=await reads(house, number)).told("busy"))
            took = [await revoked_ms(house, grant) for grant in itertools.islice(crowd.grants, 5)]
        say(f"  revoked  {min(idle, PER_GRANT)} sessions of one grant: {', '.join(f'{ms:.0f}' for ms in took)} ms")
    finally:
        await crowd.end()


def settled(house: House, *, workers: int, sessions: int) -> None:
    """Starts it anew with so many workers, for so many sessions."""
    house.stop()
    text = house.config.read_text().replace("[ssh]", f"[ssh]\nworkers = {workers}")
    house.config.write_text(f"{text}\n[limits]\nsessions_per_process = {sessions + 100}\n")
    house.serve()


def main(argv: Sequence[str] | None = None) -> None:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="bench.scale", description=__doc__)
    parser.add_argument("--idle", type=int, default=1_000)
    parser.add_argument("--busy", type=int, default=200)
    parser.add_argument("--workers", type=int, action="append", help="0: sessions in the broker's own process")
    parser.add_argument("--seconds", type=float, default=WATCHED_S)
    parser.add_argument("--reads", type=int, default=READS)
    asked = parser.parse_args(argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for workers in asked.workers or [0, 2]:
        with tempfile.TemporaryDirectory(prefix="grantd-scale-") as name:
            house = House.build(Path(name))
            try:
                settled(house, workers=workers, sessions=asked.idle + asked.busy)
                print(f"workers = {workers}", flush=True)
                asyncio.run(
                    measure(
                        house, idle=asked.idle, busy=asked.busy, seconds=asked.seconds, number=asked.reads,
                        say=lambda line: print(line, flush=True),
                    )
                )  # fmt: skip
            finally:
                house.close()


if __name__ == "__main__":
    main()
