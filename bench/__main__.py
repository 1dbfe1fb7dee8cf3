"""`make bench`: the goals, measured on this machine, as a table and in build/bench.json."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench import append, door, goals, leases, machine
from bench.brokered import Brokered
from bench.door import Judge
from bench.evidence import must_be_on_record
from bench.figures import Goal, Verdict, judged
from bench.peers import Asyncssh, OpenSsh
from bench.rate import Rate
from bench.report import Report
from bench.rounds import interleaved
from bench.stage import BenchStage
from bench.thin import Thin

RERUNS: Final = 3
"""How often a noisy baseline is measured again before it is called noisy."""


def main(words: Sequence[str] | None = None) -> int:
    """Runs everything. Exit status 0: measured, whatever the verdicts; a broker that skipped its job is an error."""
    asked = _asked(words)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="grantd-bench-") as folder, BenchStage(Path(folder)) as stage:
        _measure(stage, report, asked)
    report.machine["load after"] = machine.load()
    report.write(asked.out)
    sys.stdout.write(report.text() + f"\n\nwritten to {asked.out}\n")
    return 0


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=main.__doc__)
    parser.add_argument("--only", choices=("exec", "door", "leases"), help="one part: commands by the SDK, ... [all]")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of the latencies [30]")
    parser.add_argument("--warmups", type=int, default=3)
    parser.add_argument("--rate-rounds", type=int, default=5)
    parser.add_argument("--each", type=int, default=8, help="commands of each of the 64 workers in a round [8]")
    parser.add_argument("--bulk-rounds", type=int, default=5, help="rounds of streams, files and keystrokes [5]")
    parser.add_argument("--bulk-mb", type=int, default=256, help="MiB of one stream or file [256]")
    parser.add_argument("--strokes", type=int, default=300, help="keystrokes of one round, each way [300]")
    parser.add_argument("--waiting", type=int, default=6, help="sessions that wait while memory is looked at [6]")
    parser.add_argument("--grants", type=int, default=200, help="grants that are made for the same [200]")
    parser.add_argument("--live", type=int, default=100_000, help="live grants while ends are measured [100000]")
    parser.add_argument("--ending", type=int, default=1_000, help="of which so many end in one second [1000]")
    parser.add_argument("--sessions", type=int, default=500, help="sessions that end in it too [500]")
    parser.add_argument("--busy", type=int, default=50, help="of which so many print ten lines a second [50]")
    parser.add_argument("--storm", type=int, default=200, help="busy sessions of a freeze [200]")
    parser.add_argument("--once", action="store_true", help="measure nothing again, however noisy it was")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    return parser.parse_args(words)


def _measure(stage: BenchStage, report: Report, asked: argparse.Namespace) -> None:
    report.machine |= {**machine.described(stage.data), "load before": machine.load()}
    ran: list[str] = []

    def judge(promised: Sequence[Goal], measure: Callable[[], dict[str, list[float]]]) -> None:
        _judge(report, promised, measure, again=0 if asked.once else RERUNS)

    if asked.only in (None, "exec"):
        ran += _measure_exec(stage, report, asked, judge)
    if asked.only in (None, "leases"):
        leases.measure(stage, asked, judge)
    if asked.only in (None, "door"):
        ran += door.measure(stage, report, asked, judge)
    if ran:
        report.notes.append(must_be_on_record(stage, ran))


def _measure_exec(stage: BenchStage, report: Report, asked: argparse.Namespace, judge: Judge) -> list[str]:
    """Commands through the SDK, and the log. Returns the actions that ran."""
    brokered = Brokered(stage)
    with OpenSsh(stage) as ssh, Asyncssh(stage) as alone, Thin(stage) as thin:
        report.machine |= {
            "ssh cold negotiated": ssh.negotiated(curve=False),
            "ssh cold curve25519 negotiated": ssh.negotiated(curve=True),
            "asyncssh negotiated": alone.negotiated(),
        }
        cases = [brokered.read, brokered.write, ssh.cold, ssh.cold_curve25519, ssh.mux, alone.once, thin.run]
        cases += [thin.launched]
        judge(goals.LATENCY, lambda: interleaved(cases, warmups=asked.warmups, rounds=asked.rounds))
    rate = Rate(stage, each=asked.each, rounds=asked.rate_rounds)
    judge((*goals.RATE, *goals.AT_ONCE), rate.measure)
    judge(goals.APPEND, lambda: append.measure(stage.new_folder(), rounds=asked.rate_rounds))
    return [*brokered.ran, *thin.ran, *rate.ran]


def _judge(
    report: Report, promised: Sequence[Goal], measure: Callable[[], dict[str, list[float]]], *, again: int
) -> None:
    """Measures until no baseline is noisy, `again` times more at most; each goal takes its first quiet measurement."""
    quiet: dict[str, Verdict] = {}
    for _ in range(1 + again):
        samples = measure()
        verdicts = [judged(goal, samples) for goal in promised]
        quiet = {**{v.goal.id: v for v in verdicts if not v.noisy}, **quiet}
        if len(quiet) == len(promised):
            break
    report.samples |= samples
    report.verdicts += [quiet.get(verdict.goal.id, verdict) for verdict in verdicts]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what was started is ended all the same
    sys.exit(main())
