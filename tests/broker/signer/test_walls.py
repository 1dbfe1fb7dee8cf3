"""What code that has taken the signer over can still reach: its directory, and nothing else of the system (I-53)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.core.children import CHILD_ENVIRON
from broker.signer import landlock, seccomp
from broker.signer.keys import make_keys
from broker.signer.landlock import Right, handled

_INSIDE = """
import ctypes, json, os, resource, socket, subprocess, sys, threading
from pathlib import Path
from broker.signer import process

SECRET, DIRECTORY = Path(sys.argv[1]), Path(sys.argv[2])
HELD = os.open(SECRET, os.O_RDONLY)

def tried(act):
    try:
        return f"done: {act()!r}"[:80]
    except BaseException as error:
        return type(error).__name__

def native(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
    return "let"

def held():
    for descriptor in range(3, 64):
        try:
            if os.pread(descriptor, 8, 0) == b"treasure":
                return descriptor
        except OSError:
            pass
    raise OSError("not held any more")

def thread():
    said = []
    threading.Thread(target=lambda: said.append("ran")).start()
    while not said: pass
    return said[0]

def probe(listener, allowed, answer):
    acts = {
        "read another file": lambda: SECRET.read_bytes(),
        "read a held file": held,
        "list another folder": lambda: os.listdir(SECRET.parent),
        "list the root": lambda: os.listdir("/"),
        "read /etc/passwd": lambda: Path("/etc/passwd").read_bytes(),
        "read /proc": lambda: Path("/proc/self/environ").read_bytes(),
        "read the broker's memory": lambda: Path(f"/proc/{os.getppid()}/mem").open("rb"),
        "write another file": lambda: (SECRET.parent / "new").write_bytes(b"x"),
        "write beside the socket": lambda: (Path(sys.argv[3]).parent / "new").write_bytes(b"x"),
        "write its own code": lambda: Path(process.__file__).open("ab"),
        "leave a link": lambda: os.symlink("/etc/passwd", DIRECTORY / "link"),
        "leave a hard link": lambda: os.link(process.__file__, DIRECTORY / "hard"),
        "open a TCP socket": lambda: socket.socket(socket.AF_INET),
        "open a Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "run a child": lambda: subprocess.run(["/bin/true"]),
        "fork": lambda: os.fork(),
        "trace its parent": lambda: native("ptrace", 16, os.getppid(), 0, 0),
        "signal its parent": lambda: os.kill(os.getppid(), 0),
        "be dumpable again": lambda: native("prctl", 4, 1, 0, 0, 0),
        "unshare": lambda: native("unshare", 0x10000000),
        "mount": lambda: native("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1)),
        "chroot": lambda: os.chroot("/tmp"),
        "change user": lambda: os.setuid(65534),
        "see a variable": lambda: os.environ["SEEN"],
        "file in its directory": lambda: (DIRECTORY / "own").write_bytes(b"x"),
        "its journal": lambda: (DIRECTORY / "journal.log").read_bytes()[:1],
        "a thread": thread,
        "its limits": lambda: resource.getrlimit(resource.RLIMIT_CORE),
        "its folder": os.getcwd,
        "a late import": lambda: __import__("email.mime.text").__name__,
        "random": lambda: len(os.urandom(8)),
    }
    told = {name: tried(act) for name, act in acts.items()}
    print(json.dumps(told), flush=True)
    raise process._Stop

process.serve = probe
process.run_signer(process.SignerConfig(
    directory=DIRECTORY, socket=Path(sys.argv[3]), allowed_uid=os.geteuid(), parent_pid=os.getppid()))
"""

LET = {
    "file in its directory": "done: 1",
    "its journal": "done: b'{'",
    "a thread": "done: 'ran'",
    "its limits": "done: (0, 0)",
    "its folder": "done: '/'",
    "a late import": "done: 'email'",
    "random": "done: 8",
}
"""All that remains."""


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A secret of somebody else, the signer's directory, its socket."""
    (tmp_path / "others").mkdir()
    secret = tmp_path / "others/secret"
    secret.write_bytes(b"treasure")
    make_keys(tmp_path / "keys", datetime.now(UTC))
    (tmp_path / "run").mkdir()
    return secret, tmp_path / "keys", tmp_path / "run/s"


def inside(places: tuple[Path, Path, Path], prologue: str = "") -> tuple[dict[str, str], list[str]]:
    """What the probes inside a real signer got, and the lines that it logged."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", prologue + _INSIDE, *map(str, places)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**CHILD_ENVIRON, "SEEN": "yes"},
    )
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    return json.loads(lines[-1]), lines[:-1]


needs_landlock = pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")


@needs_landlock
def test_nothing_of_the_system_is_left(places: tuple[Path, Path, Path]) -> None:
    """Files, folders, sockets, programs, processes, privileges: every try from inside fails; its own work goes on."""
    told, logged = inside(places)
    reached = {name: what for name, what in told.items() if what.startswith("done") and name not in LET}
    assert reached == {}
    assert {name: told[name] for name in LET} == LET
    assert not any("wall_missing" in line for line in logged)


def test_a_missing_wall_is_said(places: tuple[Path, Path, Path]) -> None:
    """Where the kernel has no Landlock the signer says so, and the other walls stand all the same."""
    without = "from broker.signer import landlock\nlandlock.version = lambda: 0\n"
    told, logged = inside(places, without)
    assert any("signer.wall_missing" in line and "no Landlock" in line for line in logged), logged
    assert told["read another file"].startswith("done")
    for name in ("open a TCP socket", "run a child", "trace its parent", "see a variable", "read a held file"):
        assert not told[name].startswith("done"), name


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_is_a_whole_program(machine: str) -> None:
    """Steps of eight bytes, fewer than the kernel's 4096, and the last one says no."""
    code = seccomp.program(machine, os.getpid())
    assert len(code) % 8 == 0
    assert len(code) // 8 < 4096
    assert code.endswith(seccomp.program(machine, 1)[-8:])


def test_a_machine_without_a_table_is_refused() -> None:
    """Numbers of another architecture would let through what they must not."""
    with pytest.raises(seccomp.Refused, match="riscv64"):
        seccomp.program("riscv64", 1)


@pytest.mark.parametrize(("abi", "rights"), [(1, 13), (2, 14), (3, 15), (4, 15), (5, 16), (7, 16)])
def test_every_right_that_the_kernel_knows_is_taken(abi: int, rights: int) -> None:
    """A newer kernel's rights are used, an older one is not asked for what it does not know."""
    assert handled(abi).bit_count() == rights
    assert not int(Right.LOOK) & ~handled(1)
