"""The own labelled lines meet the goals, and the score would say so if they did not."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest

from policy.classes import CommandClass
from policy.shell import Classified, Refused, Verdict
from tests.policy.scoring import report
from tests.policy.scoring.lines import OWN, REFUSED, WORDS, load
from tests.policy.scoring.score import MAX_READS_OVER, MIN_EXACT, Score, score

pytestmark = pytest.mark.xdist_group("scoring")  # the whole set is classified once

LINES = load(OWN)


@pytest.fixture(scope="module")
def own() -> Score:
    """The score of the own set, taken once."""
    return score(LINES)


def test_the_set_is_wide() -> None:
    """Every class is in it often, nothing twice, and a reason stands beside each label."""
    assert len(LINES) >= 700
    assert len({line.command for line in LINES}) == len(LINES)
    assert all(line.why for line in LINES)
    for word in WORDS:
        assert sum(line.expect == word for line in LINES) >= 40, word


def test_nothing_is_below_its_class(own: Score) -> None:
    """I-16: no labelled line gets less than the lowest class that its label allows."""
    assert report.listed(own.under) == ""


def test_nothing_malformed_is_accepted(own: Score) -> None:
    """I-16: what is not a command line is refused."""
    assert report.listed(own.malformed_accepted) == ""


def test_reads_are_let_through(own: Score) -> None:
    """A classifier that asks about everything is answered without being read."""
    assert own.reads_over_share <= MAX_READS_OVER, report.listed(own.reads_over)


def test_classes_are_exact(own: Score) -> None:
    """Nine of ten lines get the class of their label."""
    assert own.exact_share >= MIN_EXACT, report.listed(own.inexact)


def _to_all(word: str, _command: bytes) -> Verdict:
    if word == REFUSED:
        return Refused(rule="x", reason="x")
    return Classified(command_class=CommandClass.from_word(word), opaque=False, egress=False, outlives=False, parts=())


@pytest.mark.parametrize("word", WORDS)
def test_the_score_sees_a_classifier_that_always_says_the_same(word: str) -> None:
    """Whatever is said to everything, one goal at least is missed, and it is the right one."""
    found = score(LINES, partial(_to_all, word))
    assert found.safe == (word == REFUSED)
    assert bool(found.under) == (word in ("read", "write", "execute", "install"))
    assert bool(found.malformed_accepted) == (word != REFUSED)
    assert (found.reads_over_share == 0) == (word == "read")
    assert found.exact_share < MIN_EXACT


def test_any_debatable_class_is_exact_and_the_lowest_is_the_floor(tmp_path: Path) -> None:
    """A label that allows two classes is missed only below the lower one."""
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"cmd": "x", "expect": "execute", "debatable": ["write", "execute"]}) + "\n")
    said = {word: score(load(path), partial(_to_all, word)).answers[0] for word in WORDS}
    assert [word for word in WORDS if said[word].exact] == ["write", "execute"]
    assert [word for word in WORDS if said[word].under] == ["read"]


@pytest.mark.parametrize(
    "row", ['{"cmd": "x"}', '{"cmd": "x", "expect": "raed"}', "[]", "{", '{"cmd": "x", "expect": "read", "opaque": 1}']
)
def test_a_label_that_is_not_understood_is_an_error(row: str, tmp_path: Path) -> None:
    """A misspelt class must not count as anything; the message has the place."""
    path = tmp_path / "x.jsonl"
    path.write_text(row)
    with pytest.raises(ValueError, match=r"x\.jsonl:1"):
        load(path)


def test_the_page_says_what_the_catalogue_holds() -> None:
    """docs/classifier.md claims no program or example that is not there, and is not far behind."""
    said = {
        name: int(count)
        for name, count in re.findall(r"(programs|examples) in the catalogue\s*\| (\d+)", report.PAGE.read_text())
    }
    for name, count in (("programs", report.programs()), ("examples", report.examples())):
        assert 0.8 * count <= said[name] <= count, f"{name}: run make score REPORT=1"
