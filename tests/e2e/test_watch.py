"""An operator watches what an agent runs, in a terminal, holds its input, and cuts it (I-33, F07, F14)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from grantd.v1.action_pb2 import ActionState
from tests.agents.console import Console
from tests.e2e.programs import wait_until
from tests.e2e.stage import House
from tests.e2e.typed import Typed

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-watch")]

EYES = """
@id("four.eyes") @watched("manager")
permit (principal, action == Action::"run", resource) when { principal.teams.containsAny(resource.teams) };
"""
HOSTILE = b"\x1b]0;owned\x07\x1b[6n\x1b]52;c;aGVsbG8=\x07safe\n"


def test_an_operator_watches_holds_and_cuts_a_running_command(house: House, tmp_path: Path) -> None:
    """From a warm beginning; nothing of the target reaches the terminal unexamined; the agent is told of all of it."""
    file = tmp_path / "log"
    file.write_bytes(b"long ago\n")
    running = house.run(house.grant(), f"tail -n +1 -f {file}")
    session = running.until(ActionState.ACTION_STATE_RUNNING).session_id
    wait_until(lambda: running.output() == b"long ago\n", 10)
    words = house.ctl_words("approver", "sessions", "watch", session, "--reason", "odd")
    with Console(words, env={}, columns=120, rows=40) as console:
        console.expect("long ago")
        console.expect("watched by approver")
        with file.open("ab") as log:
            log.write(b"just now\n" + HOSTILE)
        console.expect("just now")
        console.expect("safe")
        assert b"\x1b]0;owned" not in console.raw
        assert b"\x1b[6n" not in console.raw
        assert b"\x1b]52" not in console.raw
        listed = house.ctl("owner", "sessions", "list", "--open").out
        assert session in listed
        assert "approver" in listed
        console.type("p")
        console.expect("INPUT HELD: paused")
        wait_until(lambda: "paused your input" in running.told(), 5)
        assert "open, paused" in house.ctl("owner", "sessions", "list", "--open").out
        console.type("r")
        wait_until(lambda: "goes through again" in running.told(), 5)
        console.type("k")
        console.expect("cut this session?")
        console.type("y")
        console.expect("the session is over: cut (terminated)")
        assert console.wait() == 0
        assert not console.is_raw()
    assert running.finished().note == "terminated"
    assert "an operator ended this: odd" in running.told()
    for name in ("session.watched", "session.paused", "session.resumed", "session.unwatched"):
        house.audited(name, lambda entry: entry["session"] == session)
    again = house.ctl("approver", "sessions", "watch", session, "--reason", "a test")
    assert again.status == 1
    assert "the session is over" in again.err


def test_a_screen_is_shown_as_it_stands(house: House) -> None:
    """formats.md 1.5: whoever joins late sees what was drawn before; what could act on their terminal is left out."""
    files = house.ssh_files(house.grant())
    draw = r"printf '\033[?1049h\033[2J\033[5;10Hfull screen\033]0;owned\007\033[6n'; sleep 60"
    words = ["ssh", "-tt", *house.ssh_options(files), "-p", str(files.port), f"{files.user}@{files.host}", draw]
    with Typed(words) as ssh:
        wait_until(lambda: b"full screen" in ssh.out, 15)
        (session,) = house.ctl("owner", "-o", "json", "sessions", "list", "--open").json()
        with Console(
            house.ctl_words("approver", "sessions", "watch", session["id"], "--reason", "a test"), env={}, rows=40
        ) as console:
            console.expect("full screen")
            console.expect("watched by approver")
            assert console.screen.display[4].index("full screen") == 9
            assert "q leave" in console.screen.display[39]
            console.type("q")
            assert console.wait() == 0
            assert not console.is_raw()
        assert b"\x1b]0;" not in console.raw
        assert b"\x1b[6n" not in console.raw
        assert console.raw.count(b"\x1b[?1049h") == console.raw.count(b"\x1b[?1049l") == 1
    wait_until(lambda: house.session(session["id"]).state != "open", 10)


def test_a_watcher_without_a_terminal_gets_text_and_the_exit_of_the_session(house: House) -> None:
    """For a pipe: the streams escaped, then how it ended; with -o json every message, one a line."""
    running = house.run(house.grant(), "sleep 2; echo out; echo err >&2")
    session = running.until(ActionState.ACTION_STATE_RUNNING).session_id
    seen = house.ctl("approver", "sessions", "watch", session, "--reason", "a test")
    assert (seen.status, "out\n" in seen.out, "err\n" in seen.out) == (0, True, True), seen
    assert "the session is over: closed" in seen.err
    running.finished()


def test_an_agent_watches_nothing(house: House) -> None:
    """I-42."""
    running = house.run(house.grant(), "sleep 2")
    session = running.until(ActionState.ACTION_STATE_RUNNING).session_id
    refused = house.ctl("builder", "sessions", "watch", session, "--reason", "a test")
    assert refused.status == 3, refused
    assert "your role does not allow this call" in refused.err
    running.finished()


def test_four_eyes_over_ssh(house: House, tmp_path: Path) -> None:
    """F14: a stock ssh whose command waits for a manager who watches, and whose input is held when they leave."""
    sources: dict[str, str] = house.ctl("owner", "-o", "json", "policy", "show").json()[0]["sources"]
    for name, text in (sources | {"eyes.cedar": EYES}).items():
        (tmp_path / name).write_text(text)
    assert house.ctl("owner", "policy", "put", *map(str, tmp_path.glob("*.cedar"))).status == 0
    files = house.ssh_files(house.grant())
    words = ["ssh", *house.ssh_options(files), "-p", str(files.port), f"{files.user}@{files.host}", "cat"]
    with Typed(words) as ssh:
        ssh.type(b"early\n")
        wait_until(lambda: b"grantd: held: this must be watched" in ssh.err, 15)
        assert ssh.out == b""
        (session,) = house.ctl("owner", "-o", "json", "sessions", "list", "--open").json()
        assert session["oversight"]["must_be_watched"]
        assert "must be watched" in house.ctl("owner", "sessions", "list", "--open").out
        with Console(
            house.ctl_words("approver", "sessions", "watch", session["id"], "--reason", "a test"), env={}
        ) as console:
            wait_until(lambda: ssh.out == b"early\n", 15)
            console.expect("early")
            assert b"goes through again" in ssh.err
            console.type("q")
            assert console.wait() == 0
        wait_until(lambda: ssh.err.count(b"grantd: held: this must be watched") == 2, 10)
        ssh.type(b"unseen\n")
        with Console(
            house.ctl_words("second", "sessions", "watch", session["id"], "--reason", "a test"), env={}
        ) as console:
            console.expect("watched by second")
            wait_until(lambda: ssh.out == b"early\nunseen\n", 15)
            console.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: ssh.err.count(b"grantd: held: this must be watched") == 3, 10)
            console.process.send_signal(signal.SIGCONT)
    house.audited("session.opened", lambda entry: entry["session"] == session["id"] and entry["watched"] == 1)
