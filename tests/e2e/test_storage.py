"""A full disk under the recorder, a full disk under the database, a read-only database: refused plainly, nothing lost.

Each broker here lives in a mount namespace of its own, with small tmpfs or read-only mounts that nobody else sees.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC
from functools import partial
from pathlib import Path

import pytest

from grantd import GrantdError
from grantd.v1.access_pb2 import GrantState
from grantd.v1.action_pb2 import ActionState
from recorder.track import Limits
from tests import peers
from tests.e2e.programs import processes_with, wait_until
from tests.e2e.stage import ASKS, House
from tests.pace import Since

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-storage")]

MIB = 1 << 20
FLOOR_MIB = 4
ACCEPTED = Limits().queue_bytes
"""Bytes that a recorder may have accepted and not yet written when its disk fills up (I-30)."""


@pytest.fixture(scope="module", autouse=True)
def _mounts() -> None:
    """Mounting needs root and a kernel that lets it make namespaces."""
    peers.require("sshd")
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if os.geteuid() != 0 or subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        pytest.skip("a disk that fills up needs mount namespaces: root, and a kernel that lets it")


def _in_namespace(script: str, *places: Path) -> list[str]:
    """Words before a program that runs it after `script` in a mount namespace of its own; places are $1, $2, ..."""
    return [
        "unshare", "--mount", "sh", "-ec", f'{script}; shift {len(places)}; exec "$@"', "sh", *map(str, places)
    ]  # fmt: skip


class Disk:
    """A tmpfs that only the broker sees, reached through its root in /proc."""

    def __init__(self, house: House, mounted: Path) -> None:
        self._inside = Path(f"/proc/{house.pid}/root{mounted}")
        self._filler = self._inside / "filler"

    def fill(self, *, leave: int) -> None:
        """Until so many bytes are left, whatever the broker writes meanwhile."""
        with self._filler.open("wb") as file:
            while True:
                status = os.statvfs(self._inside)
                with contextlib.suppress(OSError):  # somebody was quicker: less is left to take
                    os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - leave))
                    return

    def free(self) -> None:
        """Gives it back."""
        self._filler.unlink()


@pytest.fixture
def small_recorder(tmp_path: Path) -> Iterator[tuple[House, Disk]]:
    """A house whose recordings lie on 32 MiB."""
    place = tmp_path / "recordings"
    place.mkdir(mode=0o700)
    prefix = _in_namespace('mount -t tmpfs -o size=32m,mode=0700 tmpfs "$1"', place)
    settings = f'\n[recordings]\ndirectory = "{place}"\nfloor_mib = {FLOOR_MIB}\n'
    house = House.build(tmp_path, settings=settings, prefix=prefix)
    try:
        yield house, Disk(house, place)
    finally:
        house.close()


def test_a_full_disk_under_the_recorder_ends_the_session_and_refuses_the_next(
    small_recorder: tuple[House, Disk], tmp_path: Path
) -> None:
    """No byte goes on unrecorded: the flood is cut, nothing new starts, and it all works again with room (I-30)."""
    house, disk = small_recorder
    grant = house.grant()
    assert house.run(grant, "uname -s").finished().exit_status == 0
    disk.fill(leave=(FLOOR_MIB + 3) * MIB)
    mark = tmp_path / "noise"
    with mark.open("wb") as noise:
        noise.write(os.urandom(64 * MIB))

    running = house.run(grant, f"cat {mark}")
    flood = running.finished()
    assert (flood.state, flood.note) == (ActionState.ACTION_STATE_CUT, "recorder_failed")
    wait_until(lambda: not processes_with(str(mark)), 1)
    session = house.session(flood.session_id)
    assert (session.state, session.end_reason) == ("cut", "recorder_failed")

    refused = house.ctl("builder", "run", grant, "--", "uname -s")
    assert (refused.status, refused.out) == (1, "")
    assert "the recorder cannot record; nothing runs unrecorded" in refused.err, refused.err

    disk.free()
    assert house.run(grant, "uname -s").finished().exit_status == 0
    recorded = b"".join(event.payload for event in house.played(flood.session_id) if event.kind == 1)
    assert MIB < len(running.output()) < 64 * MIB
    assert mark.read_bytes().startswith(recorded)
    assert running.output().startswith(recorded[: len(running.output())])
    unwritten = len(running.output()) - len(recorded)
    assert unwritten <= ACCEPTED, "what the caller saw was accepted by the recorder before"
    _log_verifies(house, tmp_path)


@pytest.fixture
def small_database(tmp_path: Path) -> Iterator[tuple[House, Disk]]:
    """A house whose state (database, signer's journal) lies on 24 MiB; recordings lie elsewhere."""
    data, small, elsewhere = tmp_path / "data", tmp_path / "small", tmp_path / "recordings"
    small.mkdir()
    elsewhere.mkdir(mode=0o700)
    script = 'mount -t tmpfs -o size=24m,mode=0700 tmpfs "$2" && cp -a "$1/." "$2/" && mount --bind "$2" "$1"'
    settings = f'\n[recordings]\ndirectory = "{elsewhere}"\n'
    house = House.build(tmp_path, settings=settings, prefix=_in_namespace(script, data, small))
    try:
        yield house, Disk(house, data)
    finally:
        house.close()


def test_a_full_disk_under_the_database_is_said_and_ends_nothing_late(
    small_database: tuple[House, Disk], tmp_path: Path
) -> None:
    """Nothing is granted that cannot be written; what runs ends on time; with room it all goes on (I-31, I-61)."""
    house, disk = small_database
    mark = tmp_path / "followed"
    mark.write_text("line\n")
    grant, other = house.grant(ASKS, ttl=6), house.grant()
    running = house.run(grant, f"tail -f {mark}")
    wait_until(partial(_runs, str(mark)), 10)
    end = house.client("builder").grant(grant).not_after.ToDatetime(tzinfo=UTC).timestamp()
    disk.fill(leave=0)

    problem = _first_refusal(house)
    assert problem.code == "store_unavailable", problem
    asked = house.ctl("builder", "request", ASKS, house.sshd.login, "--reason", "x")
    assert (asked.status, asked.out) == (1, "")
    assert "the broker's store does not answer; nothing was written" in asked.err

    time.sleep(max(0.0, end - 0.5 - time.time()))
    assert _runs(str(mark)), "it runs until its end"
    time.sleep(max(0.0, end - time.time()))
    over = Since()
    wait_until(lambda: not _runs(str(mark)), 10, every=0.005)
    assert over.s() <= 1.0
    assert house.is_serving()

    disk.free()
    wait_until(lambda: house.client("builder").grant(grant).state == GrantState.GRANT_STATE_EXPIRED, 15, every=0.2)
    action = running.finished()
    assert action.state == ActionState.ACTION_STATE_CUT
    wait_until(lambda: house.run(other, "uname -s").finished().exit_status == 0, 10)
    _log_verifies(house, tmp_path)


def test_a_read_only_database_refuses_in_words_and_loses_nothing(tmp_path: Path) -> None:
    """Looking works, nothing is granted or run, the kill switch still cuts; writable again, it goes on (I-31, I-61)."""
    house = House.build(tmp_path)
    try:
        grant, other = house.grant(), house.grant()
        assert house.run(grant, "uname -s").finished().exit_status == 0
        _restart_with_read_only(house, house.data / "grantd.db")
        before = (house.data / "grantd.db").read_bytes()

        assert house.ctl("builder", "whoami").status == 0
        for words in (
            ("builder", "request", ASKS, house.sshd.login, "--reason", "x"),
            ("builder", "run", grant, "--", "uname -s"),
            ("owner", "grants", "revoke", other, "--reason", "x"),
        ):
            told = house.ctl(*words)
            assert (told.status, told.out) == (1, ""), told
            assert "grantctl: the broker's store does not answer; nothing was written" in told.err
        frozen = house.ctl("owner", "freeze", "--reason", "x")
        assert frozen.status == 0, frozen
        assert "the database has not got it yet, a file keeps it" in frozen.out
        causes = {line.get("cause") for line in house.logged()}
        assert any("the database is read-only" in str(cause) for cause in causes)
        assert (house.data / "grantd.db").read_bytes() == before

        house.stop()
        house.prefix = []
        house.serve()
        assert "access is frozen" in house.ctl("builder", "run", grant, "--", "uname -s").err
        assert house.ctl("owner", "unfreeze", "--reason", "over").status == 0
        assert house.run(house.grant(), "uname -s").finished().exit_status == 0
        _log_verifies(house, tmp_path)
    finally:
        house.close()


def test_a_read_only_state_directory_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    """A signer that cannot write its journal signs nothing: the daemon says so and serves nothing (I-31)."""
    house = House.build(tmp_path)
    try:
        with pytest.raises(RuntimeError) as refused:
            _restart_with_read_only(house, house.data)
        assert str(refused.value).splitlines()[-1] == "grantd: the signer did not start"
        assert "journal.log: cannot be opened" in str(refused.value)
        assert house.broker is not None
        assert house.broker.returncode == 1
    finally:
        house.close()


def _restart_with_read_only(house: House, place: Path) -> None:
    house.stop()
    house.prefix = _in_namespace('mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"', place)
    house.serve()


def _first_refusal(house: House) -> GrantdError:
    """Asks until the room that the database had left inside its files is used up."""
    for _ in range(2000):
        try:
            house.grant()
        except GrantdError as problem:
            return problem
    raise AssertionError("a full disk takes everything")


def _runs(mark: str) -> bool:
    return bool(processes_with(mark))


def _log_verifies(house: House, folder: Path) -> None:
    bundle = folder / "bundle"
    wait_until(lambda: house.metrics()["grantd_audit_unsigned_seconds"] == 0, 10, every=0.2)
    exported = house.ctl("owner", "audit", "export", str(bundle), "--recordings", "--reason", "afterwards")
    assert exported.status == 0, exported.err
    checked = house.grantd("verify", str(bundle))
    assert checked.status == 0, checked.out
