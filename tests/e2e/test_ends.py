"""The end of access, measured on the process that ran under it: expiry, revocation, freeze, and a cancelled stream.

Three kinds of commands each time: one that floods stdout, one that says nothing, one that ignores every signal it can.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from grantd import GrantdError, asking
from grantd.execution import EndsSoon, Told
from grantd.v1.access_pb2 import GrantState
from grantd.v1.action_pb2 import ActionState
from grantd.v1.admin_pb2 import UnfreezeRequest
from tests.e2e.programs import processes_with, wait_until
from tests.e2e.running import Running
from tests.e2e.stage import ASKS, FREE, House
from tests.pace import Since

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-ends")]

LATE_S = 1.0
"""I-01, I-02: nothing of a session runs later than this after its end."""
KINDS = ("flood", "silent", "stubborn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Three:
    """One command of each kind under one grant, all of them running on the target."""

    grant: str
    commands: dict[str, Running]
    marks: dict[str, str]

    def late(self, end: float, over: Since | None = None) -> dict[str, float]:
        """Seconds after `end`, of the wall clock, at which nothing of each was left on the target; waits for it.

        `over` where the end has been already.
        """
        left, late = dict(self.marks), dict[str, float]()
        began = Since()
        while left:
            assert began.s() < 40, f"still there: {list(left)}"
            if over is None and time.time() >= end:
                over = Since()
            for kind in [kind for kind, mark in left.items() if not processes_with(mark)]:
                late[kind] = round(over.s() if over else time.time() - end, 3)
                del left[kind]
            time.sleep(0.005)
        return late


def _start(house: House, folder: Path, *, ttl: float = 120) -> Three:
    """The flood and the stubborn one are reads on the pooled connection, the silent one has its own, approved."""
    marks = {kind: str(folder / f"mark-{kind}") for kind in KINDS}
    grant = house.grant(ASKS, ttl=ttl)
    commands = {
        "silent": house.approved(grant, f"touch {marks['silent']}; tail -f {marks['silent']}"),
        # in bursts: unbroken, a fast machine would have its 1 GiB of output before the grant ends
        "flood": house.run(grant, f"while :; do yes {marks['flood']} | head -c 2000000; sleep 0.1; done"),
        "stubborn": house.run(
            grant, f"trap '' TERM HUP INT QUIT; while :; do tail -f {marks['silent']} /{marks['stubborn']}; done"
        ),
    }
    for kind, running in commands.items():
        running.until(ActionState.ACTION_STATE_RUNNING)
        wait_until(partial(_runs, marks[kind]), 10)
    wait_until(lambda: len(commands["flood"].events) > 50, 10)
    return Three(grant=grant, commands=commands, marks=marks)


def _runs(mark: str) -> bool:
    return bool(processes_with(mark))


def _cut_with(three: Three, reason: str) -> None:
    """Each caller was told, with the reason; what it saw before stays."""
    for running in three.commands.values():
        action = running.finished()
        assert (action.state, action.note) == (ActionState.ACTION_STATE_CUT, reason)
    assert three.commands["flood"].output().startswith(three.marks["flood"].encode())


def test_expiry_cuts_whatever_the_command_does(house: House, tmp_path: Path) -> None:
    """At the end of the TTL, on the target's own processes; a warning came 10 s before (I-01)."""
    three = _start(house, tmp_path, ttl=14)
    end = house.client("builder").grant(three.grant).not_after.ToDatetime(tzinfo=UTC).timestamp()
    late = three.late(end)
    _cut_with(three, "expired")
    assert all(-0.5 < each <= LATE_S for each in late.values()), late
    for running in three.commands.values():
        warned = [(at, event.left.total_seconds()) for at, event in running.events if isinstance(event, EndsSoon)]
        assert [left for _, left in warned] == [10.0]
    house.audited("grant.expired", lambda entry: entry["grant"] == three.grant)
    assert house.client("builder").grant(three.grant).state == GrantState.GRANT_STATE_EXPIRED


def test_the_first_warning_comes_a_minute_before_the_end(house: House) -> None:
    """A lease of 62 s warns after 2 s (I-01)."""
    grant = house.grant(ttl=62)
    running = house.run(grant, "sleep 30")
    wait_until(lambda: any(isinstance(event, EndsSoon) for _, event in list(running.events)), 10)
    at, event = next((at, event) for at, event in running.events if isinstance(event, EndsSoon))
    assert event.left.total_seconds() == 60.0
    end = house.client("builder").grant(grant).not_after.ToDatetime(tzinfo=UTC).timestamp()
    assert 55 < end - (at - time.monotonic() + time.time()) < 60.5
    house.client("builder").cancel_action(running.action().id)
    assert running.finished().state == ActionState.ACTION_STATE_CUT


def test_revocation_cuts_whatever_the_command_does(house: House, tmp_path: Path) -> None:
    """Within a second of the owner's word; nothing runs under the grant afterwards (I-02)."""
    three = _start(house, tmp_path)
    said = Since()
    told = house.client("owner").revoke(three.grant, "an incident")
    late = three.late(time.time(), said)
    assert all(each <= LATE_S for each in late.values()), late
    assert told.sessions_cut == len(KINDS)
    _cut_with(three, "revoked")
    with pytest.raises(GrantdError) as refused:
        house.run(three.grant, "uname -s").finished()
    assert refused.value.code in ("grant_over", "not_found")
    house.audited("grant.revoked", lambda entry: entry["grant"] == three.grant)
    again = house.ctl("owner", "grants", "revoke", three.grant, "--reason", "an incident")
    assert (again.status, again.out) == (0, f"{three.grant} is revoked; 0 sessions cut\n"), again.err


def test_a_closed_ticket_ends_the_access_that_it_was_the_reason_for(house: House, tmp_path: Path) -> None:
    """P22: its session is cut within a second, its certificate opens nothing, another's goes on; twice is once."""
    client = house.client("builder")
    grants, marks = list[str](), list[str]()
    for ticket in ("OPS-7", "OPS-8"):
        asked = client.request_access(
            FREE, house.sshd.login, ceiling="read", ttl=timedelta(minutes=2), reason="x", ticket=ticket
        )
        grants.append(asking.require_grant(asked))
        marks.append(str(tmp_path / ticket))
    files = house.ssh_files(grants[0])
    running = [house.run(grant, f"tail -f /dev/null {mark}") for grant, mark in zip(grants, marks, strict=True)]
    for mark in marks:
        wait_until(partial(_runs, mark), 10)
    since = Since()
    closed = house.ctl("approver", "ticket", "close", "OPS-7")
    wait_until(lambda: not _runs(marks[0]), 10, every=0.005)
    assert since.s() <= LATE_S + 1.0, "a program's start included"
    assert (closed.status, closed.out) == (0, "1 grants ended, 1 sessions cut\n"), closed.err
    assert running[0].finished().note == "revoked"
    assert house.ssh(files, "uname -s").status == 255
    assert running[1].is_going()
    again = house.ctl("approver", "revoke", "--ticket", "OPS-7", "--reason", "again", "-o", "json")
    assert set(again.json()[0].values()) == {0}, again.err
    assert house.ctl("approver", "revoke", "--reason", "nothing named").status != 0
    assert house.ctl("builder", "revoke", "--all", "--reason", "an agent").status == 3
    ended = house.ctl("approver", "revoke", "--agent", "builder", "--reason", "over", "-o", "json").json()
    assert ended[0]["sessions_cut"] == 1
    assert running[1].finished().note == "revoked"
    house.audited("grant.revoked", lambda entry: entry["grant"] == grants[1])


def test_freeze_cuts_everything_and_survives_a_restart(house: House, tmp_path: Path) -> None:
    """The kill switch: cut within a second, still frozen after a restart, lifted only with a fresh signature (I-61)."""
    three = _start(house, tmp_path)
    said = Since()
    frozen = house.ctl("approver", "freeze", "--reason", "an incident")
    late = three.late(time.time(), said)
    assert frozen.status == 0, frozen.err
    assert "3 sessions cut" in frozen.out
    assert all(each <= LATE_S + 1.0 for each in late.values()), f"{late}, a program's start included"
    _cut_with(three, "frozen")

    house.stop()
    house.serve()
    asked = house.ctl("builder", "request", ASKS, house.sshd.login, "--reason", "again")
    assert asked.status != 0
    assert "access is frozen" in asked.err

    owner = house.client("owner")
    with pytest.raises(GrantdError) as refused:
        owner.call(owner.admin.Unfreeze, UnfreezeRequest(reason="over"))
    assert refused.value.code == "step_up_needed"
    by_manager = house.ctl("approver", "unfreeze", "--reason", "over")
    assert by_manager.status == 3
    assert "your role does not allow this call" in by_manager.err
    assert "access is frozen" in house.ctl("builder", "request", ASKS, house.sshd.login, "--reason", "again").err

    lifted = house.ctl("owner", "unfreeze", "--reason", "over")
    assert (lifted.status, lifted.out) == (0, "lifted\n"), lifted.err
    assert house.run(house.grant(), "uname -s").finished().exit_status == 0
    assert house.client("builder").grant(three.grant).state == GrantState.GRANT_STATE_REVOKED, "what ended stays ended"
    events = [entry["event"] for entry in house.audit() if entry["event"].startswith("system.")]
    assert {"system.frozen", "system.unfrozen"} <= set(events)


def test_a_caller_that_leaves_ends_its_command(house: House, tmp_path: Path) -> None:
    """An agent that dies takes its running command with it, within a second (I-01)."""
    mark = str(tmp_path / "left")
    grant = house.grant()
    running = house.run(grant, f"touch {mark}; tail -f {mark}")
    wait_until(partial(_runs, mark), 10)
    session = running.until(ActionState.ACTION_STATE_RUNNING).session_id
    since = Since()
    house.client("builder").close()
    wait_until(lambda: not _runs(mark), 10, every=0.005)
    assert since.s() <= LATE_S
    house.forget()
    wait_until(lambda: house.session(session).state == "cut", 10)
    assert house.session(session).end_reason == "caller_gone"


def test_a_killed_session_leaves_the_others_alone(house: House, tmp_path: Path) -> None:
    """`grantctl sessions kill` cuts one; the grant and its other command go on (I-02)."""
    marks = [str(tmp_path / f"kill-{n}") for n in range(2)]
    grant = house.grant()
    first, second = (house.run(grant, f"touch {mark}; tail -f {mark}") for mark in marks)
    for mark in marks:
        wait_until(partial(_runs, mark), 10)
    killed = house.ctl(
        "approver", "sessions", "kill", first.until(ActionState.ACTION_STATE_RUNNING).session_id, "--reason", "odd"
    )
    assert killed.status == 0, killed.err
    wait_until(lambda: not _runs(marks[0]), 2)
    assert first.finished().state == ActionState.ACTION_STATE_CUT
    assert Told("an operator ended this: odd") in [event for _, event in first.events]
    assert second.is_going()
    assert _runs(marks[1])
    third = house.run(house.grant(), f"touch {marks[0]}; tail -f {marks[0]}")
    third.until(ActionState.ACTION_STATE_RUNNING)
    killed = house.ctl("approver", "sessions", "kill", "--all-of", grant, "--reason", "odd", "-o", "json")
    assert [each["id"] for each in killed.json()] == [second.action().session_id], killed.err
    assert second.finished().note == "terminated"
    assert third.is_going()
    assert house.ctl("approver", "sessions", "kill", "--all-of", "builder", "--reason", "odd").status == 0
    assert third.finished().note == "terminated"
    assert house.ctl("approver", "sessions", "kill", "--reason", "odd").status == 2
    house.client("builder").revoke(grant, "done")


def test_a_never_used_grant_ends_at_its_deadline_and_is_no_lease(house: House) -> None:
    """The TTL runs from first use: a grant that nobody used has no end yet, only a moment to start by (I-03)."""
    grant = house.client("builder").grant(house.grant(ttl=1))
    assert not grant.HasField("not_after")
    assert grant.must_start_by.ToDatetime(tzinfo=UTC) > datetime.now(UTC)
