"""What people have: scp, rsync, git, ControlMaster, forwards and shells of OpenSSH, through the whole broker."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from grantd.cli.sshfiles import SshFiles
from grantd.v1.approval_pb2 import ListPendingRequest
from tests import peers
from tests.e2e.programs import Spoken, finish, wait_until
from tests.e2e.stage import House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-clients")]


@pytest.fixture(scope="module")
def copies(house: House) -> SshFiles:
    """A grant of files, and of what git sends."""
    return house.ssh_files(house.grant(flags=("sftp", "stream_stdin", "sessions=4")))


@pytest.fixture(scope="module")
def page() -> Iterator[int]:
    """The port of a web server on loopback that says `page`."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"page")

        def log_message(self, *_: object) -> None:
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def tree(folder: Path) -> Path:
    """Some files: empty, large, with a blank and a letter beyond ASCII in its name."""
    (folder / "deep").mkdir(parents=True)
    for name, data in {"empty": b"", "deep/large": os.urandom(3 << 20), "a blank ä": b"x\x00\xff"}.items():
        (folder / name).write_bytes(data)
    return folder


def content(folder: Path) -> dict[str, str]:
    """Name and hash of every file below."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def remote_shell(house: House, files: SshFiles) -> str:
    """For rsync and git: the ssh that they start."""
    return " ".join(["ssh", *house.ssh_options(files), "-p", str(files.port)])


def pending(house: House, marker: str) -> str:
    """The one action that waits, by a word of its command."""
    client, found = house.client("approver"), list[str]()

    def waits() -> bool:
        items = client.call(client.approvals.ListPending, ListPendingRequest()).items
        found[:] = [item.id for item in items if marker.encode() in item.action.command]
        return bool(found)

    wait_until(waits, 15)
    return found[0]


def approving(house: House, words: list[str], marker: str, **env: str) -> Spoken:
    """A program whose command a person allows meanwhile."""
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **env}) as process:
        house.decide(pending(house, marker))
        out, err = process.communicate(timeout=60)
    return Spoken(status=process.returncode, out=out.decode(), err=err.decode())


def test_old_scp_copies_both_ways(house: House, copies: SshFiles, tmp_path: Path) -> None:
    """`scp -O -r -p`: `scp -t` and `scp -f` on the target; writes run here, reads everywhere."""
    here, at = tree(tmp_path / "here"), f"{copies.user}@{copies.host}"
    words = ["scp", "-O", "-r", "-p", *house.ssh_options(copies), "-P", str(copies.port)]
    up = finish([*words, str(here), f"{at}:{tmp_path}/there"])
    assert up.status == 0, up
    down = finish([*words, f"{at}:{tmp_path}/there", f"{tmp_path}/back"])
    assert down.status == 0, down
    assert content(tmp_path / "back") == content(tmp_path / "there") == content(here)


def test_a_grant_without_files_copies_nothing_in(house: House, tmp_path: Path) -> None:
    """What nobody saw is not passed on: neither scp's files nor rsync's."""
    files = house.ssh_files(house.grant())
    (tmp_path / "f").write_text("x")
    at = f"{files.user}@{files.host}"
    scp = ["scp", "-O", *house.ssh_options(files), "-P", str(files.port), f"{tmp_path}/f", f"{at}:{tmp_path}/there"]
    rsync = [str(peers.require("rsync")), "-e", remote_shell(house, files), f"{tmp_path}/f", f"{at}:{tmp_path}/there"]
    for words in (scp, rsync):
        tried = finish(words)
        assert tried.status != 0
        assert "stdin is not passed on" in tried.err
    assert not (tmp_path / "there").exists()


def test_rsync_copies_both_ways(house: House, copies: SshFiles, tmp_path: Path) -> None:
    """`rsync -a --delete -e ssh`: what is there is what is here, and a second run sends nothing."""
    here, at = tree(tmp_path / "here"), f"{copies.user}@{copies.host}"
    words = [str(peers.require("rsync")), "-a", "--delete", "--stats", "-e", remote_shell(house, copies)]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "stale").write_text("x")
    up = finish([*words, f"{here}/", f"{at}:{tmp_path}/there/"])
    assert up.status == 0, up
    assert content(tmp_path / "there") == content(here)
    again = finish([*words, f"{here}/", f"{at}:{tmp_path}/there/"])
    assert "Number of regular files transferred: 0" in again.out
    down = finish([*words, f"{at}:{tmp_path}/there/", f"{tmp_path}/back/"])
    assert down.status == 0, down
    assert content(tmp_path / "back") == content(here)


def test_git_clones_and_pushes(house: House, copies: SshFiles, tmp_path: Path) -> None:
    """A clone is a read; a push is execute, which a person allows; its hooks stay off in the broker's environment."""
    git, there = str(peers.require("git")), tmp_path / "there.git"
    assert finish([git, "init", "-q", "--bare", "-b", "main", str(there)]).status == 0
    (there / "hooks" / "pre-receive").write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\n")
    (there / "hooks" / "pre-receive").chmod(0o755)
    ssh = {"GIT_SSH_COMMAND": remote_shell(house, copies), "GIT_CONFIG_GLOBAL": "/dev/null"}
    url = f"ssh://{copies.user}@{copies.host}:{copies.port}{there}"
    cloned = finish([git, "clone", "-q", url, str(tmp_path / "work")], env=ssh)
    assert cloned.status == 0, cloned
    (tmp_path / "work" / "f").write_text("content")
    work = [git, "-C", str(tmp_path / "work"), "-c", "user.name=a", "-c", "user.email=a@b"]
    assert finish([*work, "add", "f"]).status == 0
    assert finish([*work, "commit", "-q", "-m", "one"]).status == 0
    pushed = approving(house, [*work, "push", "-q", "origin", "HEAD:main"], "git-receive-pack", **ssh)
    assert pushed.status == 0, pushed
    assert finish([git, "clone", "-q", "-b", "main", url, str(tmp_path / "again")], env=ssh).status == 0
    assert (tmp_path / "again" / "f").read_text() == "content"
    assert not (tmp_path / "hook-ran").exists()


def test_a_master_carries_several_commands_at_a_time(house: House, copies: SshFiles, tmp_path: Path) -> None:
    """`ControlMaster`: as many as the grant says, over one connection (I-22)."""
    control = ("-o", f"ControlPath={tmp_path}/c")
    words = ["ssh", *house.ssh_options(copies), "-p", str(copies.port), *control, f"{copies.user}@{copies.host}"]
    with subprocess.Popen([*words, "-M", "sleep 60"], stdin=subprocess.DEVNULL) as master:
        wait_until((tmp_path / "c").exists, 10)
        three = [
            subprocess.Popen([*words, "-o", "ProxyCommand=false", f"sleep 1; echo {n}"], stdout=subprocess.PIPE)
            for n in range(3)
        ]
        assert [each.communicate(timeout=60)[0] for each in three] == [b"0\n", b"1\n", b"2\n"]
        assert finish([*words, "-O", "exit"]).status == 0
        master.wait(60)


def test_a_forward_leads_where_the_grant_says(house: House, page: int, tmp_path: Path) -> None:
    """`ssh -L` for a browser, `-W` for a pipe, `-J` for the next host: each connection recorded (I-20, I-30)."""
    gateway = house.ssh_files(house.grant())
    grant = house.grant(flags=(f"forward=127.0.0.1:{page}", f"forward=127.0.0.1:{gateway.port}", "sessions=2"))
    files = house.ssh_files(grant)
    listening = tmp_path / "listening"
    words = ["ssh", *house.ssh_options(files), "-p", str(files.port), f"{files.user}@{files.host}"]
    with subprocess.Popen([*words, "-N", "-L", f"{listening}:127.0.0.1:{page}"], stdin=subprocess.DEVNULL) as forward:
        wait_until(listening.exists, 10)
        for _ in range(2):
            got = finish(["curl", "-s", "--unix-socket", str(listening), "http://x/"])
            assert (got.status, got.out) == (0, "page"), got
        forward.terminate()
        forward.wait(60)
    piped = finish([*words, "-W", f"127.0.0.1:{page}"], stdin=b"GET / HTTP/1.0\r\n\r\n")
    assert piped.out.endswith("page"), piped
    other = finish([*words, "-W", f"127.0.0.1:{house.sshd.port}"])
    assert "administratively prohibited" in other.err
    inner = house.ssh_options(gateway)
    proxy = f"ProxyCommand={' '.join([*words, '-W', '%h:%p'])}"
    at = f"{gateway.user}@{gateway.host}"
    jumped = finish(["ssh", *inner, "-o", proxy, "-p", str(gateway.port), at, "echo through"])
    assert (jumped.status, jumped.out) == (0, "through\n"), jumped
    kinds = {s["kind"] for s in house.ctl("owner", "sessions", "list", "-o", "json").json() if s["grant_id"] == grant}
    assert kinds == {"forward"}


def test_a_raw_shell_asks_a_person_and_is_recorded(house: House) -> None:
    """`ssh -tt` without a command, where the grant has `raw_shell` (F12)."""
    grant = house.grant(flags=("raw_shell",))
    files = house.ssh_files(grant)
    words = ["ssh", *house.ssh_options(files), "-p", str(files.port), "-tt", f"{files.user}@{files.host}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        house.decide(pending(house, "bash --login"))
        out, err = process.communicate(b"tty; echo $((40 + 2)); exit 5\n", timeout=60)
    assert process.returncode == 5, err
    assert b"/dev/pts/" in out
    assert b"42" in out
    (session,) = [s for s in house.ctl("owner", "sessions", "list", "-o", "json").json() if s["grant_id"] == grant]
    assert session["kind"] == "raw_shell"
    assert b"42" in b"".join(event.payload for event in house.played(session["id"]) if event.kind == 1)


@pytest.mark.parametrize("status", [0, 1, 2, 126, 127, 128, 200, 254, 255])
def test_exit_codes_are_the_commands_own(house: House, copies: SshFiles, status: int) -> None:
    """Every client's first expectation."""
    assert house.ssh(copies, f"exit {status}").status == status
