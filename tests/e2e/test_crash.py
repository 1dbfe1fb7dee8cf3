"""kill -9 of the daemon while commands run: nothing stays open, on the target, in the store or in what is proved."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from grantd import Client
from grantd.errors import GrantdError
from grantd.v1.access_pb2 import Grant, GrantState
from grantd.v1.action_pb2 import ActionState, WaitActionRequest
from tests.e2e.programs import processes_with, wait_until
from tests.e2e.running import Running
from tests.e2e.stage import ASKS, House
from tests.pace import Since
from tests.processes import descendants

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-crash")]

ENDS_MEANWHILE_S = 10
RECORDED_WITHIN_S = 2.0
"""Bytes are durable a second after they came (I-30), where the disk does not stall: younger ones may be lost."""

SIGNER_GONE_S = 5.0
"""It serves its parent alone, so nobody can use it meanwhile."""


@dataclass(slots=True)
class Knocker:
    """Asks for a grant again and again while the broker starts; keeps the first answer that anybody got."""

    profile: Path
    grant: str
    answer: Grant | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    def knock(self) -> None:
        while self.answer is None and not self.stopped.is_set():
            with Client(self.profile) as client:
                try:
                    self.answer = client.grant(self.grant)
                except GrantdError:
                    time.sleep(0.02)


@pytest.fixture(scope="module")
def crashed(house: House, tmp_path_factory: pytest.TempPathFactory) -> Crash:
    """Three commands run, the broker dies, one grant's time passes while it is dead, it starts again."""
    folder = tmp_path_factory.mktemp("crash")
    marks = {name: str(folder / name) for name in ("read", "write", "stubborn")}
    Path(marks["read"]).write_text("seen\n")
    asked, long = house.grant(ASKS), house.grant()
    commands = {
        "write": house.run(long, f"touch {marks['write']}; tail -f {marks['write']}"),
        "stubborn": house.approved(
            asked, f"trap '' TERM HUP INT; touch {marks['stubborn']}; while :; do sleep 1; done"
        ),
    }
    for name, running in commands.items():
        running.until(ActionState.ACTION_STATE_RUNNING)
        wait_until(partial(_runs, marks[name]), 10)
    short = house.grant(ttl=ENDS_MEANWHILE_S)  # last: its time must not pass before the broker dies
    commands["read"] = house.run(short, f"tail -f {marks['read']}")
    for name, running in commands.items():
        running.until(ActionState.ACTION_STATE_RUNNING)
        wait_until(partial(_runs, marks[name]), 10)
    wait_until(lambda: commands["read"].output() == b"seen\n", 10)
    time.sleep(RECORDED_WITHIN_S)
    not_after = house.client("builder").grant(short).not_after.ToDatetime(tzinfo=UTC)
    children = descendants(house.pid)
    assert children, "the signer is a process of its own"

    assert all(running.is_going() for running in commands.values())
    house.kill()
    died = Since()
    lines_before = len(house.logged())
    gone = _when_gone({mark: name for name, mark in marks.items()}, children, died)
    time.sleep(max(0.0, (not_after - datetime.now(UTC)).total_seconds() + 0.2))

    knocker = Knocker(house.profile("builder"), short)
    thread = threading.Thread(target=knocker.knock)
    thread.start()
    house.serve()
    thread.join(60)
    knocker.stopped.set()
    assert knocker.answer is not None
    return Crash(commands=commands, gone=gone, first=knocker.answer, long=long, lines_before=lines_before)


def _is(field: str, value: str, entry: dict[str, Any]) -> bool:
    return bool(entry[field] == value)


def _runs(mark: str) -> bool:
    return Path(mark).exists() and bool(processes_with(mark))


def _when_gone(marks: dict[str, str], children: list[int], died: Since) -> dict[str, float]:
    """Seconds from `died` to the end of each command's processes, and of the broker's children."""
    gone: dict[str, float] = {}
    while len(gone) <= len(marks) and died.s() < 20:
        for mark, name in marks.items():
            if name not in gone and not processes_with(mark):
                gone[name] = died.s()
        if "signer" not in gone and not any(Path(f"/proc/{pid}").exists() for pid in children):
            gone["signer"] = died.s()
        time.sleep(0.01)
    return gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """What was seen."""

    commands: dict[str, Running]
    gone: dict[str, float]
    """Seconds from the kill to the end of each command's processes on the target, and of the signer."""
    first: Grant
    """What the first caller after the start was told of the grant that ended meanwhile."""
    long: str
    lines_before: int
    """Of the broker's log, when it died."""


def test_the_commands_on_the_target_end_with_the_broker(crashed: Crash) -> None:
    """No command outlives its broker by more than a second, ignored signals or not (I-01); the signer goes too."""
    assert crashed.gone.keys() == {"read", "write", "stubborn", "signer"}
    assert crashed.gone.pop("signer") <= SIGNER_GONE_S
    assert all(seconds <= 1.0 for seconds in crashed.gone.values()), crashed.gone


def test_nothing_is_served_before_what_ended_is_ended(house: House, crashed: Crash) -> None:
    """The very first answer after the start already says expired, and the doors open after recovery (I-03)."""
    assert crashed.first.state == GrantState.GRANT_STATE_EXPIRED
    after = house.logged()[crashed.lines_before :]
    events = [line["event"] for line in after]
    recovered = events.index("broker.recovered")
    doors = [events.index(name) for name in ("rpc.listening", "gateway.listening", "rpc.served")]
    assert recovered < min(doors)
    told = {name: after[recovered][name] for name in ("sessions", "recordings", "grants")}
    assert told == {"sessions": 3, "recordings": 3, "grants": 1}


def test_sessions_are_lost_and_actions_too(house: House, crashed: Crash) -> None:
    """Every command that ran is LOST, its session closed; the grant that had time left still stands (I-03)."""
    builder = house.client("builder")
    for running in crashed.commands.values():
        with pytest.raises(GrantdError):
            running.finished()
        known = running.action()
        told = builder.call(builder.actions.WaitAction, WaitActionRequest(action_id=known.id)).action
        session = house.session(told.session_id)
        assert (told.state, told.note) == (ActionState.ACTION_STATE_LOST, "broker_died")
        assert (session.state, session.end_reason, session.recording_state) == ("lost", "broker_died", "truncated")
        assert session.HasField("closed_at")
        house.audited("action.lost", partial(_is, "action", told.id))
        house.audited("recording.recovered", partial(_is, "session", told.session_id))
    assert builder.grant(crashed.long).state == GrantState.GRANT_STATE_ACTIVE
    assert house.run(crashed.long, "uname -a").finished().exit_status == 0


def test_a_broken_off_recording_verifies_as_truncated(house: House, crashed: Crash, tmp_path: Path) -> None:
    """What the caller saw before the kill is in it; it never passes for a finished one (I-30, I-32)."""
    session = crashed.commands["read"].action().session_id
    file = tmp_path / "lost.grec"
    fetched = house.ctl("owner", "sessions", "fetch", session, "--reason", "after a crash", "--out", str(file))
    assert fetched.status == 0, fetched.err
    checked = house.grantd("verify", str(file))
    assert checked.status == 1
    assert "truncated" in checked.out, checked.out
    assert "the recording has no end" in checked.out
    played = b"".join(event.payload for event in house.played(session) if event.kind == 1)
    assert played == b"seen\n"


def test_the_bundle_verifies_and_knows_the_truncated_ones(house: House, crashed: Crash, tmp_path: Path) -> None:
    """The log goes on where it stood, offline and with the recordings that the kill broke off (I-35, I-36)."""
    house.audited("action.lost", lambda _: True)
    bundle = tmp_path / "bundle"
    exported = house.ctl("owner", "audit", "export", str(bundle), "--recordings", "--reason", "after a crash")
    assert exported.status == 0, exported.err
    checked = house.grantd("verify", str(bundle))
    assert checked.status == 0, checked.out
    assert checked.out.count("truncated: the recording has no end") == 3, checked.out
