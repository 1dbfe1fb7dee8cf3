"""A score as text for a terminal, and as the page docs/classifier.md. Decides nothing; the layout is fixed."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from policy import catalog
from tests.policy.fuzz.hostile import costs
from tests.policy.scoring.lines import WORDS
from tests.policy.scoring.markdown import table
from tests.policy.scoring.score import MAX_READS_OVER, MIN_EXACT, ROUNDS, Answer, Score

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = ROOT / "docs" / "classifier.md"
FUZZED: Final = ROOT / "build" / "fuzz-shell.json"
START_UPS: Final = 5
_FUZZ_SECTION: Final = re.compile(r"(?<=## Fuzzing\n\n).*?(?=\n## )", re.DOTALL)

_INTRO: Final = """\
# How well commands are classified

Made by `make score REPORT=1`; do not edit. The labels are in `tests/policy/labelled`, one JSON object a line. A label
says what the command does (observes, changes, runs what its text does not show, changes the package set, stops the
machine), never what the classifier says of it. A class in `debatable` counts as exact; a line is *below its class* only
if it got less than every class that its label allows.
"""


def programs() -> int:
    """How many programs the catalogue describes; other names of one count once."""
    return len({id(program) for program in catalog.shipped().values()})


def examples() -> int:
    """How many examples and counter-examples its entries carry; the tests hold every one."""
    own = {id(program): program for program in catalog.shipped().values()}
    return sum(len(program.match) + len(program.not_match) for program in own.values())


def start_up_ms() -> float:
    """Median time from starting `grantd classify` to its first answer."""
    return statistics.median(_first_answer_ms() for _ in range(START_UPS))


def _first_answer_ms() -> float:
    program = Path(sys.executable).with_name("grantd")
    start = time.perf_counter()
    with subprocess.Popen([program, "classify"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'"ls"\n')
        process.stdin.flush()
        process.stdout.readline()
        took = time.perf_counter() - start
    return took * 1000


def confusion(score: Score) -> str:
    """Expected by got."""
    counts = score.confusion
    return table(["expected", *WORDS], [[expect, *(counts[expect, got] or "." for got in WORDS)] for expect in WORDS])


def figures(score: Score) -> str:
    """What the goals are about, one row each."""
    return table(
        ["figure", "value", "goal"],
        [
            ["lines", len(score.answers), ""],
            ["below their class", len(score.under), "0"],
            ["malformed accepted", len(score.malformed_accepted), "0"],
            [
                "reads called more",
                _share(score.reads_over_share, score.reads_over, score.reads),
                f"<= {MAX_READS_OVER:.0%}",
            ],
            ["exact class", f"{score.exact_share:.1%}", f">= {MIN_EXACT:.0%}"],
            ["opaque as labelled", "{} of {}".format(*score.flag("opaque")), ""],
            ["egress as labelled", "{} of {}".format(*score.flag("egress")), ""],
        ],
    )


def speed(score: Score, start_ms: float) -> str:
    """What a verdict costs, and what there is to look things up in."""
    took = {name: score.microseconds(quantile) for name, quantile in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
    return table(
        ["figure", "value"],
        [
            *([f"{name}, microseconds a command (best of {ROUNDS})", f"{value:.0f}"] for name, value in took.items()),
            ["first answer of a new `grantd classify`, ms", f"{start_ms:.0f}"],
            ["programs in the catalogue", programs()],
            ["examples in the catalogue", examples()],
        ],
    )


def families(score: Score) -> str:
    """The figures of each file of the set."""
    names = sorted({answer.line.family for answer in score.answers})
    rows = ((name, score.family(name)) for name in names)
    return table(
        ["family", "lines", "below", "reads called more", "exact"],
        [
            [
                name,
                len(part.answers),
                len(part.under),
                _share(part.reads_over_share, part.reads_over, part.reads),
                f"{part.exact_share:.1%}",
            ]
            for name, part in rows
        ],
    )


def _share(share: float, some: Sequence[object], out_of: Sequence[object]) -> str:
    return f"{share:.1%} ({len(some)} of {len(out_of)})"


def listed(answers: Iterable[Answer]) -> str:
    """Lines one by one, escaped: command, what it should be, what was said, by which rules."""
    return "".join(
        f"{answer.line.expect:>8} -> {answer.got:8} {json.dumps(answer.line.command.decode('utf-8', 'replace'))}"
        f"  {', '.join(answer.rules[:4])}\n"
        for answer in answers
    )


def page(score: Score, start_ms: float) -> str:
    """The whole of docs/classifier.md."""
    return "\n".join(
        [
            _INTRO,
            "## The own set\n",
            figures(score),
            confusion(score),
            families(score),
            "## Cost\n",
            speed(score, start_ms),
            "Text that is made to cost much, as long as a command may be and far longer:\n",
            costs(),
            "## Fuzzing\n",
            _fuzzing(),
            "## Measured on\n",
            f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}.\n",
        ]
    )


def _fuzzing() -> str:
    """The figures of the last `make fuzz` here; without one, what the page said before."""
    if FUZZED.exists():
        found = json.loads(FUZZED.read_text())
        return table(
            ["figure", "value"],
            [[key, f"{value:,}" if isinstance(value, int) else value] for key, value in found.items()],
        )
    before = _FUZZ_SECTION.search(PAGE.read_text()) if PAGE.exists() else None
    return before[0] if before else "Not run yet: `make fuzz`.\n"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()
