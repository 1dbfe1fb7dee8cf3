"""Policies beside a broker that runs: tried on what really ran, from a client and on its host, and explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from grantd.v1.action_pb2 import ActionState
from policy.engine import shipped_policy
from tests.e2e.stage import ASKS, House

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.xdist_group("e2e-policies")]


@pytest.fixture(scope="module")
def ran(house: House) -> str:
    """Id of an approved write; a read ran before it."""
    grant = house.grant(ASKS)
    assert house.run(grant, "uname -s").finished().exit_status == 0
    running = house.run(grant, f"touch {house.folder}/written")
    house.decide(running.until(ActionState.ACTION_STATE_AWAITING).id)
    return running.finished().id


@pytest.fixture
def stricter(tmp_path: Path) -> tuple[Path, Path]:
    """The shipped policy, and one that lets reads ask."""
    shipped, site = tmp_path / "tiers.cedar", tmp_path / "site.cedar"
    shipped.write_text(shipped_policy()["tiers.cedar"])
    head = '@id("reads.ask") forbid (principal, action == Action::"run_unattended", resource)'
    site.write_text(f"{head} when {{ context.level == 1 }};")
    return shipped, site


def test_a_policy_is_tried_from_a_client_and_on_the_host(house: House, ran: str, stricter: tuple[Path, Path]) -> None:
    """Both tell the read that would ask; the running broker goes on, and its policy is the old one."""
    files = [str(path) for path in stricter]
    (checked,) = house.ctl("owner", "policy", "check", *files, "-o", "json").json()
    (over,) = house.ctl("owner", "policy", "simulate", *files, "--days", "1", "-o", "json").json()
    assert (over["changed"], over["version"]) == (1, checked["version"])
    assert over["changes"][0]["after"]["rules"] == ["run.team", "reads.ask"]
    words = ("policy", "simulate", str(stricter[0].parent), "--config", str(house.config), "-o", "json")
    (here,) = house.grantd(*words).json()
    assert (here["changed"], here["replayed"]) == (1, 2)
    assert [change["before"]["rules"] for change in here["changes"]] == [["tier.read"]]
    assert house.run(house.grant(ASKS), "uname -s").finished().exit_status == 0
    assert ran


def test_an_action_is_explained_to_whoever_sees_it(house: House, ran: str) -> None:
    """By its rules; an agent has no business with policies."""
    (told,) = house.ctl("owner", "policy", "explain", ran, "-o", "json").json()
    assert told["action"]["replayed"]["rules"] == ["run.team"]
    assert told["action"]["state"] == "succeeded"
    assert house.ctl("builder", "policy", "explain", ran).status == 3
    assert house.ctl("approver", "policy", "simulate", "/dev/null").status == 3
