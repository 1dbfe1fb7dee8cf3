"""The kill switch in a storm: busy sessions, the database paused, every place among the calls taken (I-61).

`python -m bench.freeze --ssh 150 --sdk 50 --workers 0 --workers 2`: for each number of workers a house of its own over
a real PostgreSQL, which is stopped (SIGSTOP) before the switch is pulled. Prints when the last byte came to a client,
when the last client was told, when the last process was seen on the target, what an agent that goes on trying gets,
and whether it is still frozen after a SIGKILL.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.store.migrations import migrate
from grantd import freezing
from tests.e2e.stage import House
from tests.e2e.storm import Storm, flooded, paused, tried
from tests.pace import Since
from tests.peers_postgres import APP, PostgresCluster

FLOODERS = ("builder", "other", "approver", "second")
CALLS_EACH = 250
"""As many as one identity may have open at once: four of them take every place there is."""
_LISTED_S = 5.0
"""In which the lane has read who may freeze, before the database is paused: it looks every two seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Seconds after the switch was pulled, at the client that pulled it."""

    sessions: int
    cut: int
    late: int
    recorded: bool
    answered_s: float
    last_byte_s: float
    last_told_s: float
    last_process_s: float
    waited_s: float
    """Of these seconds, those in which this machine made something wait for a processor or the disk."""
    turned_away: int
    """Calls at the ordinary listener that found no place, when the switch was pulled."""
    tried: dict[str, str]
    tried_after: dict[str, str]
    restarted: dict[str, str]
    issued: int
    """Credentials, by the audit log, after the switch was pulled."""

    def lines(self) -> list[str]:
        """As a person reads it."""
        return [
            f"  sessions busy, cut, late       {self.sessions}, {self.cut}, {self.late}",
            f"  answer to who pulled it        {self.answered_s:.3f} s (in the database by then: {self.recorded})",
            f"  last byte at any client        {self.last_byte_s:.3f} s",
            f"  last client told               {self.last_told_s:.3f} s",
            f"  last process on the target     {self.last_process_s:.3f} s",
            f"  calls without a place          {self.turned_away}",
            f"  tried while paused             {_told(self.tried)}",
            f"  tried when it went on          {_told(self.tried_after)}",
            f"  tried after SIGKILL and start  {_told(self.restarted)}",
            f"  credentials issued since       {self.issued}",
        ]


def _told(words: dict[str, str]) -> str:
    return ", ".join(f"{name}: {word}" for name, word in words.items())


def measure(house: House, postgres: int, *, by_ssh: int, by_sdk: int, calls_each: int) -> Found:
    """One storm; the house is left serving, and frozen. `postgres`: pid of its database's server."""
    storm = Storm(house=house, folder=house.folder / "storm")
    profile = house.client("approver").profile
    try:
        storm.begin(by_ssh, by_sdk)
        time.sleep(_LISTED_S)
        with paused(postgres), flooded(house, FLOODERS, calls_each) as ends:
            time.sleep(1.0)
            turned_away = len(ends)
            watching = storm.watching(20)
            time.sleep(0.3)
            pulled, since = time.monotonic(), Since()
            told = freezing.freeze(profile, "an incident")
            answered = time.monotonic()
            watching.join()
            waited = since.wall_s() - since.s()
            tries = tried(house, storm, 4)
        after = tried(house, storm, 20)
        house.kill()
        house.serve()
        restarted = tried(house, storm, 20)
        frozen = house.audited("system.frozen", lambda _: True)
        issued = [entry for entry in house.audit("credential.issued") if entry["t"] > frozen["t"]]
    finally:
        storm.end()
    return Found(
        sessions=by_ssh + by_sdk, cut=told.sessions_cut, late=told.sessions_late, recorded=told.recorded,
        answered_s=answered - pulled,
        last_byte_s=max(client.last_byte for client in storm.clients) - pulled,
        last_told_s=max(client.ended or time.monotonic() for client in storm.clients) - pulled,
        last_process_s=max(storm.seen.values(), default=pulled) - pulled,
        waited_s=waited, turned_away=turned_away,
        tried=tries, tried_after=after, restarted=restarted, issued=len(issued),
    )  # fmt: skip


def houses(workers: Sequence[int], *, by_ssh: int, by_sdk: int, calls_each: int = CALLS_EACH) -> Iterator[Found]:
    """One storm for each number of workers, in a house of its own over the same PostgreSQL."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cluster = PostgresCluster.start()
    try:
        for number in workers:
            database = cluster.create_database()
            migrate(database.owner, app_role=APP)
            with tempfile.TemporaryDirectory(prefix="grantd-freeze-") as name:
                url = database.app.set(drivername="postgresql").render_as_string(hide_password=False)
                house = House.build(Path(name), database=url, settings="")
                try:
                    if number:
                        house.stop()
                        text = house.config.read_text().replace("[ssh]", f"[ssh]\nworkers = {number}")
                        house.config.write_text(text)
                        house.serve()
                    yield measure(house, cluster.pid, by_ssh=by_ssh, by_sdk=by_sdk, calls_each=calls_each)
                finally:
                    house.close()
    finally:
        cluster.stop()


def samples(found: Found) -> dict[str, list[float]]:
    """As figures. Raises RuntimeError where anything of the promise but its seconds was broken."""
    words = (*found.tried.values(), *found.tried_after.values(), *found.restarted.values())
    if found.cut != found.sessions or found.issued or "done" in words:
        raise RuntimeError("a freeze that does not hold:\n" + "\n".join(found.lines()))
    return {
        "freeze told last s": [found.last_told_s],
        "freeze process last s": [found.last_process_s],
        "freeze answered s": [found.answered_s],
    }


def main(words: Sequence[str] | None = None) -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.freeze", description=__doc__)
    parser.add_argument("--ssh", type=int, default=150, help="sessions of SSH clients [150]")
    parser.add_argument("--sdk", type=int, default=50, help="sessions of the SDK [50]")
    parser.add_argument("--workers", type=int, action="append", help="0: sessions in the broker's own process [0, 2]")
    asked = parser.parse_args(words)
    numbers = asked.workers or [0, 2]
    for workers, found in zip(numbers, houses(numbers, by_ssh=asked.ssh, by_sdk=asked.sdk), strict=True):
        sys.stdout.write("\n".join([f"workers = {workers}", *found.lines()]) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
