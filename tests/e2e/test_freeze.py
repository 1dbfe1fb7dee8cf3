"""The kill switch in a storm: busy sessions of two kinds, the database stopped, every place among the calls taken.

`python -m bench.freeze` is the same with 200 sessions, and prints what it measured.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.freeze import measure
from broker.adapters.store.migrations import migrate
from grantd import GrantdError, freezing
from grantd.profile import Profile
from tests import peers
from tests.e2e.programs import processes_with, wait_until
from tests.e2e.stage import FREE, House
from tests.pace import Since
from tests.peers_postgres import APP, PostgresCluster

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-freeze"), pytest.mark.timeout(240)]

WITHIN_S = 2.0
"""I-61."""
REFUSED = {"frozen", "refused", "PermissionDenied"}


@pytest.fixture
def cluster() -> Iterator[PostgresCluster]:
    """A server of its own: it is stopped in the middle."""
    for program in (*peers.PEERS["postgres"], "sshd", "ssh-keygen"):
        peers.require(program)
    made = PostgresCluster.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for the two that need no server for its database; each starts it as it needs it."""
    peers.require("sshd")
    made = House.build(tmp_path_factory.mktemp("freeze"))
    yield made
    made.close()


def test_freeze_with_the_database_paused_and_every_place_taken(cluster: PostgresCluster, tmp_path: Path) -> None:
    """I-61: all cut within 2 s, at clients and target; nothing issued then, nor when it goes on, nor after a kill."""
    database = cluster.create_database()
    migrate(database.owner, app_role=APP)
    url = database.app.set(drivername="postgresql").render_as_string(hide_password=False)
    house = House.build(tmp_path, database=url)
    try:
        house.stop()  # sessions of the SDK run in the broker's own process all the same
        house.config.write_text(house.config.read_text().replace("[ssh]", "[ssh]\nworkers = 2"))
        house.serve()
        found = measure(house, cluster.pid, by_ssh=12, by_sdk=6, calls_each=250)
    finally:
        house.close()
    assert (found.cut, found.late, found.recorded) == (18, 0, False)
    assert found.turned_away, "the ordinary listener had no place left"
    for moment in (found.answered_s, found.last_byte_s, found.last_told_s, found.last_process_s):
        assert moment - found.waited_s <= WITHIN_S, found
    assert "done" not in found.tried.values(), found.tried
    assert set(found.tried_after.values()) | set(found.restarted.values()) <= REFUSED, found
    assert found.issued == 0


def test_the_host_freezes_while_sqlite_is_locked_and_a_kill_lifts_nothing(house: House, tmp_path: Path) -> None:
    """I-61: needs no network or certificate; the file alone knows of it when the broker dies, and the next reads it."""
    lock = sqlite3.connect(house.data / "grantd.db", isolation_level=None)
    try:
        mark = str(tmp_path / "mark")
        running = house.run(house.grant(), f"touch {mark}; tail -f {mark}")
        wait_until(lambda: bool(processes_with(mark)), 15)
        lock.execute("BEGIN IMMEDIATE")
        since = Since()
        told = house.grantd("freeze", "--config", str(house.config), "--all", "--reason", "fire", "-o", "json")
        assert told.status == 0, told.err
        assert told.json() == [{"sessions": 1, "late": 0, "recorded": False}]
        wait_until(lambda: not processes_with(mark), 15)
        assert since.s() <= WITHIN_S + 1.0, "a program's start included"
        assert "an operator ended this: fire" in running.told()
        assert [path.name for path in (house.data / "freezes").iterdir()] == ["_all.json"]
        house.kill()
        lock.execute("ROLLBACK")
        house.serve()
        asked = house.ctl("builder", "request", FREE, house.sshd.login, "--reason", "again")
        assert asked.status != 0
        assert re.search(r"access is frozen since \S+ \S+ UTC by host:\d+: fire", asked.err), asked.err
        wait_until(lambda: not list((house.data / "freezes").iterdir()), 15)
        assert house.audited("system.frozen", lambda entry: entry["door"] == "host")
        lifted = house.ctl("owner", "unfreeze", "--reason", "over")
        assert (lifted.status, lifted.out) == (0, "lifted\n"), lifted.err
        assert house.run(house.grant(), "uname -s").finished().exit_status == 0
    finally:
        lock.close()


def test_a_broker_whose_loop_stands_still_ends_itself_frozen(house: House, tmp_path: Path) -> None:
    """I-61: nothing of the loop is needed to stop. What cannot be told to cut is ended, and starts frozen."""
    house.stop()
    house.prefix = [sys.executable, "-m", "tests.e2e.standstill"]
    house.serve()
    mark = str(tmp_path / "mark")
    house.run(house.grant(), f"touch {mark}; tail -f {mark}")
    wait_until(lambda: bool(processes_with(mark)), 15)
    assert house.broker is not None
    os.kill(house.broker.pid, signal.SIGUSR1)
    time.sleep(0.2)
    since = Since()
    with contextlib.suppress(GrantdError):
        freezing.freeze(Profile.load(house.profile("owner")), "it hangs")
    wait_until(lambda: not processes_with(mark), 20)
    assert since.s() <= WITHIN_S + 0.5, "1.5 s for the loop, then the process ends"
    wait_until(lambda: not house.is_serving(), 20)
    assert house.broker.returncode == 70
    house.prefix = []
    house.serve()
    asked = house.ctl("builder", "request", FREE, house.sshd.login, "--reason", "again")
    assert "by owner: it hangs" in asked.err
