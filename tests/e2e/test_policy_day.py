"""A day in the life of whoever keeps the policy: a tool of one's own, a case for it, a look at what would change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from grantd.v1.action_pb2 import ActionState
from tests.e2e.stage import FREE, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-policy-day")]

TOOL = """
[mytool]
class = "read"
subs.read = "status"
subs.execute = "restart"
match = ["read: mytool status"]
not_match = ["read: mytool restart"]
"""
CHANGE = """
@id("flags.ask")
@description("Feature flags are changed by people.")
forbid (principal, action == Action::"run_unattended", resource)
when { context.level == 2 };
"""
CASES = """
[given]
principal = { teams = ["ops"] }
target = { name = "web1", tier = "trusted", teams = ["ops"] }

[[case]]
name = "the tool's status is a read"
given = { command = "mytool status" }
expect = { decision = "permit", class = "read" }

[[case]]
name = "a write asks, although the tier trusts"
given = { command = "touch /srv/app/flag" }
expect = { decision = "needs_approval", class = "write" }
"""


@pytest.fixture
def folder(house: House, tmp_path: Path) -> Path:
    """The operator's repository: the policy in force, a file of programs, a rule more, and cases."""
    told = house.ctl("owner", "-o", "json", "policy", "show")
    sources: dict[str, str] = told.json()[0]["sources"]
    for name, text in (sources | {"tools.toml": TOOL, "ours.cedar": CHANGE, "ours.test.toml": CASES}).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_day_with_a_tool_of_ones_own(house: House, folder: Path, tmp_path: Path) -> None:
    """From the README's commands alone: described, checked, tested, simulated on what really ran, put, explained."""
    grant = house.grant(FREE)
    asked = house.run(grant, "mytool status").until(ActionState.ACTION_STATE_AWAITING)
    wrote = house.run(grant, f"touch {tmp_path}/flag").finished()
    assert wrote.state == ActionState.ACTION_STATE_SUCCEEDED

    assert house.grantd("policy", "check", str(folder)).status == 0
    tested = house.grantd("policy", "test", str(folder))
    assert (tested.status, "2" in tested.out) == (0, True), tested
    on_the_host = house.grantd(
        "policy", "simulate", str(folder), "--config", str(house.config), "--days", "1", "-o", "json"
    )
    files = [str(folder / name) for name in ("tiers.cedar", "ours.cedar", "tools.toml")]
    over_the_wire = house.ctl("owner", "-o", "json", "policy", "simulate", *files, "--days", "1")
    for told in (on_the_host, over_the_wire):
        assert told.status == 0, told
        assert asked.id in told.out
        assert wrote.id in told.out

    assert house.ctl("owner", "policy", "put", *files).status == 0
    ran = house.run(grant, "mytool status").finished()
    assert ran.exit_status == 127, "it runs at once; the host has no such program"
    again = house.run(grant, f"touch {tmp_path}/flag").until(ActionState.ACTION_STATE_AWAITING)
    for who, words, says in (
        ("builder", ("explain", "mytool status"), "tools.toml:mytool status"),
        ("owner", ("policy", "explain", again.id), "flags.ask"),
        ("owner", ("policy", "explain", "flags.ask"), "Feature flags are changed by people."),
    ):
        told = house.ctl(who, *words)
        assert (told.status, says in told.out) == (0, True), told
    assert json.loads(house.ctl("builder", "-o", "json", "explain", "mytool restart").out)
