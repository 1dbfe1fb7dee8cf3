"""What the benchmarks conclude from seconds: ratios inside a round, and noise that never passes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import goals
from bench.figures import Goal, judged, quantile, ratios
from bench.report import Report
from bench.rounds import interleaved

GOAL = Goal(id="P0", says="ours / theirs", figure="ours", baseline="theirs", limit=2.0, at_most=True)
QUIET = [1.0, 1.01, 1.02, 1.01, 1.0]
RESTLESS = [1.0, 1.0, 1.0, 4.0, 4.0]


def test_a_ratio_is_taken_inside_its_round() -> None:
    """A machine that slows down for a while slows both sides: the ratio stays, the ratio of medians would not."""
    samples = {"ours": [1.0, 10.0, 10.0], "theirs": [1.0, 10.0, 1.0]}
    assert ratios(samples, "ours", "theirs") == [1.0, 1.0, 10.0]
    assert judged(GOAL, samples).median == 1.0


def test_a_goal_holds_from_its_own_side() -> None:
    """At most for times, at least for rates."""
    slow, fast = {"ours": [3.0] * 5, "theirs": QUIET}, {"ours": [1.5] * 5, "theirs": QUIET}
    assert (judged(GOAL, slow).ok, judged(GOAL, fast).ok) == (False, True)
    rate = replace(GOAL, at_most=False)
    assert (judged(rate, slow).ok, judged(rate, fast).ok) == (True, False)


def test_a_figure_without_a_baseline_is_its_own_ratio() -> None:
    """A processor's seconds a GB have nothing to be compared with; restless ones pass no more than a ratio would."""
    alone = replace(GOAL, baseline="", stretch=1.0)
    verdict = judged(alone, {"ours": QUIET})
    assert (verdict.median, verdict.ok, verdict.json()["stretch"]) == (1.01, True, 1.0)
    assert judged(alone, {"ours": RESTLESS}).noisy


def test_noise_never_passes() -> None:
    """A baseline that wanders proves nothing, however good the ratio looks."""
    verdict = judged(GOAL, {"ours": [0.1] * 5, "theirs": RESTLESS})
    assert verdict.noisy
    assert not verdict.ok


def test_the_last_and_the_first_are_quantiles_too() -> None:
    """Linear between neighbours; nothing beyond what was measured."""
    assert [quantile([4.0, 1.0, 2.0, 3.0], q) for q in (0, 0.5, 1)] == [1.0, 2.5, 4.0]
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


@pytest.mark.hypothesis
@given(st.lists(st.floats(0.001, 1000), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_and_stay_inside(values: list[float], p: float, q: float) -> None:
    """Monotone in q, never outside the sample (rounding aside)."""
    low, high = quantile(values, min(p, q)), quantile(values, max(p, q))
    assert min(values) * 0.999 <= low <= high * 1.001
    assert high <= max(values) * 1.001


def test_every_case_runs_in_each_round_and_none_always_first() -> None:
    """Warm-ups are run and not counted."""
    order: list[str] = []

    def case(name: str) -> dict[str, float]:
        order.append(name)
        return {name: float(len(order))}

    samples = interleaved([lambda: case("a"), lambda: case("b")], warmups=1, rounds=2)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert samples == {"b": [3.0, 6.0], "a": [4.0, 5.0]}


def test_the_file_has_the_goals_by_their_ids(tmp_path: Path) -> None:
    """`build/bench.json` as tools read it: median, p10, p90, goal, ok, noisy for each id, and the machine."""
    verdict = judged(GOAL, {"ours": [1.0] * 5, "theirs": QUIET})
    report = Report(machine={"cores": 2}, samples={"ours": [1.0] * 5}, verdicts=[verdict])
    report.write(tmp_path / "build" / "bench.json")
    content = json.loads((tmp_path / "build" / "bench.json").read_text())
    assert content["machine"] == {"cores": 2}
    assert content["goals"]["P0"].items() >= {"goal": 2.0, "ok": True, "noisy": False}.items()
    assert {"median", "p10", "p90"} <= content["goals"]["P0"].keys()
    assert "| P0 " in report.text()


def test_the_promised_goals_are_measured() -> None:
    """Each with the limit that was promised."""
    assert {goal.id: goal.limit for goal in goals.ALL} == {
        "P1": 0.08, "P1.curve25519": 0.12, "P2": 1.0, "P3": 2.2, "P3.rate": 0.6, "P4": 0.7, "P5": 1.7, "P6": 0.4,
        "P7": 1.15, "P7.direct": 0.5, "P8": 1.0, "P8.defaults": 1.3, "P9": 0.9, "P10.get": 1.0, "P10.put": 1.0,
        "P11": 1.6, "P11.added": 400,
        "P12": 2.0, "P12.p50": 2500, "P13": 0.5, "P15": 1.5, "P15.row": 1.5, "P15.rate": 15, "P15.units": 3,
        "P17": 80, "P17.own": 140,
        "P17.grant": 1.5, "P17.live": 1.5, "P14": 0.6,
        "P14.noop": 2.5, "P14.rate": 1_000, "P16": 10, "P16.burst": 1_500,
        "P16.client": 25, "P16.written": 1_000, "P16.start": 5, "P18": 1.7, "P18.recorded": 4.5,
        "I61.told": 2, "I61.target": 2,
    }  # fmt: skip
    assert {goal.id: goal.limit for goal in goals.TLOG} == {"P9.tlog": 2.3}
    assert len({goal.id for goal in goals.ALL}) == len(goals.ALL)
