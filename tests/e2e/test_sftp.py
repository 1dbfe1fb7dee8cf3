"""File transfer by stock clients, through the whole broker, to a real sshd (I-18, I-28, I-30)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from grantd.cli.sshfiles import SshFiles
from grantd.v1.approval_pb2 import ListPendingRequest
from tests import peers
from tests.e2e.programs import finish, wait_until
from tests.e2e.stage import ASKS, FREE, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-sftp")]
FILES = ("sftp",)


@pytest.fixture(autouse=True)
def clients() -> None:
    """All of them, or the reason why not."""
    for program in ("sftp", "scp", "sftp-server"):
        peers.require(program)


def words(house: House, files: SshFiles, program: str, *more: str) -> list[str]:
    """A stock client's command line; AT stands for the gateway."""
    at = f"{files.user}@{files.host}"
    return [program, *house.ssh_options(files), "-P", str(files.port), *(word.replace("AT", at) for word in more)]


def notes(house: House, grant: str) -> list[list[dict[str, Any]]]:
    """What the recordings of a grant's file sessions say, oldest first."""
    sessions = [s for s in house.ctl("owner", "sessions", "list", "-o", "json").json() if s["grant_id"] == grant]
    assert {session["kind"] for session in sessions} == {"sftp"}
    played = [house.played(session["id"]) for session in reversed(sessions)]
    return [[json.loads(event.payload) for event in events if event.kind == 7] for events in played]


def test_a_batch_of_sftp_is_recorded_operation_by_operation(house: House, tmp_path: Path) -> None:
    """Reads in one session, writes in the other; each with its path and result, each file with its SHA-256."""
    data, there, grant = os.urandom(2_000_000), tmp_path / "there", house.grant(FREE, flags=FILES)
    (tmp_path / "here").write_bytes(data)
    there.mkdir()
    batch = tmp_path / "batch"
    batch.write_text(f"cd {there}\nput {tmp_path}/here up\nget up {tmp_path}/back\nrename up x\n-rm nothing\n")
    ran = finish(words(house, house.ssh_files(grant), "sftp", "-b", str(batch), "AT"))
    assert ran.status == 0, ran
    assert (tmp_path / "back").read_bytes() == data == (there / "x").read_bytes()
    reads, writes = notes(house, grant)
    sha256 = hashlib.sha256(data).hexdigest()
    moved = [(note["op"], note["path"], note["len"], note["sha256"]) for note in (*reads, *writes) if "sha256" in note]
    assert moved == [("get", f"{there}/up", len(data), sha256), ("put", f"{there}/up", len(data), sha256)]
    assert [note for note in writes if note["op"] == "posix-rename"] == [
        {"op": "posix-rename", "path": f"{there}/up", "to": f"{there}/x"},
        {"op": "posix-rename", "path": f"{there}/up", "to": f"{there}/x", "result": "ok"},
    ]
    assert {"open", "realpath", "stat", "get"} & {note["op"] for note in writes} == {"open"}
    told = house.ctl("owner", "sessions", "play", _newest(house, grant), "--reason", "a test")
    assert "sftp" in told.out
    assert f"{there}/x" in told.out


def test_scp_waits_for_a_person_and_says_so(house: House, tmp_path: Path) -> None:
    """On a host that asks, the copy waits until somebody signed for a session that writes."""
    files = house.ssh_files(house.grant(ASKS, flags=FILES))
    (tmp_path / "here").write_text("content")
    there = tmp_path / "there"
    copy = words(house, files, "scp", str(tmp_path / "here"), f"AT:{there}")
    with subprocess.Popen(copy, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        item = _pending(house, b"internal-sftp")
        assert not there.exists()
        house.decide(item)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, there.read_text()) == (0, "content")
    assert b"waiting for a person to allow this" in said
    back = finish(words(house, files, "scp", f"AT:{there}", str(tmp_path / "back")))
    assert (back.status, (tmp_path / "back").read_text()) == (0, "content"), "reading asked nobody"


def test_a_copy_that_is_denied_leaves_nothing(house: House, tmp_path: Path) -> None:
    """The client is told `Permission denied`, the target saw no byte of it."""
    files = house.ssh_files(house.grant(ASKS, flags=FILES))
    (tmp_path / "here").write_text("content")
    there = tmp_path / "there"
    copy = words(house, files, "scp", str(tmp_path / "here"), f"AT:{there}")
    with subprocess.Popen(copy, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        house.decide(_pending(house, b"internal-sftp"), yes=False)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Permission denied" in said
    assert not there.exists()


def test_a_root_is_all_that_a_client_sees(house: House, tmp_path: Path) -> None:
    """`sftp-root` in the grant: links out of it lead nowhere, for reading and for writing."""
    root, outside = tmp_path / "root", tmp_path / "rootx"
    for folder in (root, outside):
        folder.mkdir()
    (outside / "secret").write_text("secret")
    (root / "own").write_text("own")
    (root / "link").symlink_to(outside)
    files = house.ssh_files(house.grant(FREE, flags=("sftp", f"sftp-root={root}")))
    batch = tmp_path / "batch"
    batch.write_text(
        f"get own {tmp_path}/back\n-get link/secret {tmp_path}/stolen\n-get {outside}/secret {tmp_path}/stolen\n"
        f"put {tmp_path}/back new\n-put {tmp_path}/back link/evil\n-put {tmp_path}/back {outside}/evil\n"
    )
    ran = finish(words(house, files, "sftp", "-b", str(batch), "AT"))
    assert ran.status == 0, ran
    assert ((tmp_path / "back").read_text(), (root / "new").read_text()) == ("own", "own")
    assert not (tmp_path / "stolen").exists()
    assert [each.name for each in outside.iterdir()] == ["secret"]
    two = house.ctl("owner", "sessions", "list", "-o", "json").json()[:2]
    played = [event for session in two for event in house.played(session["id"])]
    ran_there = {json.loads(event.payload)["argv"] for event in played if event.kind == 5}
    assert ran_there == {f"internal-sftp -R --root={root}", f"internal-sftp --root={root}"}
    wrong = house.ctl("builder", "request", FREE, house.sshd.login, "--reason", "x", "--flag", "sftp-root=/srv/../etc")
    assert (wrong.status, "sftp-root is not one plain folder" in wrong.err) == (2, True), wrong


def test_the_end_of_a_grant_ends_a_confined_server(house: House, tmp_path: Path) -> None:
    """I-01, I-02: revoked in the middle, the server is gone from the target within a second or two."""
    grant = house.grant(FREE, flags=("sftp", f"sftp-root={tmp_path}"))
    (tmp_path / "big").write_bytes(bytes(1 << 20))
    command = words(house, house.ssh_files(grant), "sftp", "-b", "-", "AT")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(f"get big {tmp_path}/back\n".encode())
        process.stdin.flush()
        wait_until((tmp_path / "back").exists, 15)
        assert _confined() != []
        house.client("builder").revoke(grant, "done")
        wait_until(lambda: _confined() == [], 2)
        process.kill()


def _confined() -> list[int]:
    """The sftp-servers of this machine whose root is not the machine's."""
    found = []
    for root in Path("/proc").glob("[0-9]*/root"):
        with contextlib.suppress(OSError):
            if "sftp-server" in (root.parent / "comm").read_text() and not (root / "proc").exists():
                found.append(int(root.parent.name))
    return found


def _pending(house: House, command: bytes) -> str:
    client, found = house.client("approver"), list[str]()

    def waits() -> bool:
        items = client.call(client.approvals.ListPending, ListPendingRequest()).items
        found[:] = [item.id for item in items if item.action.command == command]
        return bool(found)

    wait_until(waits, 10)
    return found[0]


def _newest(house: House, grant: str) -> str:
    sessions = house.ctl("owner", "sessions", "list", "-o", "json").json()
    return next(str(session["id"]) for session in sessions if session["grant_id"] == grant)
