"""The example policies are what they say: each loads, gives no warning, and has cases beside it that hold and bite."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from policy.cases import SUFFIX, run_cases
from policy.engine import shipped_policy
from policy.lint import warnings
from policy.reading import read
from tests.peers import REPOSITORY

FOLDER: Final = REPOSITORY / "deploy" / "policies"
EXAMPLES: Final = sorted(FOLDER.glob("*.cedar"))
SOURCES: Final = {path.name: path.read_text() for path in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_beside_the_shipped_policy(example: Path) -> None:
    """No problem and no warning; every policy of it tells what it is for, or stands under one that does."""
    reading = read({**shipped_policy(), example.name: SOURCES[example.name]})
    assert reading.problems == ()
    assert warnings(reading.rules, shipped_policy()) == ()
    assert any(rule.description for rule in reading.rules if rule.where.file == example.name)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_does_what_its_cases_say(example: Path) -> None:
    """Its cases hold; and without it, at least one does not: they are about this example."""
    cases = example.with_name(example.name.removesuffix(".cedar") + SUFFIX).read_text()
    assert [outcome for outcome in run_cases("it", cases, SOURCES) if outcome.differences] == []
    without = {**SOURCES, example.name: '@id("nothing") permit (principal, action, resource) when { false };'}
    assert any(outcome.differences for outcome in run_cases("it", cases, without))
