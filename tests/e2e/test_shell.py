"""`ssh web1` without a command, in a real terminal through the real broker: a prompt whose every line is an action."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from grantd.v1.approval_pb2 import ListPendingRequest
from tests import peers
from tests.agents.console import Console
from tests.e2e.programs import finish, wait_until
from tests.e2e.stage import ASKS, FREE, House
from tests.pace import Since

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-shell")]


@contextlib.contextmanager
def seated(house: House, target: str, *, ttl: float = 300) -> Iterator[Console]:
    """A person with a stock ssh before a prompt."""
    files = house.ssh_files(house.grant(target, flags=("shell",), ttl=ttl, ceiling="execute"))
    words = ["ssh", *house.ssh_options(files), "-p", str(files.port), f"{files.user}@{files.host}"]
    # pyte knows no private SGR, which vim asks an xterm for
    with Console(words, env={"TERM": "vt220"}, columns=120, rows=30) as console:
        console.expect("~ $")
        yield console


def enter(console: Console, line: str) -> None:
    """A line and Enter, as a hand types them, once there is a prompt."""
    since = Since()
    while not last(console).endswith("$"):
        assert since.s() < 15, console.text()
        console.read(0.05)
    for key in (*line, "\r"):
        console.write(key.encode())
        console.read(0.01)


def last(console: Console) -> str:
    """The last row that has something on it."""
    return next((row.rstrip() for row in reversed(console.screen.display) if row.strip()), "")


def pending(house: House, marker: str) -> str:
    """The id of the command that waits."""
    client, found = house.client("approver"), list[str]()

    def waits() -> bool:
        items = client.call(client.approvals.ListPending, ListPendingRequest()).items
        found[:] = [item.id for item in items if marker.encode() in item.action.command]
        return bool(found)

    wait_until(waits, 10)
    return found[0]


def test_an_hour_at_the_prompt(house: House, tmp_path: Path) -> None:
    """I-18: a read runs, `cd` stays, a write waits and runs when a person signed, an install is denied."""
    with seated(house, ASKS) as console:
        enter(console, "uname -a")
        console.expect(finish(["uname", "-a"]).out.strip()[:100])
        enter(console, f"cd {tmp_path}")
        console.expect(f"{tmp_path.name} $")
        enter(console, "touch made")
        item = pending(house, "touch made")
        console.expect("waiting for a person to allow this")
        assert not (tmp_path / "made").exists()
        house.decide(item)
        console.expect("grantd: allowed")
        enter(console, "ls")
        console.expect("\nmade\n")
        enter(console, "apt-get install -y hello")
        console.expect("policy does not allow this")
        enter(console, "touch never")
        pending(house, "touch never")
        console.expect("waiting for a person")
        console.write(b"\x03")
        console.expect("cancelled: taken back by its requester")
        enter(console, "sleep 30")
        console.read(0.5)
        console.write(b"\x03")
        console.expect("[130] $", 5)
        enter(console, "exit 3")
        assert console.wait() == 3
    listed = house.ctl("owner", "sessions", "list", "-o", "json").json()
    shell = next(each for each in listed if each["kind"] == "shell")
    wait_until(lambda: house.session(shell["id"]).state != "open", 5)
    events = house.played(shell["id"])
    shown = b"".join(event.payload for event in events if event.kind == 1)
    assert shown in console.raw
    marks = [event.payload.decode() for event in events if event.kind == 9]
    assert any("write: approved (1)" in mark for mark in marks)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(("program", "leave"), [("less", "q"), ("vim.basic", ":q!\r")])
def test_a_full_screen_program_and_back(house: House, tmp_path: Path, program: str, leave: str) -> None:
    """It has the whole terminal and the keyboard as long as it runs; afterwards the prompt is where it was."""
    found = peers.require(program)
    if found.is_relative_to(peers.PRIVATE_ROOT):
        pytest.skip(f"{program} is unpacked only: a target starts what is installed")
    text = tmp_path / "text"
    text.write_text("".join(f"row {number}\n" for number in range(300)))
    with seated(house, FREE) as console:
        enter(console, "echo before")
        console.expect("\nbefore\n")
        enter(console, f"{program.removesuffix('.basic')} {text}")
        if program == "vim.basic":
            house.decide(pending(house, "vim"))
        console.expect("row 20")
        console.write(b"\x06" if program == "vim.basic" else b" ")  # one byte: Page Down may come apart at its Escape
        console.expect("row 50")
        console.resize(100, 20)
        console.read(0.3)
        for key in leave:
            console.write(key.encode())
            console.read(0.05)
        enter(console, "echo after")
        console.expect("\nafter\n")
        enter(console, "exit")
        assert console.wait() == 0


def test_the_end_of_the_access_is_told_and_kept(house: House) -> None:
    """I-01: a warning above the line, the reason, and the end within a second of its time."""
    with seated(house, FREE, ttl=16) as console:  # a busy machine takes some of it to come to the prompt
        for key in "echo draft":
            console.write(key.encode())
        console.expect("access ends in 10 s", 16)
        warned = Since()
        assert "echo draft" in last(console)
        assert console.wait(15) == 126
        assert warned.wall_s() > 8
        assert warned.s() < 12
        assert "grantd: ended: expired" in console.text()


def test_a_shell_without_the_flag_is_refused(house: House) -> None:
    """I-20: as ever."""
    files = house.ssh_files(house.grant(FREE))
    ran = house.ssh(files, before=("-T",), stdin=b"id\n")
    assert ran.status != 0
    assert ran.out == ""


def test_a_script_on_stdin(house: House, tmp_path: Path) -> None:
    """`ssh -T web1 < script`: line by line, the target's output as it is; nothing after what was not allowed."""
    files = house.ssh_files(house.grant(FREE, flags=("shell",), ceiling="write"))
    script = f"cd {tmp_path}\necho a > made\ncat made\nls /nowhere\napt-get install -y hello\necho never\n"
    ran = house.ssh(files, before=("-T",), stdin=script.encode())
    assert (ran.out, ran.status) == ("a\n", 126)
    assert "nothing of the rest was run" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
