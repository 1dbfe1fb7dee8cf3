"""`grantctl policy`: what people are told of policies, escaped, and what scripts are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agents.console import grantctl
from tests.agents.fake_broker import FakeBroker


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A policy that loads, and one that does not, as the fake sees it."""
    for name in ("ok", "bad"):
        (tmp_path / name).write_text("permit (principal, action, resource);")
    return str(tmp_path / "ok"), str(tmp_path / "bad")


def test_check_tells_problems_and_exits_by_them(home: Path, files: tuple[str, str]) -> None:
    """`file:line:column`, 1 where it does not load; I-11: escaped."""
    ok, bad = (grantctl(home, "policy", "check", file) for file in files)
    assert (ok.returncode, bad.returncode) == (0, 1)
    assert ok.stdout.decode().splitlines() == [
        "a\\x1b[2J.cedar:3:7: warning: x: no `levl`", "it loads; version v3",
    ]  # fmt: skip
    assert bad.stdout.decode().splitlines()[-1] == "it does not load"
    assert json.loads(grantctl(home, "policy", "check", files[1], "-o", "json").stdout)["problems"][0]["column"] == 7


def test_two_files_of_one_name_are_refused(broker: FakeBroker, home: Path, tmp_path: Path) -> None:
    """I-17: none is left out silently; what would be put is all that was named."""
    (tmp_path / "site").mkdir()
    same = [tmp_path / "x.cedar", tmp_path / "site" / "x.cedar"]
    for path in same:
        path.write_text("permit (principal, action, resource);")
    for verb in ("check", "simulate", "put"):
        done = grantctl(home, "policy", verb, *map(str, same))
        assert done.returncode != 0
        assert b"two files are called x.cedar" in done.stderr
    assert not broker.simulated


def test_what_is_shown_can_be_put_again(home: Path) -> None:
    """`grantctl policy show > tiers.cedar` is a Cedar file: what is said about it stands in comments."""
    shown = grantctl(home, "policy", "show").stdout.decode().splitlines()
    assert [line for line in shown if line and not line.startswith("// ")] == ["permit();"]


def test_simulate_tells_counts_and_changes(broker: FakeBroker, home: Path, files: tuple[str, str]) -> None:
    """The days go over the wire; before and after with their rules; the command exact and escaped (I-11)."""
    told = grantctl(home, "policy", "simulate", files[0], "--days", "3").stdout.decode()
    assert broker.simulated[0].period.seconds == 3 * 86_400
    assert "9 action(s) since" in told
    assert "permit -> needs_approval" in told
    assert "touch \\x1b[2J" in told
    assert "permit, as read [tier.read] -> needs_approval by 2 of owner, as write (not inspectable) [x, y\\x1b]" in told
    assert "and 1 more" in told
    assert "older ones of the period are left over" in told
    assert "\x1b" not in told
    assert grantctl(home, "policy", "simulate", files[0], "--days", "91").returncode == 2


def test_explain_tells_a_policy_or_an_action(home: Path) -> None:
    """One in words and as it is written, the other as decided then and with the rules behind it."""
    rule = grantctl(home, "policy", "explain", "tier.read").stdout.decode()
    assert rule.splitlines() == ["tier.read  (a.cedar:1:1)", "Permits.", "", "permit\\x1b;"]
    told = grantctl(home, "policy", "explain", "ac_1").stdout.decode()
    assert "decided then   permit, as read [tier.read]" in told
    assert "it answers     needs_approval by 2 of owner" in told
    assert "note           no\\x1b" in told
    assert "cannot be told" in grantctl(home, "policy", "explain", "ac_2").stdout.decode()
    assert "\x1b" not in told + rule
