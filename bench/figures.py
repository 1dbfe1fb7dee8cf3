"""From seconds to a verdict: quantiles, ratios of the same round, goals, and what noise does to them. Measures nothing.

A ratio is taken inside one round, where both sides met the same machine; the median of those ratios is the figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

NOISY_SPREAD: Final = 1.5
"""A baseline whose p90 is further than this above its p10 compares nothing."""

Samples = Mapping[str, Sequence[float]]
"""Figure name -> one value for each round, all equally long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A promise about `figure / baseline`, or about the figure itself where there is no baseline."""

    id: str
    says: str
    figure: str
    baseline: str
    limit: float
    at_most: bool
    stretch: float | None = None
    """What was reached once under the best conditions; shown beside the goal and never asked for."""

    def holds(self, ratio: float) -> bool:
        """Whether a ratio keeps the promise."""
        return ratio <= self.limit if self.at_most else ratio >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a goal. Noise never passes: `ok` is False wherever `noisy` is True."""

    goal: Goal
    median: float
    p10: float
    p90: float
    noisy: bool

    @property
    def ok(self) -> bool:
        return self.goal.holds(self.median) and not self.noisy

    def json(self) -> dict[str, float | bool | str | None]:
        """One entry of `goals` in build/bench.json."""
        return {
            "median": round(self.median, 4),
            "p10": round(self.p10, 4),
            "p90": round(self.p90, 4),
            "goal": self.goal.limit,
            "stretch": self.goal.stretch,
            "at_most": self.goal.at_most,
            "ok": self.ok,
            "noisy": self.noisy,
            "says": self.goal.says,
        }


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, 0 <= q <= 1, linear between neighbours. Raises ValueError where there are no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def ratios(samples: Samples, figure: str, baseline: str) -> list[float]:
    """`figure / baseline`, round by round; the figures themselves where there is no baseline."""
    if not baseline:
        return list(samples[figure])
    return [a / b for a, b in zip(samples[figure], samples[baseline], strict=True)]


def is_noisy(baseline: Sequence[float]) -> bool:
    """Whether the machine was too restless for this baseline to be one."""
    return quantile(baseline, 0.9) > NOISY_SPREAD * quantile(baseline, 0.1)


def judged(goal: Goal, samples: Samples) -> Verdict:
    """The verdict of one run."""
    found = ratios(samples, goal.figure, goal.baseline)
    return Verdict(
        goal=goal,
        median=median(found),
        p10=quantile(found, 0.1),
        p90=quantile(found, 0.9),
        noisy=is_noisy(samples[goal.baseline or goal.figure]),
    )
