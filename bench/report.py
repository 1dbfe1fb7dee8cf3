"""The measured, to be read: tables for a terminal (which are Markdown), and build/bench.json for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bench.figures import Verdict, quantile

_RATES: Final = ("rate", " ms", " s", "s/GB", " us", " KiB")
"""Ends of the names of figures that are no seconds."""


@dataclass(slots=True, kw_only=True)
class Report:
    """Everything that one run of the benchmarks found."""

    machine: dict[str, object] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """As JSON; the goals by their ids."""
        figures = {name: _summary(name, values) for name, values in self.samples.items()}
        content = {
            "goals": {verdict.goal.id: verdict.json() for verdict in self.verdicts},
            "machine": self.machine,
            "figures": figures,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def text(self) -> str:
        """For people."""
        timed = {name: values for name, values in self.samples.items() if not name.endswith(_RATES)}
        rated = {name: values for name, values in self.samples.items() if name.endswith(_RATES)}
        latency = [[name, *(f"{q * 1e3:.2f}" for q in _quantiles(v, 0.5, 0.99, 0.1, 0.9))] for name, v in timed.items()]
        rates = [[name, *(f"{q:,.2f}" for q in _quantiles(v, 0.5, 0.1, 0.9))] for name, v in rated.items()]
        parts = [
            _table(("machine", ""), ([name, _plain(value)] for name, value in self.machine.items())),
            _table(("took, ms", "p50", "p99", "p10", "p90"), latency),
            _table(("a second (bulk: MB), or the unit named", "p50", "p10", "p90"), rates),
            _table(
                ("goal", "what", "median", "p10", "p90", "goal", "stretch", "verdict"), map(_verdict_row, self.verdicts)
            ),
        ]
        return "\n\n".join([*parts, *self.notes])


def _verdict_row(verdict: Verdict) -> list[str]:
    said = "noisy" if verdict.noisy else "ok" if verdict.ok else "MISSED"
    sign = "<=" if verdict.goal.at_most else ">="
    ratios = [f"{value:.3g}" for value in (verdict.median, verdict.p10, verdict.p90)]
    stretch = "" if verdict.goal.stretch is None else f"{verdict.goal.stretch:g}"
    return [verdict.goal.id, verdict.goal.says, *ratios, f"{sign} {verdict.goal.limit:g}", stretch, said]


def _quantiles(values: Sequence[float], *qs: float) -> list[float]:
    return [quantile(values, q) for q in qs]


def _summary(name: str, values: Sequence[float]) -> Mapping[str, float]:
    scale, unit = (1.0, "") if name.endswith(_RATES) else (1e3, "_ms")
    return {
        f"p50{unit}": round(median(values) * scale, 3),
        f"p99{unit}": round(quantile(values, 0.99) * scale, 3),
        f"p10{unit}": round(quantile(values, 0.1) * scale, 3),
        f"p90{unit}": round(quantile(values, 0.9) * scale, 3),
        "rounds": len(values),
    }


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up on a terminal too."""
    body = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *body]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *body]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in lines)
