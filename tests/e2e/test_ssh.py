"""The stock OpenSSH client at the gateway: one command runs, everything else is refused and audited (I-18, I-20)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grantd.cli.sshfiles import SshFiles
from grantd.v1.action_pb2 import ActionState
from grantd.v1.approval_pb2 import ListPendingRequest
from tests import peers
from tests.e2e.programs import Spoken, finish, wait_until
from tests.e2e.stage import ASKS, House
from tests.processes import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-ssh")]


@pytest.fixture(scope="module")
def files(house: House) -> SshFiles:
    """What `grantctl ssh-cert` wrote for one grant, used by every test here."""
    return house.ssh_files(house.grant())


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """The socket of an ssh-agent that holds nothing."""
    socket = tmp_path / "agent"
    process = subprocess.Popen([peers.require("ssh-agent"), "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, 5)
        yield str(socket)
    finally:
        process.terminate()
        process.wait(60)


def test_the_command_line_that_grantctl_prints_works(house: House) -> None:
    """`grantctl ssh-cert` prints a command; pasted into a shell it runs `uname -a` on the target."""
    told = house.ctl("builder", "ssh-cert", house.grant())
    assert told.status == 0, told.err
    ran = finish(["sh", "-c", f"{told.out.strip()} -F none uname -a"])
    assert ran.status == 0, ran.err
    assert ran.out == finish(["uname", "-a"]).out, "this machine is the target"


def test_streams_and_exit_status_arrive_as_they_were(house: House, files: SshFiles) -> None:
    """stdout, stderr and the status stay apart; stdin of a read is passed on; output is recorded (I-30)."""
    ran = house.ssh(files, "cat; ls /nowhere-at-all; exit 7", stdin=b"in\x00\xff\n")
    assert ran.status == 7
    assert ran.out == "in\x00\\xff\n"
    assert "/nowhere-at-all" in ran.err
    sessions = house.ctl("owner", "sessions", "list", "-o", "json").json()
    session = next(each for each in sessions if each["door"] == "ssh" and each["grant_id"] in str(files.key))
    kinds = dict.fromkeys((1, 2, 3), b"")
    for event in house.played(session["id"]):
        if event.kind in kinds:
            kinds[event.kind] += event.payload
    assert kinds[1] == b"in\x00\xff\n"
    assert kinds[3] == b"", "of a pipe its length and an HMAC are kept"
    assert b"/nowhere-at-all" in kinds[2]


def test_a_terminal_is_a_terminal_there(house: House, files: SshFiles) -> None:
    """`ssh -tt`: a pty of the target's own sshd, TERM by the allow-list, the status; all recorded (I-21, I-30)."""
    ran = _with(house, files, {"TERM": "xterm-256color"}, "-tt", "echo kind:$TERM; ls -l /proc/$$/fd/0; exit 9")
    assert ran.status == 9, ran
    assert ran.out.startswith("kind:xterm-256color\r\n"), ran
    assert "/dev/pts/" in ran.out
    sessions = house.ctl("owner", "sessions", "list", "-o", "json").json()
    session = next(each for each in sessions if each["grant_id"] in str(files.key))
    assert b"/dev/pts/" in b"".join(event.payload for event in house.played(session["id"]) if event.kind == 1)


def test_a_write_waits_for_a_person_and_says_so(house: House, tmp_path: Path) -> None:
    """The same gate as over gRPC: on a host that asks, ssh waits until somebody signed (I-18)."""
    files = house.ssh_files(house.grant(ASKS))
    made = tmp_path / "made"
    words = ["ssh", *house.ssh_options(files), "-p", str(files.port), f"{files.user}@{files.host}", f"touch {made}"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        item = _pending(house, str(made))
        assert not made.exists()
        house.decide(item)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, made.exists()) == (0, True)
    assert b"waiting for a person to allow this" in said
    assert b"allowed" in said


# what a person types -> the feature's name in the audit log, and a word that they see
REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, str]] = {
    "shell": (("-T",), (), "shell", "shell request failed"),
    "sftp subsystem": (("-s",), ("sftp",), "subsystem", "subsystem request failed"),
    "-W": (("-W", "127.0.0.1:22"), (), "direct_tcpip", "administratively prohibited"),
    "-R": (
        ("-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:22"), (), "tcpip_forward",
        "remote port forwarding failed",
    ),
    "-R of a socket": (
        ("-o", "ExitOnForwardFailure=yes", "-N", "-R", "/nowhere/sock:127.0.0.1:22"), (), "streamlocal_forward",
        "remote port forwarding failed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", list(REFUSED))
def test_everything_but_a_command_is_refused_and_audited(house: House, files: SshFiles, what: str) -> None:
    """The client sees it, the log names the feature, nothing was opened (I-20, I-21)."""
    before, words, feature, seen = REFUSED[what]
    count = len(_refused(house, files, feature))
    ran = house.ssh(files, *words, before=before)
    assert seen in ran.err, ran
    assert ran.status != 0
    _audited(house, files, feature, count)


def test_a_local_forward_is_refused_and_audited(house: House, files: SshFiles, tmp_path: Path) -> None:
    """`ssh -L`, to a port and to a socket: the listener is the client's own, what it wants to reach is not opened."""
    port, unix = free_port(), tmp_path / "local"
    words = ("-N", "-L", f"{port}:127.0.0.1:{house.sshd.port}", "-L", f"{unix}:/run/somewhere.sock")
    with _ssh_behind(house, files, *words) as process:
        wait_until(unix.exists, 10)
        for feature, address in (("direct_tcpip", f"TCP:127.0.0.1:{port}"), ("direct_streamlocal", f"UNIX:{unix}")):
            count = len(_refused(house, files, feature))
            assert _read_from(address) == b"", "not even a greeting came through"
            _audited(house, files, feature, count)
        assert process.poll() is None


def test_agent_forwarding_is_refused_and_audited(house: House, files: SshFiles, agent: str) -> None:
    """`ssh -A`: the command runs, without the agent (I-20)."""
    count = len(_refused(house, files, "agent"))
    ran = _with(house, files, {"SSH_AUTH_SOCK": agent}, "-A", "env | grep -c SSH_AUTH_SOCK")
    assert ran.out.strip() in ("", "0"), ran
    _audited(house, files, "agent", count)


def test_x11_forwarding_is_refused_and_audited(house: House, files: SshFiles) -> None:
    """`ssh -X`: the command runs, without a display (I-20)."""
    count = len(_refused(house, files, "x11"))
    ran = _with(house, files, {"DISPLAY": "127.0.0.1:99"}, "-X", "uname -s")
    assert (ran.out, "X11 forwarding request failed" in ran.err) == ("Linux\n", True), ran
    _audited(house, files, "x11", count)


def test_sftp_and_scp_are_refused_and_audited(house: House, files: SshFiles, tmp_path: Path) -> None:
    """Both speak the sftp subsystem; scp's old protocol is a command, which gets no files without a grant (I-20)."""
    (tmp_path / "here").write_text("content")
    there = tmp_path / "there"
    at = f"{files.user}@{files.host}"
    options = [*house.ssh_options(files), "-P", str(files.port)]
    for program in (["sftp", "-b", "/dev/null", *options, at], ["scp", *options, f"{tmp_path}/here", f"{at}:{there}"]):
        count = len(_refused(house, files, "subsystem"))
        tried = finish(program)
        assert tried.status != 0, tried
        _audited(house, files, "subsystem", count)
    old = ["scp", "-O", *options, f"{tmp_path}/here", f"{at}:{there}"]
    tried = finish(old)
    assert (tried.status != 0, "stdin is not passed on" in tried.err) == (True, True), tried
    assert not there.exists()


def test_only_plain_locale_variables_reach_the_target(house: House, files: SshFiles) -> None:
    """`SendEnv` of anything else is dropped: LD_PRELOAD and BASH_ENV would be code (I-21)."""
    evil = {"BASH_ENV": "/nowhere", "LD_PRELOAD": "/nowhere", "LC_ALL": "C.UTF-8", "FOO": "1"}
    options = ("-o", "SendEnv=BASH_ENV LD_PRELOAD LC_ALL FOO")
    ran = _with(house, files, {**os.environ, **evil, "LD_PRELOAD": ""}, *options, "env")
    seen = dict(line.split("=", 1) for line in ran.out.splitlines() if "=" in line)
    assert seen["LC_ALL"] == "C.UTF-8"
    assert not {"BASH_ENV", "LD_PRELOAD", "FOO", "SSH_AUTH_SOCK", "DISPLAY"} & seen.keys()


def test_a_second_session_on_one_connection_is_refused(house: House, files: SshFiles, tmp_path: Path) -> None:
    """ControlMaster: one command at a time (I-22)."""
    control = ("-o", f"ControlPath={tmp_path}/c")
    with _ssh_behind(house, files, "-M", *control, to="sleep 30"):
        wait_until((tmp_path / "c").exists, 10)
        time.sleep(0.3)
        count = len(_refused(house, files, "second_session"))
        # ssh would fall back to a connection of its own: this one cannot make any
        second = house.ssh(files, "uname -s", before=(*control, "-o", "ProxyCommand=false"))
        assert second.out == ""
        assert second.status != 0
        _audited(house, files, "second_session", count)


def test_a_certificate_of_an_ended_grant_opens_nothing(house: House) -> None:
    """A valid signature is never enough: the row decides (I-08)."""
    grant = house.grant()
    ended = house.ssh_files(grant)
    assert house.ssh(ended, "uname -s").status == 0
    house.client("builder").revoke(grant, "done")
    tried = house.ssh(ended, "uname -s")
    assert (tried.status, tried.out) == (255, "")
    assert "Permission denied (publickey)" in tried.err


@pytest.mark.parametrize("user", ["root+elsewhere", "nobody", "nobody+lab1", "lab1"])
def test_the_user_name_carries_no_authority(house: House, files: SshFiles, user: str) -> None:
    """A certificate for one login on one target opens no other (I-24)."""
    words = ["ssh", *house.ssh_options(files), "-p", str(files.port), f"{user}@{files.host}", "uname -s"]
    tried = finish(words)
    assert (tried.status, tried.out) == (255, "")
    assert "Permission denied (publickey)" in tried.err


def _refused(house: House, files: SshFiles, feature: str) -> list[object]:
    grant = files.key.parent.name
    return [e for e in house.audit("session.feature_refused") if (e["feature"], e["grant"]) == (feature, grant)]


def _audited(house: House, files: SshFiles, feature: str, before: int) -> None:
    wait_until(lambda: len(_refused(house, files, feature)) > before, 10, every=0.2)
    assert house.metrics()[f'grantd_features_refused_total{{feature="{feature}"}}'] >= 1


def _with(house: House, files: SshFiles, env: dict[str, str], *words: str) -> Spoken:
    """ssh with options, the command last, in an environment."""
    to = f"{files.user}@{files.host}"
    return finish(["ssh", *house.ssh_options(files), "-p", str(files.port), *words[:-1], to, words[-1]], env=env)


@contextlib.contextmanager
def _ssh_behind(house: House, files: SshFiles, *before: str, to: str = "") -> Iterator[subprocess.Popen[bytes]]:
    words = ["ssh", *house.ssh_options(files), "-p", str(files.port), *before, f"{files.user}@{files.host}"]
    process = subprocess.Popen(
        [*words, *([to] if to else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _read_from(address: str) -> bytes:
    """What somebody behind a forward would hear: bytes until the end or for two seconds."""
    kind, _, where = address.partition(":")
    family = socket.AF_UNIX if kind == "UNIX" else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(30)
        host, _, port = where.rpartition(":")
        connection.connect(where if kind == "UNIX" else (host, int(port)))
        return connection.recv(64)


def _pending(house: House, marker: str) -> str:
    client, found = house.client("approver"), list[str]()

    def waits() -> bool:
        items = client.call(client.approvals.ListPending, ListPendingRequest()).items
        found[:] = [item.id for item in items if marker.encode() in item.action.command]
        return bool(found)

    wait_until(waits, 10)
    return found[0]


def test_a_client_that_leaves_takes_its_waiting_command_back(house: House, tmp_path: Path) -> None:
    """Closing ssh while it waits: nobody can approve it any more (F06)."""
    files = house.ssh_files(house.grant(ASKS))
    marker = str(tmp_path / "never")
    with _ssh_behind(house, files, to=f"touch {marker}"):
        item = _pending(house, marker)
    entry = house.audited("action.cancelled", lambda entry: entry["action"] == item)
    assert entry["outcome"] == "success"
    told = house.run(house.grant(ASKS), "uname -s").finished()
    assert told.state == ActionState.ACTION_STATE_SUCCEEDED
    assert not Path(marker).exists()
