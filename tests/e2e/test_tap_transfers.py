"""Files, copies and forwards: the recording beside the target's own witness, byte for byte and note for note (I-30)."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import peers
from tests.e2e.programs import finish, wait_until
from tests.e2e.stage import FREE
from tests.e2e.tap import FWD, IN, OUT, SFTP, Recorded, Tap, Tapped
from tests.e2e.tapsftp import Server
from tests.e2e.test_stock_clients import approving, content, remote_shell, tree
from tests.e2e.test_tap import ssh

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-tap")]
MIB = 1 << 20
COPIES = ("sftp", "stream_stdin")
TOLD = ("op", "path", "to", "result", "len", "sha256", "entries")
"""What of a note both sides know."""


def told(recorded: Recorded) -> list[dict[str, Any]]:
    """The recording's notes of what was answered, with what the witness can know of each."""
    notes = (note for note in recorded.notes(SFTP) if "result" in note)
    return [{name: note[name] for name in TOLD if name in note} for note in notes]


def test_file_operations(tapped: Tapped, tmp_path: Path) -> None:
    """Every operation of a batch: its word, paths, result, bytes and SHA-256, in the order of the answers (I-28)."""
    house, grant, there = tapped.house, tapped.house.grant(flags=("sftp",)), tmp_path / "there"
    big = tmp_path / "big"
    big.write_bytes(os.urandom(8 * MIB + 5))
    (tmp_path / "batch").write_text(
        f"mkdir {there}\ncd {there}\nput {big} up\nput {tmp_path}/nil empty\nls -l\nget up {tmp_path}/back\n"
        f"chmod 600 up\nsymlink up link\nln up hard\nrename up x\n-get nothing {tmp_path}/none\n-rm nothing\n"
        "rm link\n-rmdir nothing\n"
    )
    (tmp_path / "nil").touch()
    files = house.ssh_files(grant)
    words = ["sftp", *house.ssh_options(files), "-P", str(files.port), "-b", str(tmp_path / "batch")]
    ran = finish([*words, f"{files.user}@{files.host}"])
    assert ran.status == 0, ran
    assert (tmp_path / "back").read_bytes() == big.read_bytes() == (there / "x").read_bytes()
    reading, writing = tapped.pairs(grant, 2)
    for tap, recorded in (reading, writing):
        assert told(recorded) == Server.read(tap.kept("in"), tap.kept("out")).notes
        assert (recorded.stream(OUT), recorded.stream(IN)) == (b"", b""), "what is copied is not kept"
        tapped.tell(f"sftp ({len(told(recorded))} operations)", tap.kept("in"), tap.kept("out"), tap.err)
    sha256 = hashlib.sha256(big.read_bytes()).hexdigest()
    assert next(note["sha256"] for note in told(writing[1]) if note["op"] == "put") == sha256
    assert [note["sha256"] for note in told(reading[1]) if note["op"] == "get"] == [sha256]
    assert {note["result"] for note in told(writing[1])} >= {"ok", "no_such_file"}


@pytest.mark.parametrize("program", ["scp -O", "rsync"])
def test_copies_by_their_own_far_ends(tapped: Tapped, tmp_path: Path, program: str) -> None:
    """8 MiB there and back: both streams of the far end, whole."""
    house, grant = tapped.house, tapped.house.grant(flags=COPIES)
    files = house.ssh_files(grant)
    here = tree(tmp_path / "here")
    (here / "big").write_bytes(os.urandom(8 * MIB + 1))
    at = f"{files.user}@{files.host}"
    words = ["scp", "-O", "-r", "-p", *house.ssh_options(files), "-P", str(files.port)]
    end = ""
    if program == "rsync":
        words, end = [str(peers.require("rsync")), "-a", "-e", remote_shell(house, files)], "/"
    for source, sink in (
        (f"{here}{end}", f"{at}:{tmp_path}/there"),
        (f"{at}:{tmp_path}/there{end}", f"{tmp_path}/back"),
    ):
        ran = finish([*words, source, sink])
        assert ran.status == 0, ran
    assert content(tmp_path / "back") == content(tmp_path / "there") == content(here)
    (up, _), (down, _) = tapped.agree(program, grant, 2)
    assert min(len(up.kept("in")), len(down.kept("out"))) > 8 * MIB


def test_git(tapped: Tapped, tmp_path: Path) -> None:
    """A push, which a person allows, and a clone of it."""
    house, grant = tapped.house, tapped.house.grant(flags=COPIES)
    files = house.ssh_files(grant)
    git, there = str(peers.require("git")), tmp_path / "there.git"
    ssh_to = {"GIT_SSH_COMMAND": remote_shell(house, files), "GIT_CONFIG_GLOBAL": "/dev/null"}
    url = f"ssh://{files.user}@{files.host}:{files.port}{there}"
    work = [git, "-C", str(tmp_path / "work"), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in ([git, "init", "-q", "--bare", "-b", "main", str(there)], [git, "init", "-q", str(tmp_path / "work")]):
        assert finish(words).status == 0
    (tmp_path / "work" / "big").write_bytes(os.urandom(8 * MIB))
    for words in (["add", "big"], ["commit", "-q", "-m", "one"]):
        assert finish([*work, *words]).status == 0
    pushed = approving(house, [*work, "push", "-q", url, "HEAD:main"], "git-receive-pack", **ssh_to)
    assert pushed.status == 0, pushed
    cloned = finish([git, "clone", "-q", url, str(tmp_path / "again")], env=ssh_to)
    assert cloned.status == 0, cloned
    assert (tmp_path / "again" / "big").read_bytes() == (tmp_path / "work" / "big").read_bytes()
    (push, _), (clone, _) = tapped.agree("git push, git clone", grant, 2)
    assert min(len(push.kept("in")), len(clone.kept("out"))) > 8 * MIB


@dataclass(slots=True)
class Echo:
    """Somebody behind a forward: keeps what it hears and what it says."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    heard: bytes = b""
    said: bytes = b""

    def serve(self) -> None:
        """One connection: says a greeting, then everything back, until the other side ends."""
        connection, _ = self.listener.accept()
        with connection:
            self.said = os.urandom(100_000)
            connection.sendall(self.said)
            while data := connection.recv(64 * 1024):
                self.heard += data
                self.said += data
                connection.sendall(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    """On a thread of its own."""
    made = Echo()
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    yield made
    made.listener.close()
    thread.join(10)


def test_a_forward(tapped: Tapped, echo: Echo) -> None:
    """Both directions: what the destination heard and said, what the login's shell carried, what was recorded."""
    port = echo.listener.getsockname()[1]
    house, grant = tapped.house, tapped.house.grant(FREE, flags=(f"forward=127.0.0.1:{port}",))
    words = ssh(house, house.ssh_files(grant), "-W", f"127.0.0.1:{port}")
    given = os.urandom(8 * MIB + 9)
    heard = bytearray()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        reader = threading.Thread(target=_take, args=(process.stdout, heard, len(given) + 100_000))
        reader.start()
        process.stdin.write(given)
        process.stdin.flush()
        reader.join(60)
        process.terminate()
    assert bytes(heard) == echo.said
    ((tap, recorded),) = _forwarded(tapped, grant)
    assert recorded.stream(IN) == tap.kept("in") == echo.heard == given
    assert recorded.stream(OUT) == tap.kept("out") == echo.said
    last = recorded.notes(FWD)[-1]
    assert (last["op"], last["port"], last["in"], last["out"]) == ("close", port, len(given), len(echo.said))
    tapped.tell("forward", tap.kept("in"), tap.kept("out"), b"")


def _forwarded(tapped: Tapped, grant: str) -> list[tuple[Tap, Recorded]]:
    wait_until(lambda: bool(tapped.recorded(grant)), 15, every=0.3)
    return tapped.pairs(grant, 1)


def _take(stream: Any, heard: bytearray, size: int) -> None:  # noqa: ANN401  a pipe
    while len(heard) < size and (data := stream.read1(64 * 1024)):
        heard += data
