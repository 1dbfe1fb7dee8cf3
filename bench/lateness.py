"""How late access ends, seen from both sides: at the client, and at the process on the target.

A broker with many live grants in its database, of which a thousand end in the same second, and with sessions that end
in that second too, some of them busy. Also what a live grant costs in memory, and how long a start takes with so many.

`python -m bench.lateness --grants 10000 --grants 100000 --sessions 500 --busy 50` does that alone and prints what it
found; with `--together` the sessions end not somewhere in that second but all at its beginning.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.ending import Late, late
from bench.figures import quantile
from bench.party import one_party
from broker.core.ids import render
from tests.e2e.stage import House

ENDING: Final = 1_000
"""Grants that end in the same second."""
SLOWLY_S: Final = 0.3
"""For one session to begin, on a machine that is busy."""
_HOUR_US: Final = 3_600_000_000
_SETTLED_S: Final = 3.0
_ALL_WRITTEN_S: Final = 30.0
_ENDED: Final = "SELECT id, ended_at, not_after FROM access_grant WHERE ended_at IS NOT NULL"


@dataclass(slots=True, kw_only=True)
class Found:
    """Milliseconds late, and what so many grants cost."""

    grants: int
    sessions: int
    busy: int
    one_party: bool
    """Whether the targets' processes are one party to the scheduler, and not as many as there are sessions."""
    sides: Late = field(default_factory=lambda: Late(at_client=[], at_target=[], processor=0.0))
    written: list[float] = field(default_factory=list)
    """Until the end stands in the database: nothing was started under it meanwhile."""
    start_s: float = 0.0
    """Of a start: until everything that ended meanwhile is ended, and every end to come is awaited."""
    grant_kib: float = 0.0

    def told(self) -> str:
        """As lines."""
        rows = [(name, late) for name, late in self.samples().items() if late]
        head = (
            f"{self.grants} live grants; {len(self.written)} end in one second, and {self.sessions} sessions,"
            f" {self.busy} of them busy (the broker took {self.sides.processor:.0%} of a processor before;"
            f" to the scheduler the targets are {'one party' if self.one_party else 'as many parties as sessions'})"
        )
        lines = [
            f"  late at {name:<8} p50 {quantile(late, 0.5):8.1f}  p99 {quantile(late, 0.99):8.1f}"
            f"  max {max(late):8.1f}  min {min(late):8.1f} ms"
            for name, late in rows
        ]
        start = f"  start takes {self.start_s:.2f} s longer, a live grant {self.grant_kib:.2f} KiB"
        return "\n".join((head, *lines, start))

    def samples(self) -> dict[str, list[float]]:
        """Milliseconds late, by where."""
        return {"client": self.sides.at_client, "target": self.sides.at_target, "written": self.written}


def measure(
    folder: Path, *, grants: int, sessions: int, busy: int, together: bool = False, ending: int = ENDING,
    many_parties: bool = False,
) -> Found:  # fmt: skip
    """One house, used up."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    house = House.build(folder, settings=f"\n[limits]\nsessions_per_process = {sessions + 100}\n")
    with nullcontext(False) if many_parties else one_party(house.sshd.pid) as alike, closing(house):  # noqa: FBT003
        found = Found(grants=grants, sessions=sessions, busy=busy, one_party=alike)
        pattern = house.grant(ttl=3_600)
        house.run(pattern, "true").finished()
        house.stop()
        house.serve()
        before = _resident_kib(house)
        house.stop()
        at = time.time() + 30 + grants / 5_000 + sessions * SLOWLY_S
        seeded = _seed(house.data / "grantd.db", pattern, grants=grants, ending=ending, at=at)
        house.serve()
        found.start_s = _recovered_s(house, grants)
        time.sleep(_SETTLED_S)
        found.grant_kib = max(0.0, _resident_kib(house) - before) / grants
        found.sides = asyncio.run(late(house, sessions=sessions, busy=busy, at=at, together=together))
        found.written = _written(house.data / "grantd.db", seeded)
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
    """Waits for the last of them. Raises RuntimeError if it does not come."""
    wanted, until = set(seeded), time.monotonic() + _ALL_WRITTEN_S
    while True:
        time.sleep(_SETTLED_S)
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as conn:
            rows = conn.execute(_ENDED).fetchall()
        late = [(ended - end) / 1e3 for name, ended, end in rows if name in wanted]
        if len(late) == len(wanted):
            return late
        if time.monotonic() > until:
            raise RuntimeError(f"{len(wanted) - len(late)} grants were not ended")


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
    parser.add_argument("--sessions", type=int, default=500, help="sessions that end too [500]")
    parser.add_argument("--busy", type=int, default=50, help="of which so many print ten lines a second [50]")
    parser.add_argument("--together", action="store_true", help="the sessions end all at once")
    parser.add_argument(
        "--many-parties", action="store_true", help="leave the scheduler a party for each session on the target"
    )
    parser.add_argument("--ending", type=int, default=ENDING, help="grants that end in the same second [1000]")
    parser.add_argument("--out", type=Path, default=Path("build/lateness.json"))
    asked = parser.parse_args(argv)
    told = []
    for grants in asked.grants or [10_000, 100_000]:
        with tempfile.TemporaryDirectory(prefix="grantd-lateness-") as name:
            found = measure(
                Path(name), grants=grants, sessions=asked.sessions, busy=min(asked.busy, asked.sessions),
                together=asked.together, ending=asked.ending, many_parties=asked.many_parties,
            )  # fmt: skip
        told.append(found)
        print(found.told(), flush=True)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps([_summary(found) for found in told], indent=2) + "\n")


def _summary(found: Found) -> dict[str, object]:
    quantiles = {
        f"{name} {word} ms": round(quantile(values, at), 2)
        for name, values in found.samples().items()
        for word, at in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }
    costs = {"start s": found.start_s, "KiB a grant": found.grant_kib}
    asked = {"grants": found.grants, "sessions": found.sessions, "busy": found.busy, "one party": found.one_party}
    return {**asked, **quantiles, **costs}


if __name__ == "__main__":
    main()
