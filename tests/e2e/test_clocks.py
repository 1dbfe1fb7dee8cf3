"""Clocks that are set while a lease lasts: a real broker under libfaketime, real targets (I-05).

The wall clock alone is faked: the monotonic one goes on, as it does when an operator, or an attacker, sets the time.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC
from pathlib import Path

import pytest

from grantd import GrantdError
from grantd.v1.access_pb2 import GrantState
from grantd.v1.action_pb2 import ActionState
from tests import peers
from tests.e2e.programs import processes_with, wait_until
from tests.e2e.stage import House
from tests.pace import Since

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.timeout(180), pytest.mark.xdist_group("e2e-clocks")]
LATE_S = 1.0
"""I-01: nothing of a session runs later than this after its end."""


class Moved:
    """A house whose broker believes whatever the file says about the wall clock."""

    def __init__(self, folder: Path) -> None:
        faketime = peers.require("faketime")
        library = next(faketime.parents[1].rglob("libfaketimeMT.so.1"), None) or _beside(faketime)
        self.shift = folder / "shift"
        self.set(0)
        words = ["LD_PRELOAD=" + str(library), f"FAKETIME_TIMESTAMP_FILE={self.shift}", "FAKETIME_NO_CACHE=1"]
        words += ["FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_RESET=1"]
        self.house = House.build(folder, prefix=["env", *words])

    def set(self, seconds: int) -> None:
        """From now on its wall clock is so far from the true one."""
        new = self.shift.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.shift)


def _beside(program: Path) -> Path:
    """Where Debian puts the library, whether the package is installed or unpacked elsewhere."""
    return next((program.parents[1] / "lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.fixture
def moved(moving: Moved) -> Iterator[Moved]:
    """The broker of all tests here, its clock right before and after each."""
    yield moving
    moving.set(0)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """One broker for all. The last test leaves it with a moment that is still to come."""
    made = Moved(tmp_path_factory.mktemp("moved"))
    try:
        yield made
    finally:
        made.set(0)
        made.house.close()


def _running(house: House, mark: Path, *, ttl: float) -> tuple[str, float]:
    """A grant under which a silent command runs, and the monotonic second of its end."""
    mark.touch()
    grant = house.grant(ttl=ttl)
    running = house.run(grant, f"tail -f {mark}")
    running.until(ActionState.ACTION_STATE_RUNNING)
    wait_until(lambda: bool(processes_with(str(mark))), 30)
    left = house.client("builder").grant(grant).not_after.ToDatetime(tzinfo=UTC).timestamp() - time.time()
    return grant, time.monotonic() + left


def _gone(mark: Path, end: float) -> float:
    """Seconds after its end at which the process was gone; it must not be gone before."""
    since = Since()
    while True:
        at = time.monotonic()
        if not processes_with(str(mark)):
            return at - end
        assert since.s() < 40, "it outlives its grant"
        time.sleep(0.01)


def _state(house: House, grant: str) -> str:
    """As it stands in the database: a broker whose clock is wrong has no clients."""
    with closing(sqlite3.connect(f"file:{house.data / 'grantd.db'}?mode=ro", uri=True)) as conn:
        return str(conn.execute("SELECT state FROM access_grant WHERE id = ?", (grant,)).fetchone()[0])


def _refusal(house: House, grant: str) -> str:
    with pytest.raises(GrantdError) as refused:
        house.run(grant, "uname -s").finished()
    return refused.value.code


def test_an_hour_back_lengthens_nothing(moved: Moved, tmp_path: Path) -> None:
    """Set back while the lease lasts: it ends when its seconds are over, and nothing new begins at all meanwhile."""
    house, mark = moved.house, tmp_path / "back"
    grant, end = _running(house, mark, ttl=10)
    moved.set(-3_600)
    wait_until(lambda: _refusal(house, grant) == "clock_moved_back", 10)
    assert -0.5 < _gone(mark, end) <= LATE_S
    wait_until(lambda: house.client("builder").grant(grant).state == GrantState.GRANT_STATE_EXPIRED, 10)
    moved.set(0)
    assert _refusal(house, grant) in ("grant_expired", "grant_over")


def test_a_day_back_at_a_restart_revives_nothing(moved: Moved, tmp_path: Path) -> None:
    """Killed while a grant lasts, its clock set back a day: it does not even start, since its signer's clock was not
    moved and refuses what it is asked for; and once the clock is right nothing has a second more.

    A signer whose clock moved along is what tests/broker/service/test_recovery.py has, through the clock's port.
    """  # noqa: D205
    house = moved.house
    over, _ = _running(house, tmp_path / "over", ttl=6)
    lasting, end = _running(house, tmp_path / "lasting", ttl=18)
    wait_until(lambda: _state(house, over) == "expired", 20)
    house.kill()
    moved.set(-86_400)
    with pytest.raises(RuntimeError, match="certificate refused"):
        house.serve()
    moved.set(0)
    house.serve()
    assert _refusal(house, over) in ("grant_over", "grant_expired")
    wait_until(lambda: _state(house, lasting) == "expired", max(0.0, end - time.monotonic()) + 15)
    assert _refusal(house, lasting) in ("grant_over", "grant_expired")


def test_a_broker_that_is_stopped_across_the_end(moved: Moved, tmp_path: Path) -> None:
    """SIGSTOP: the reaper on the target ends the process on time, by its own clock; after SIGCONT nothing is served."""
    house, mark = moved.house, tmp_path / "stopped"
    grant, end = _running(house, mark, ttl=8)
    os.kill(house.pid, signal.SIGSTOP)
    try:
        assert -0.5 < _gone(mark, end) <= LATE_S
    finally:
        os.kill(house.pid, signal.SIGCONT)
    assert _refusal(house, grant) in ("grant_expired", "grant_over")
    wait_until(lambda: house.client("builder").grant(grant).state == GrantState.GRANT_STATE_EXPIRED, 10)


def test_an_hour_ahead_ends_what_it_passed(moved: Moved, tmp_path: Path) -> None:
    """Set ahead: the lease is over at once, on the target too; set right again it does not come back."""
    house, mark = moved.house, tmp_path / "ahead"
    grant, end = _running(house, mark, ttl=600)
    since = Since()
    moved.set(3_600)
    _gone(mark, end)
    assert since.s() <= 3 * LATE_S  # the clocks are looked at twice a second
    wait_until(lambda: house.client("builder").grant(grant).state == GrantState.GRANT_STATE_EXPIRED, 10)
    moved.set(0)
    assert _refusal(house, grant) in ("clock_moved_back", "grant_expired", "grant_over")
