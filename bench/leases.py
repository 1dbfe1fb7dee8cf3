"""What leases cost and how punctually they end: certificates, the heap, a broker with very many of them, a freeze."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import append, freeze, goals, heap, lateness
from bench.door import Judge
from bench.figures import quantile
from bench.issue import Issue
from bench.rounds import interleaved
from bench.stage import BenchStage


def measure(stage: BenchStage, asked: argparse.Namespace, judge: Judge) -> None:
    """Everything, the stage's own broker first; the last parts have houses of their own."""
    issue = Issue(stage, each=asked.each, rounds=asked.rate_rounds)
    cases = [issue.certificate, issue.keygen, issue.nothing]
    judge(goals.ISSUE, lambda: interleaved(cases, warmups=asked.warmups, rounds=asked.rounds))
    judge(goals.ISSUE_RATE, issue.rate)
    if asked.only == "leases":
        judge(goals.APPEND, lambda: append.measure(stage.new_folder(), rounds=asked.rate_rounds))
    judge(goals.HEAP, lambda: heap.measure(rounds=min(3, asked.rate_rounds), grants=asked.live))
    judge(goals.LATE, lambda: _late(asked))
    judge(goals.FREEZE, lambda: _freeze(asked))


def _freeze(asked: argparse.Namespace) -> dict[str, list[float]]:
    by_sdk = asked.storm // 4
    [found] = freeze.houses([0], by_ssh=asked.storm - by_sdk, by_sdk=by_sdk)
    return freeze.samples(found)


def _late(asked: argparse.Namespace) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory(prefix="grantd-lateness-") as name:
        found = lateness.measure(
            Path(name), grants=asked.live, sessions=asked.sessions, busy=min(asked.busy, asked.sessions),
            ending=asked.ending,
        )  # fmt: skip
    samples = {"start s": [found.start_s], "live grant KiB": [found.grant_kib]}
    for side, late in found.samples().items():
        for word, at in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            samples[f"{side} late {word} ms"] = [quantile(late, at)]
    return samples
