"""The SSH door beside stock ssh without one: how far, how fast, how much, and how much memory for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final

from bench import goals
from bench.bulk import Bulk
from bench.figures import Goal
from bench.keys import Keystrokes
from bench.latency import Cold, Distant
from bench.logs import Sample
from bench.memory import Memory
from bench.relay import Relay
from bench.report import Report
from bench.rounds import interleaved
from bench.sftp import Transfers
from bench.stage import FREE_TARGET, BenchStage
from bench.terminal import Terminals
from bench.wire import LIKE_FOR_LIKE, Ways

RTT_S: Final = 0.02
"""How far away the far target is."""
Judge = Callable[[Sequence[Goal], Callable[[], dict[str, list[float]]]], None]
"""Measures goals, again where it was noisy, and keeps the verdicts."""


def measure(stage: BenchStage, report: Report, asked: argparse.Namespace, judge: Judge) -> list[str]:
    """Everything; returns the actions that ran through the SDK."""
    with Relay(stage.sshd.host, stage.sshd.port, rtt_s=RTT_S) as relay:
        stage.add_far_target(relay.port)
        legs, legs_port = stage.start_legs()
        stage.add_free_target()
        grant, jump = stage.grant(FREE_TARGET, flags=("sftp",)), stage.second_sshd()
        ways = Ways(stage, grant=grant, jump=jump, far_port=relay.port, legs_port=legs_port)
        sample = Sample.made(stage.folder / "bulk.log", asked.bulk_mb << 20)
        spoken = " ".join(LIKE_FOR_LIKE.split())
        report.machine["door"] = f"{asked.bulk_mb} MiB of log text; {spoken}; far: {RTT_S * 1e3:g} ms"
        ran = _latencies(stage, ways, asked, judge)
        _keystrokes(ways, sample, asked, judge)
        _terminals(stage, ways, sample, asked, judge)
        _streams(Bulk(stage, ways, sample, legs_pid=legs.pid), Transfers(stage, ways, sample), asked, judge)
        memory = Memory(stage, ways, sessions=asked.waiting, grants=asked.grants)
        kept = [memory.pooled, memory.own, memory.grant]
        judge(goals.MEMORY, lambda: interleaved(kept, warmups=0, rounds=1))
    return ran


def _latencies(stage: BenchStage, ways: Ways, asked: argparse.Namespace, judge: Judge) -> list[str]:
    with Distant(stage, ways) as far:
        judge(goals.DISTANT, lambda: interleaved([far.read, far.mux], warmups=asked.warmups, rounds=asked.rounds))
    cold = Cold(ways)
    judge(goals.COLD, lambda: interleaved([cold.jump, cold.door], warmups=1, rounds=asked.rounds))
    return far.ran


def _keystrokes(ways: Ways, sample: Sample, asked: argparse.Namespace, judge: Judge) -> None:
    with Keystrokes(ways, sample, strokes=asked.strokes) as keys:
        judge(goals.KEYS, lambda: interleaved([keys.idle], warmups=0, rounds=asked.bulk_rounds))
        judge(goals.BUSY, lambda: interleaved([keys.busy], warmups=0, rounds=asked.bulk_rounds))


def _terminals(stage: BenchStage, ways: Ways, sample: Sample, asked: argparse.Namespace, judge: Judge) -> None:
    shown = Terminals(ways, sample, stage.folder)
    cases = [shown.direct, shown.door, *([shown.tlog] if shown.has_tlog else [])]
    promised = (*goals.TERMINALS, *(goals.TLOG if shown.has_tlog else ()))
    judge(promised, lambda: interleaved(cases, warmups=1, rounds=asked.bulk_rounds))


def _streams(bulk: Bulk, files: Transfers, asked: argparse.Namespace, judge: Judge) -> None:
    rounds = asked.bulk_rounds
    cases = [bulk.direct, bulk.jump, bulk.jump_own, bulk.recorded, bulk.legs]
    judge((*goals.BULK, *goals.LEGS), lambda: interleaved(cases, warmups=1, rounds=rounds))
    judge(goals.TRANSFERS, lambda: interleaved([files.jump, files.door], warmups=1, rounds=rounds))
