"""`ssh.workers = 2`: sessions run in processes of their own, and nothing that was promised of them changes.

Whatever becomes of a worker, the control process ends and writes what it ran; whatever becomes of the control process,
no worker outlives it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from grantd.v1 import access_pb2
from tests.agents.console import Console
from tests.e2e.programs import finish, processes_with, wait_until
from tests.e2e.stage import House
from tests.e2e.typed import Typed
from tests.pace import Since
from tests.processes import descendants

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-workers")]
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A broker whose sessions run in two workers."""
    house = House.build(tmp_path_factory.mktemp("workers"))
    try:
        house.stop()
        text = house.config.read_text()
        assert "[ssh]" in text
        house.config.write_text(text.replace("[ssh]", "[ssh]\nworkers = 2"))
        house.serve()
        yield house
    finally:
        house.close()


def workers(house: House) -> set[int]:
    """Process ids of the workers that live."""
    found = set()
    for pid in descendants(house.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended while we looked
        if b"broker.worker" in words:
            found.add(pid)
    return found


def typed(house: House, grant: str, *words: str, before: tuple[str, ...] = ()) -> Typed:
    """A stock ssh under a grant, to be typed to."""
    files = house.ssh_files(grant)
    to = f"{files.user}@{files.host}"
    return Typed(["ssh", *house.ssh_options(files), "-p", str(files.port), *before, to, *words])


def of_grant(house: House, grant: str) -> list[dict[str, Any]]:
    """Its sessions, newest first."""
    listed = house.ctl("owner", "-o", "json", "sessions", "list").json()
    return [session for session in listed if session["grant_id"] == grant]


def serving(ssh: Typed, house: House) -> int:
    """The worker that has the client's connection."""
    sockets = subprocess.run(
        ["ss", "-tnpH", "state", "established", f"( sport = :{house.ports[2]} )"], capture_output=True, check=True
    ).stdout.decode()
    clients = subprocess.run(["ss", "-tnpH", "state", "established"], capture_output=True, check=True).stdout.decode()
    mine = next(line.split()[2] for line in clients.splitlines() if f"pid={ssh.pid}," in line)
    line = next(line for line in sockets.splitlines() if line.split()[3] == mine)
    return int(line.partition("pid=")[2].partition(",")[0])


def _said(ssh: Typed, what: bytes) -> bool:
    return ssh.out == what


def revoke(house: House, grant: str) -> None:
    """An owner takes it away."""
    client = house.client("owner")
    client.call(client.access.RevokeGrant, access_pb2.RevokeGrantRequest(grant_id=grant, reason="a test"))


def test_the_control_process_listens_no_more(house: House) -> None:
    """Two workers accept, and nobody else; each has no more of the house than its bus."""
    assert len(workers(house)) == 2
    for pid in workers(house):
        opened = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
        assert not [name for name in opened if name.startswith(str(house.data)) and "recordings" not in name]
        assert b"GRANTD" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_commands_files_and_forwards_pass(house: House, tmp_path: Path) -> None:
    """Each through whichever worker has the connection: recorded, written, the bytes unchanged (I-18, I-30)."""
    grant = house.grant(flags=("sftp",))
    files = house.ssh_files(grant)
    for number in range(6):
        ran = house.ssh(files, f"echo {number}; exit {number}")
        assert (ran.status, ran.out) == (number, f"{number}\n"), ran
    data = os.urandom(300_000)
    (tmp_path / "here").write_bytes(data)
    batch = tmp_path / "batch"
    batch.write_text(f"put {tmp_path}/here {tmp_path}/there\nget {tmp_path}/there {tmp_path}/back\n")
    to = f"{files.user}@{files.host}"
    ran = finish(["sftp", *house.ssh_options(files), "-P", str(files.port), "-b", str(batch), to])
    assert ran.status == 0, ran
    assert (tmp_path / "back").read_bytes() == data == (tmp_path / "there").read_bytes()
    there = f"127.0.0.1:{house.sshd.port}"
    forward = house.ssh_files(house.grant(flags=(f"forward={there}",)))
    assert house.ssh(forward, before=("-W", there), stdin=b"hello\n").out.startswith("SSH-2.0-")
    sessions = of_grant(house, grant)
    wait_until(lambda: all(s["state"] != "open" for s in of_grant(house, grant)), PATIENCE_S)
    played = house.played(sessions[-1]["id"])
    assert b"0\n" in b"".join(event.payload for event in played if event.kind == 1)


def test_a_shell_is_gated(house: House) -> None:
    """Each line is an action of its own, in the shell's own worker (I-20)."""
    with typed(house, house.grant(flags=("shell",)), before=("-T",)) as ssh:
        ssh.type(b"echo one\nuname -s\nexit 3\n")
        wait_until(ssh.ended, PATIENCE_S)
        assert ssh.out.split() == [b"one", b"Linux"], (ssh.out, ssh.err)


def test_an_operator_watches_pauses_and_cuts(house: House) -> None:
    """From a warm beginning, with input held at once, and the operator's words told (I-33, F07, F14)."""
    with typed(house, house.grant(), "cat") as ssh:
        ssh.type(b"before\n")
        wait_until(lambda: ssh.out == b"before\n", PATIENCE_S)
        (session,) = house.ctl("owner", "-o", "json", "sessions", "list", "--open").json()
        words = house.ctl_words("approver", "sessions", "watch", session["id"], "--reason", "odd")
        with Console(words, env={}, columns=120, rows=40) as console:
            console.expect("before")
            ssh.type(b"seen\n")
            console.expect("seen")
            console.type("p")
            console.expect("INPUT HELD: paused")
            wait_until(lambda: b"paused your input" in ssh.err, PATIENCE_S)
            ssh.type(b"held\n")
            console.type("r")
            wait_until(lambda: b"held\n" in ssh.out, PATIENCE_S)
            assert b"goes through again" in ssh.err
            console.type("k")
            console.expect("cut this session?")
            console.type("y")
            console.expect("the session is over: cut (terminated)")
        wait_until(lambda: b"an operator ended this: odd" in ssh.err, PATIENCE_S)
    for name in ("session.watched", "session.paused", "session.resumed", "session.unwatched"):
        house.audited(name, lambda entry: entry["session"] == session["id"])


def test_revoked_while_it_floods(house: House) -> None:
    """I-02: the revocation returns once the worker said that the target's process is gone."""
    mark = "workers-flood-of-text"
    grant = house.grant()
    with typed(house, grant, f"yes {mark}") as ssh:
        wait_until(lambda: len(ssh.out) > 1_000_000, PATIENCE_S)
        revoke(house, grant)
        (session,) = of_grant(house, grant)
        assert (session["state"], session["end_reason"]) == ("cut", "revoked")
        wait_until(lambda: not processes_with(mark), PATIENCE_S)


def test_a_worker_that_dies_takes_its_own_sessions_alone(house: House) -> None:
    """kill -9: they are written as cut, truncated and provable; the other worker's go on, and another one serves."""
    with ExitStack() as stack:
        grants = [house.grant() for _ in range(8)]
        running = {grant: stack.enter_context(typed(house, grant, "cat")) for grant in grants}
        for ssh in running.values():
            ssh.type(b"hello\n")
        wait_until(lambda: all(ssh.out == b"hello\n" for ssh in running.values()), PATIENCE_S)
        at = {grant: serving(ssh, house) for grant, ssh in running.items()}
        victim = at[grants[0]]
        before = workers(house)
        os.kill(victim, signal.SIGKILL)
        theirs = [grant for grant in grants if at[grant] == victim]
        wait_until(lambda: all(of_grant(house, g)[0]["state"] == "cut" for g in theirs), PATIENCE_S)
        for grant in theirs:
            (session,) = of_grant(house, grant)
            assert (session["end_reason"], session["recording_state"]) == ("worker_lost", "truncated"), session
        for grant in set(grants) - set(theirs):
            running[grant].type(b"again\n")
            wait_until(partial(_said, running[grant], b"hello\nagain\n"), PATIENCE_S)
        wait_until(lambda: len(workers(house)) == 2 and workers(house) != before, PATIENCE_S)
        for _ in range(4):
            ran = house.ssh(house.ssh_files(theirs[0]), "echo served")
            assert ran.out == "served\n", ran
    assert house.metrics()["grantd_worker_restarts_total"] == 1.0


def test_the_stop_of_a_service_leaves_workers_to_the_control_process(house: House) -> None:
    """It is sent to every process of the service: a worker goes on until it is told to seal what it runs."""
    with typed(house, house.grant(), "cat") as ssh:
        ssh.type(b"hello\n")
        wait_until(lambda: ssh.out == b"hello\n", PATIENCE_S)
        before = workers(house)
        for pid in before:
            os.kill(pid, signal.SIGTERM)
        ssh.type(b"again\n")
        wait_until(lambda: ssh.out == b"hello\nagain\n", PATIENCE_S)
        assert workers(house) == before


def test_a_worker_that_does_not_answer_is_ended(house: House) -> None:
    """SIGSTOP, then a revocation: it does not wait for the worker's pleasure, and what it ran is written."""
    grant = house.grant()
    with typed(house, grant, "cat") as ssh:
        ssh.type(b"hello\n")
        wait_until(lambda: ssh.out == b"hello\n", PATIENCE_S)
        victim = serving(ssh, house)
        os.kill(victim, signal.SIGSTOP)
        revoke(house, grant)
        wait_until(lambda: not Path(f"/proc/{victim}").exists(), PATIENCE_S)  # killed by then, and reaped soon
        wait_until(lambda: of_grant(house, grant)[0]["state"] == "cut", PATIENCE_S)
        assert of_grant(house, grant)[0]["end_reason"] == "revoked"
        wait_until(ssh.ended, PATIENCE_S)
    wait_until(lambda: len(workers(house)) == 2, PATIENCE_S)
    assert house.ssh(house.ssh_files(house.grant()), "echo served").out == "served\n"


def test_no_worker_outlives_the_control_process(house: House) -> None:
    """kill -9 of the control process: connections close, commands on the target end, and a restart writes them."""
    mark = "workers-last-tail"
    grant = house.grant()
    with typed(house, grant, f"echo {mark}; tail -f /dev/null --pid=$$; : {mark}") as ssh:
        wait_until(lambda: mark.encode() in ssh.out, PATIENCE_S)
        left, died = workers(house), Since()
        house.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), PATIENCE_S)
        wait_until(ssh.ended, PATIENCE_S)
        wait_until(lambda: not processes_with(mark), PATIENCE_S)
        assert died.s() < PATIENCE_S * 3
    house.serve()
    assert of_grant(house, grant)[0]["state"] == "lost"
    assert json.dumps(house.audit())
