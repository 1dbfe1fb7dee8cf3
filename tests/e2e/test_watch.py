"""An operator watches what an agent runs, in a terminal, holds its input, and cuts it (I-33, F07, F14)."""

from __future__ import annotations

from pathlib import Path

import pytest

from grantd.v1.action_pb2 import ActionState
from tests.agents.console import Console
from tests.e2e.stage import House, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-watch")]

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
    again = house.ctl("approver", "sessions", "watch", session)
    assert again.status == 1
    assert "the session is over" in again.err


def test_a_watcher_without_a_terminal_gets_text_and_the_exit_of_the_session(house: House) -> None:
    """For a pipe: the streams escaped, then how it ended; with -o json every message, one a line."""
    running = house.run(house.grant(), "sleep 2; echo out; echo err >&2")
    session = running.until(ActionState.ACTION_STATE_RUNNING).session_id
    seen = house.ctl("approver", "sessions", "watch", session)
    assert (seen.status, "out\n" in seen.out, "err\n" in seen.out) == (0, True, True), seen
    assert "the session is over: closed" in seen.err
    running.finished()


def test_an_agent_watches_nothing(house: House) -> None:
    """I-42."""
    running = house.run(house.grant(), "sleep 2")
    session = running.until(ActionState.ACTION_STATE_RUNNING).session_id
    refused = house.ctl("builder", "sessions", "watch", session)
    assert refused.status == 3, refused
    assert "your role does not allow this call" in refused.err
    running.finished()
