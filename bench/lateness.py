"""How late access ends, seen from both sides: at the client, and at the process on the target.

A broker with many live grants in its database, of which a thousand end in the same second, and with sessions that are
busy and end in that second too. Also what a live grant costs in memory, and how long a start takes with so many.

`python -m bench.lateness --grants 10000 --grants 100000 --sessions 50` does that alone and prints what it found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import select
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncssh

from bench.figures import quantile
from bench.scale import AT_ONCE, connect, written
from broker.core.ids import render
from tests.e2e.stage import House

ENDING: Final = 1_000
"""Grants that end in the same second."""
SLOWLY_S: Final = 0.3
"""For one session to begin, on a machine that is busy."""
_HOUR_US: Final = 3_600_000_000
_SETTLED_S: Final = 3.0


@dataclass(slots=True, kw_only=True)
class Found:
    """Milliseconds late, and what so many grants cost."""

    grants: int
    sessions: int
    at_client: list[float] = field(default_factory=list)
    at_target: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    """Until the end stands in the database: nothing was started under it meanwhile."""
    start_s: float = 0.0
    """Of a start: until everything that ended meanwhile is ended, and every end to come is awaited."""
    grant_kib: float = 0.0

    def told(self) -> str:
        """As lines."""
        rows = (("client", self.at_client), ("target", self.at_target), ("written", self.written))
        head = f"{self.grants} live grants, {len(self.written)} end in one second, {self.sessions} busy sessions"
        lines = [
            f"  late at {name:<8} p50 {quantile(late, 0.5):8.1f}  p99 {quantile(late, 0.99):8.1f}"
            f"  max {max(late):8.1f}  min {min(late):8.1f} ms"
            for name, late in rows
        ]
        start = f"  start takes {self.start_s:.2f} s longer, a live grant {self.grant_kib:.2f} KiB"
        return "\n".join((head, *lines, start))


class Exits:
    """Waits for processes of this machine to be gone, each by its own descriptor; on a thread."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._descriptors = {os.pidfd_open(pid): pid for pid in pids}
        self.at: dict[int, float] = {}
        """Wall seconds."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        poll = select.poll()
        for descriptor in self._descriptors:
            poll.register(descriptor, select.POLLIN)
        while len(self.at) < len(self._descriptors):
            for descriptor, _ in poll.poll():
                self.at[self._descriptors[descriptor]] = time.time()
                poll.unregister(descriptor)
                os.close(descriptor)

    def all(self, seconds: float) -> Mapping[int, float]:
        """When each was gone. Raises RuntimeError if one is still there."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise RuntimeError(f"{len(self._descriptors) - len(self.at)} processes outlive their grants")
        return self.at


def measure(folder: Path, *, grants: int, sessions: int, ending: int = ENDING) -> Found:
    """One house, used up."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    house = House.build(folder, settings=f"\n[limits]\nsessions_per_process = {sessions + 100}\n")
    try:
        found = Found(grants=grants, sessions=sessions)
        pattern = house.grant(ttl=3_600)
        house.run(pattern, "true").finished()
        house.stop()
        house.serve()
        before = _resident_kib(house)
        house.stop()
        at = time.time() + 20 + grants / 5_000 + sessions * SLOWLY_S
        seeded = _seed(house.data / "grantd.db", pattern, grants=grants, ending=ending, at=at)
        house.serve()
        found.start_s = _recovered_s(house, grants)
        time.sleep(_SETTLED_S)
        found.grant_kib = max(0.0, _resident_kib(house) - before) / grants
        asyncio.run(_sessions(house, found, at + 0.5))
        time.sleep(_SETTLED_S)
        found.written = _written(house.data / "grantd.db", seeded)
        return found
    finally:
        house.close()


async def _sessions(house: House, found: Found, at: float) -> None:
    """Begins them, and keeps how late each of them ended on both sides."""
    growing = house.folder / "growing"
    turn, begun = asyncio.Semaphore(AT_ONCE), list[_Session]()
    async with written(growing):
        async with asyncio.TaskGroup() as group:
            for number in range(found.sessions):
                group.create_task(_begin(house, number, growing, at, turn, begun))
        if time.time() > at - 1:
            raise RuntimeError("the sessions began too slowly for the end that they share: nothing was measured")
        pids = _tails(house.folder, found.sessions)
        exits = Exits(pids.values())
        async with asyncio.timeout(at - time.time() + 30):
            for session in begun:
                await session.ended.wait()
    gone = await asyncio.to_thread(exits.all, 30)
    for session in begun:
        session.connection.abort()
        found.at_client.append((session.ended_at - session.not_after) * 1e3)
        found.at_target.append((gone[pids[session.number]] - session.not_after) * 1e3)


@dataclass(slots=True, kw_only=True)
class _Session:
    number: int
    not_after: float
    connection: asyncssh.SSHClientConnection
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended_at: float = 0.0
    reader: asyncio.Task[None] | None = None


async def _begin(
    house: House, number: int, growing: Path, at: float, turn: asyncio.Semaphore, begun: list[_Session]
) -> None:
    async with turn:
        own = house.folder / f"growing-{number}"
        own.symlink_to(growing)
        ttl = int(at - time.time())  # whole seconds: it is used for the first time so long before its end
        grant = await asyncio.to_thread(lambda: house.grant(ttl=ttl))
        await asyncio.sleep(at - ttl - time.time())
        files = await asyncio.to_thread(lambda: house.ssh_files(grant))
        not_after = (await asyncio.to_thread(house.client("builder").grant, grant)).not_after
        connection = await connect(files)
        session = _Session(number=number, not_after=not_after.seconds + not_after.nanos / 1e9, connection=connection)
        process = await connection.create_process(f"tail -f {own}", encoding=None, stdin=asyncssh.DEVNULL)
        await process.stdout.read(1)
        session.reader = asyncio.get_running_loop().create_task(_read(process, session))
        begun.append(session)


async def _read(process: asyncssh.SSHClientProcess[bytes], session: _Session) -> None:
    try:
        while await process.stdout.read(65_536):
            pass
    except (asyncssh.Error, OSError):
        pass
    session.ended_at = time.time()
    session.ended.set()


def _tails(folder: Path, sessions: int) -> dict[int, int]:
    """The process of each session on the target, which is this machine."""
    wanted = {os.fsencode(folder / f"growing-{number}"): number for number in range(sessions)}
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
        except OSError:
            continue
        if len(words) > 2 and words[0].endswith(b"tail") and words[2] in wanted:
            found[wanted[words[2]]] = int(entry.name)
    if len(found) != sessions:
        raise RuntimeError(f"{sessions} sessions should run on the target, {len(found)} do")
    return found


def _seed(database: Path, pattern: str, *, grants: int, ending: int, at: float) -> Sequence[str]:
    """So many copies of a live grant; returns those that end in the second that begins at `at`."""
    chance = random.Random(grants)
    names = [render("grant", number.to_bytes(16, "big")) for number in range(1, grants + 1)]
    at_us = int(at * 1e6)
    ends = [at_us + n * 1_000_000 // ending for n in range(ending)]
    ends += [at_us + chance.randint(1, 9) * _HOUR_US for _ in range(grants - ending)]
    with sqlite3.connect(database) as conn:
        columns = [row[1] for row in conn.execute("PRAGMA table_info(access_grant)")]
        found = conn.execute("SELECT * FROM access_grant WHERE id = ?", (pattern,)).fetchone()
        row = dict(zip(columns, found, strict=True))
        copies = (row | {"id": name, "not_after": end, "ends_at": end} for name, end in zip(names, ends, strict=True))
        places = ",".join(f":{name}" for name in columns)
        conn.executemany(f"INSERT INTO access_grant VALUES ({places})", copies)  # noqa: S608  names of its own schema
    conn.close()
    return names[:ending]


def _written(database: Path, seeded: Sequence[str]) -> list[float]:
    wanted = set(seeded)
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as conn:
        rows = conn.execute("SELECT id, ended_at, not_after FROM access_grant WHERE ended_at IS NOT NULL").fetchall()
    conn.close()
    late = [(ended - end) / 1e3 for name, ended, end in rows if name in wanted]
    if len(late) != len(wanted):
        raise RuntimeError(f"{len(wanted) - len(late)} grants were not ended")
    return late


def _recovered_s(house: House, grants: int) -> float:
    """What the broker itself says of its last start. Raises RuntimeError if it does not await every end."""
    lines = [json.loads(line) for line in house.log.read_text().splitlines() if '"broker.recovered"' in line]
    if lines[-1]["awaited"] < grants:
        raise RuntimeError(f"{lines[-1]['awaited']} ends are awaited, not {grants}")
    return float(lines[-1]["seconds"])


def _resident_kib(house: House) -> float:
    return int(Path(f"/proc/{house.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Prints what was found, and adds it to build/lateness.json."""
    parser = argparse.ArgumentParser(prog="bench.lateness", description=__doc__)
    parser.add_argument("--grants", type=int, action="append", help="live grants [10000 and 100000]")
    parser.add_argument("--sessions", type=int, default=50, help="busy sessions that end too [50]")
    parser.add_argument("--ending", type=int, default=ENDING, help="grants that end in the same second [1000]")
    parser.add_argument("--out", type=Path, default=Path("build/lateness.json"))
    asked = parser.parse_args(argv)
    told = []
    for grants in asked.grants or [10_000, 100_000]:
        with tempfile.TemporaryDirectory(prefix="grantd-lateness-") as name:
            found = measure(Path(name), grants=grants, sessions=asked.sessions, ending=asked.ending)
        told.append(found)
        print(found.told(), flush=True)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps([_summary(found) for found in told], indent=2) + "\n")


def _summary(found: Found) -> dict[str, object]:
    late = {"client": found.at_client, "target": found.at_target, "written": found.written}
    quantiles = {
        f"{name} {word} ms": round(quantile(values, at), 2)
        for name, values in late.items()
        for word, at in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }
    costs = {"start s": found.start_s, "KiB a grant": found.grant_kib}
    return {"grants": found.grants, "sessions": found.sessions, **quantiles, **costs}


if __name__ == "__main__":
    main()
