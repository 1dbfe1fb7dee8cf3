"""The harness runs, whatever it measures: one round against real processes. Never looks at a figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import goals
from tests import peers


@pytest.mark.e2e
@pytest.mark.sshd
@pytest.mark.timeout(240)
@pytest.mark.parametrize("only", ["exec", "door", pytest.param("leases", marks=pytest.mark.postgres)])
def test_one_round_of_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str], only: str) -> None:
    """Every goal gets a verdict, and what ran is in the sessions, on disk and in a log that verifies."""
    out = tmp_path / "bench.json"
    few = {"rounds": 1, "warmups": 0, "rate-rounds": 1, "each": 1, "bulk-rounds": 1, "bulk-mb": 1, "strokes": 10}
    few |= {"waiting": 1, "grants": 2, "live": 300, "ending": 20, "sessions": 2, "storm": 4}
    words = [word for name, value in few.items() for word in (f"--{name}", str(value))]
    assert bench.main([*words, "--only", only, "--once", "--out", str(out)]) == 0
    through_the_sdk = {goal.id for goal in (*goals.LATENCY, *goals.RATE, *goals.AT_ONCE, *goals.APPEND)}
    leases = {goal.id for goal in goals.LEASES}
    promised = {
        "exec": through_the_sdk,
        "leases": leases | {goal.id for goal in goals.APPEND},
        "door": {goal.id for goal in goals.ALL} - through_the_sdk - leases,
    }[only]
    there = {goal.id for goal in goals.TLOG} if only == "door" and peers.find("tlog-rec") else set()
    assert json.loads(out.read_text())["goals"].keys() == promised | there
    assert ("each has its session and sealed recording" in capsys.readouterr().out) == (only != "leases")
