"""What the classifier answers to labelled lines, and how far it is from the labels. Pure but for the stopwatch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from policy.classes import CommandClass
from policy.explain import word_of
from policy.shell import Classified, Refused, Verdict, classify
from tests.policy.scoring.lines import REFUSED, Line

MAX_READS_OVER: Final = 0.10
MIN_EXACT: Final = 0.90
ROUNDS: Final = 3  # the machine is shared: the best of a few is what the classifier needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A line, what was said of it, and how long that took."""

    line: Line
    got: str
    opaque: bool
    egress: bool
    rules: tuple[str, ...]
    microseconds: float

    @property
    def exact(self) -> bool:
        """The label, or a class that the label allows too."""
        return self.got in self.line.allowed

    @property
    def under(self) -> bool:
        """Below every class that the label allows. What is malformed has no class to be below."""
        if REFUSED in (self.got, self.line.expect):
            return False
        return CommandClass.from_word(self.got) < min(map(CommandClass.from_word, self.line.allowed - {REFUSED}))

    @property
    def malformed_accepted(self) -> bool:
        return self.line.expect == REFUSED and not self.exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The answers to a set of lines, and the figures that the goals are about."""

    answers: tuple[Answer, ...]

    @property
    def under(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.under]

    @property
    def malformed_accepted(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.malformed_accepted]

    @property
    def inexact(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.exact]

    @property
    def reads(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.line.expect == "read"]

    @property
    def reads_over(self) -> list[Answer]:
        """Reads that were called more, or refused."""
        return [answer for answer in self.reads if not answer.exact]

    @property
    def reads_over_share(self) -> float:
        return len(self.reads_over) / len(self.reads) if self.reads else 0.0

    @property
    def exact_share(self) -> float:
        return 1 - len(self.inexact) / len(self.answers) if self.answers else 1.0

    @property
    def confusion(self) -> Counter[tuple[str, str]]:
        """How often each (expected, got) came."""
        return Counter((answer.line.expect, answer.got) for answer in self.answers)

    def flag(self, name: str) -> tuple[int, int]:
        """Of the lines whose label speaks of a flag ("opaque" or "egress"): how many agree, and how many there are."""
        told = [answer for answer in self.answers if getattr(answer.line, name) is not None]
        return sum(getattr(answer, name) == getattr(answer.line, name) for answer in told), len(told)

    def microseconds(self, quantile: float) -> float:
        took = sorted(answer.microseconds for answer in self.answers)
        return took[min(int(len(took) * quantile), len(took) - 1)] if took else 0.0

    @property
    def safe(self) -> bool:
        """The two goals that admit no exception."""
        return not self.under and not self.malformed_accepted

    def family(self, name: str) -> Score:
        return Score(answers=tuple(answer for answer in self.answers if answer.line.family == name))


def score(lines: Sequence[Line], decide: Callable[[bytes], Verdict] = classify) -> Score:
    """Ask the classifier about each line, once to warm up and ROUNDS times by the stopwatch."""
    return Score(answers=tuple(_answer(line, decide) for line in lines))


def _answer(line: Line, decide: Callable[[bytes], Verdict]) -> Answer:
    verdict, took = decide(line.command), float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        decide(line.command)
        took = min(took, time.perf_counter() - start)
    known = verdict if isinstance(verdict, Classified) else None
    return Answer(
        line=line,
        got=word_of(verdict),
        opaque=bool(known and known.opaque),
        egress=bool(known and known.egress),
        rules=(verdict.rule,) if isinstance(verdict, Refused) else tuple(part.rule for part in verdict.parts),
        microseconds=took * 1e6,
    )
