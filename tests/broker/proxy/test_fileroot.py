"""A root that the kernel enforces: hostile links, renames and races against OpenSSH's own server (I-28, M8, F13).

The very text that runs on a target runs here, as the user of these tests and, where that is root, as nobody too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.core.fileroot import LOOK, confined
from broker.core.sftp import Op, Open, Reply, Status
from broker.core.wrapper import PATH
from broker.proxy.sftp.packets import framed, string
from tests import peers
from tests.broker.proxy.sftp.world import ATTRS, INIT, opened, request, u32, u64
from tests.broker.rpc.local_targets import placed

pytestmark = pytest.mark.sshd
SECRET, OWN = b"secret", b"own"
NOBODY = 65_534
USERS = [os.geteuid(), NOBODY] if os.geteuid() == 0 else [os.geteuid()]


class Server:
    """One confined server of the target's."""

    def __init__(self, root: str, user: int, *, reading: bool = False) -> None:
        words = ["env", "-i", f"PATH={PATH}", "bash", "--norc", "-c", placed(confined(root, reading=reading).encode())]
        if user != os.geteuid():
            words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *words]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/")
        self.number = 0

    def starts(self) -> bool:
        """Whether it greets."""
        with contextlib.suppress(BrokenPipeError):  # it was quicker to refuse
            self._send(INIT)
        return bool(self._next())

    def ask(self, op: int, *fields: bytes) -> bytes:
        """One request and its answer."""
        self.number += 1
        self._send(request(self.number, op, *fields))
        return self._next()

    def status(self, op: int, *fields: bytes) -> Status:
        """As ask, where the answer is a status."""
        answer = self.ask(op, *fields)
        assert answer[0] == Reply.STATUS, answer
        return Status(answer[8])

    def content(self, path: str) -> bytes | Status:
        """What can be read there."""
        self.number += 1
        self._send(opened(self.number, path.encode(), Open.READ))
        answer = self._next()
        if answer[0] == Reply.STATUS:
            return Status(answer[8])
        handle = answer[5:]
        data = self.ask(Op.READ, handle, u64(0), u32(1000))
        self.ask(Op.CLOSE, handle)
        return data[9:] if data[0] == Reply.DATA else b""

    def put(self, path: str, data: bytes) -> Status:
        """A new file there."""
        self.number += 1
        self._send(opened(self.number, path.encode(), Open.WRITE | Open.CREAT | Open.TRUNC))
        answer = self._next()
        if answer[0] == Reply.STATUS:
            return Status(answer[8])
        written = self.status(Op.WRITE, answer[5:], u64(0), string(data))
        self.ask(Op.CLOSE, answer[5:])
        return written

    def end(self) -> tuple[int, str]:
        """(status, stderr)."""
        _, err = self.process.communicate(timeout=10)
        return self.process.returncode, err.decode()

    def _send(self, packet: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(framed(packet))
        self.process.stdin.flush()

    def _next(self) -> bytes:
        assert self.process.stdout is not None
        head = self.process.stdout.read(4)
        return self.process.stdout.read(int.from_bytes(head, "big")) if head else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder that is a root, one beside it that begins with the same name, and who serves it."""

    root: Path
    outside: Path
    user: int

    @property
    def secret(self) -> str:
        return f"{self.outside}/secret"


@pytest.fixture(params=USERS, ids=lambda user: "nobody" if user == NOBODY else "self")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Two folders that everybody may use."""
    peers.require("sftp-server")
    above = Path(tempfile.mkdtemp())
    root, outside = above / "root", above / "rootx"
    for folder in (above, root, outside):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    (outside / "secret").write_bytes(SECRET)
    (root / "own").write_bytes(OWN)
    yield Place(root=root, outside=outside, user=request.param)
    shutil.rmtree(above)


@pytest.fixture
def server(place: Place) -> Iterator[Server]:
    """A server that may write, confined to the root."""
    made = Server(str(place.root), place.user)
    assert made.starts(), made.end()
    yield made
    made.end()


def test_what_is_in_the_root_is_served_as_it_is(place: Place, server: Server) -> None:
    """At its own path, by the login itself."""
    assert server.content(f"{place.root}/own") == OWN
    assert server.put(f"{place.root}/new", b"new") is Status.OK
    assert (place.root / "new").read_bytes() == b"new"
    assert (place.root / "new").stat().st_uid == place.user
    assert server.status(Op.RENAME, string(b"new"), string(b"newer")) is Status.OK
    assert server.ask(Op.REALPATH, string(b"."))[13:].startswith(str(place.root).encode())


def test_no_path_leads_out(place: Place, server: Server) -> None:
    """Absolute, by `..`, by a name that begins alike; nothing of the host is there at all."""
    for path in (place.secret, f"{place.root}/../rootx/secret", "../rootx/secret", f"{place.root}x/secret"):
        assert server.content(path) is Status.NO_SUCH_FILE
    for path in ("/etc/shadow", "/proc/1", "/boot", "/var", "/dev/sda", "/usr/bin", "/etc/ssh"):
        assert server.status(Op.STAT, string(path.encode())) is Status.NO_SUCH_FILE
    passwd = server.content("/etc/passwd")
    assert isinstance(passwd, bytes)
    assert passwd.count(b"\n") == 1


def test_links_that_were_there_lead_nowhere(place: Place, server: Server) -> None:
    """M8: absolute and relative, to files and to folders, for reading and for writing."""
    links = {
        "a": place.secret,
        "b": "../rootx/secret",
        "c": str(place.outside),
        "d": "../rootx",
        "e": "/proc/self/root",
    }
    for name, to in links.items():
        (place.root / name).symlink_to(to)
    for path in ("a", "b", "c/secret", "d/secret", "e" + place.secret):
        assert server.content(path) is Status.NO_SUCH_FILE
        assert server.put(path, b"evil") is not Status.OK
        assert server.status(Op.SETSTAT, string(path.encode()), u32(4), u32(0o777)) is Status.NO_SUCH_FILE
    assert server.put("c/new", b"evil") is not Status.OK
    assert [each.name for each in place.outside.iterdir()] == ["secret"]
    assert (place.outside / "secret").read_bytes() == SECRET


def test_links_made_in_the_session_lead_nowhere(place: Place, server: Server) -> None:
    """Neither kind, nor by renaming one over a file."""
    assert server.status(Op.SYMLINK, string(place.secret.encode()), string(b"soft")) is Status.OK
    assert server.content("soft") is Status.NO_SUCH_FILE
    assert server.status(Op.RENAME, string(b"soft"), string(b"moved")) is Status.OK
    posix = string(b"posix-rename@openssh.com")
    assert server.status(Op.EXTENDED, posix, string(b"moved"), string(b"own")) is Status.OK
    assert server.content("own") is Status.NO_SUCH_FILE
    assert server.put("own", b"evil") is not Status.OK
    hard = string(b"hardlink@openssh.com")
    for path in (place.secret, "../rootx/secret", "/etc/passwd"):
        assert server.status(Op.EXTENDED, hard, string(path.encode()), string(b"hard")) is not Status.OK
    for path in (f"{place.outside}/x", "../rootx/x", "../x", "/x", "/etc/x", "/usr/lib/x"):
        (place.root / "mine").write_bytes(b"mine")
        assert server.status(Op.EXTENDED, posix, string(b"mine"), string(path.encode())) is not Status.OK
        assert server.status(Op.MKDIR, string(path.encode()), ATTRS) is not Status.OK
    assert (place.outside / "secret").read_bytes() == SECRET
    assert sorted(each.name for each in place.outside.iterdir()) == ["secret"]


def test_a_race_wins_nothing(place: Place, server: Server) -> None:
    """A folder that turns into a link and back, while it is read and written through."""
    (place.root / "real").mkdir()
    (place.root / "real").chmod(0o777)
    (place.root / "real" / "secret").write_bytes(OWN)
    (place.root / "link").symlink_to(place.outside)
    over = threading.Event()

    def swap() -> None:
        folder, link, spare = place.root / "real", place.root / "link", place.root / "spare"
        while not over.is_set():
            folder.rename(spare)
            link.rename(folder)
            folder.rename(link)
            spare.rename(folder)

    racing = threading.Thread(target=swap)
    racing.start()
    try:
        for turn in range(400):
            assert server.content("real/secret") in (OWN, Status.NO_SUCH_FILE)
            server.put(f"real/new{turn % 3}", b"new")
    finally:
        over.set()
        racing.join()
    assert [each.name for each in place.outside.iterdir()] == ["secret"]


def test_the_root_itself_may_be_moved_away(place: Place, server: Server) -> None:
    """Whoever puts a link in its place moves nobody's session."""
    place.root.rename(place.root.with_name("gone"))
    place.root.symlink_to(place.outside)
    assert server.content("own") == OWN
    assert server.content("secret") is Status.NO_SUCH_FILE
    assert server.content(f"{place.root}/own") == OWN


def test_a_reading_server_writes_nothing_in_there_either(place: Place) -> None:
    """The root and `-R` are two walls."""
    server = Server(str(place.root), place.user, reading=True)
    assert server.starts()
    assert server.content("own") == OWN
    assert server.put("new", b"new") is Status.PERMISSION_DENIED
    assert server.status(Op.REMOVE, string(b"own")) is Status.PERMISSION_DENIED
    server.end()


def test_where_it_cannot_be_enforced_nothing_runs(place: Place) -> None:
    """No folder, a link in its place or above it: refused in words, never served without."""
    link, above = place.root.with_name("link"), place.root.with_name("above")
    link.symlink_to(place.root)
    above.symlink_to(place.root.parent)
    for root in (f"{place.root}y", str(link), f"{above}/root", f"{place.root}/own"):
        server = Server(root, place.user)
        assert not server.starts()
        status, said = server.end()
        assert (status, "grantd: the folder is not there" in said) == (126, True)


def test_a_host_that_cannot_confine_says_so_and_serves_nothing(place: Place, tmp_path: Path) -> None:
    """No user namespaces, as some hosts have it: the check finds it before, and a session is refused."""
    tool = tmp_path / "unshare"
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    here = f"{tmp_path}:{PATH}"
    for path, expected in ((PATH, "server root"), (here, "server")):
        words = ["env", "-i", f"PATH={path}", "bash", "--norc", "-c", placed(LOOK.encode())]
        assert subprocess.run(words, capture_output=True, check=True).stdout.decode().split() == expected.split()
    words = [
        "env",
        "-i",
        f"PATH={here}",
        "bash",
        "--norc",
        "-c",
        placed(confined(str(place.root), reading=True).encode()),
    ]
    refused = subprocess.run(words, capture_output=True, check=False, input=framed(INIT))
    assert (refused.returncode, refused.stdout) == (126, b"")
    assert b"does not let the login confine itself" in refused.stderr
