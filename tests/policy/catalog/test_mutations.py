"""Take one restriction out of the catalogue: an example or a labelled line should notice."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from policy import catalog
from policy.classes import CommandClass
from tests.policy.catalog.mutants import SUB, Mutant, is_noticed, mutants

# The least share of each kind that is noticed, to be raised and never lowered (`python -m tests.policy.catalog.mutants`
# names what is not noticed yet). Low where an entry lists many options of one meaning and shows one of them.
pytestmark = pytest.mark.xdist_group("mutations")  # all of them are tried once

FLOORS: Final = {
    "class": 0.85,
    "special": 0.9,
    "egress": 0.75,
    "outlives": 0.9,
    "configured": 1.0,
    "operands": 0.75,
    "operand": 0.7,
    "operand_limit": 0.6,
    "opaque": 0.5,
    "bare": 0.4,
    "by_value": 0.25,
    "option": 0.15,
    "option opaque": 0.1,
    "talks": 0.15,
    "sends": 0.15,
    "reads_alone": 0.0,
    "reads_apart": 1.0,
}
ENTRIES: Final = {id(program): program for program in catalog.shipped().values()}


@pytest.fixture(scope="module")
def seen() -> dict[str, Counter[bool]]:
    """How many mutants of each kind are noticed, and how many are not; sub-commands are left to the report."""
    found: dict[str, Counter[bool]] = {}
    for program in ENTRIES.values():
        for mutant in mutants(program):
            if not mutant.kind.startswith(SUB):
                found.setdefault(mutant.kind, Counter())[is_noticed(mutant, program)] += 1
    return found


def test_every_kind_has_a_floor(seen: dict[str, Counter[bool]]) -> None:
    """A restriction of a new kind is looked at from its first day."""
    assert seen.keys() <= FLOORS.keys()


@pytest.mark.parametrize("kind", FLOORS)
def test_a_restriction_that_goes_is_noticed(kind: str, seen: dict[str, Counter[bool]]) -> None:
    """I-16: what raises a class cannot be taken out of an entry unseen, as far as the floors go."""
    counts = seen.get(kind, Counter())
    assert counts[True] >= FLOORS[kind] * counts.total(), f"{counts[False]} of {counts.total()} go unnoticed"


def test_a_program_that_is_lowered_altogether_is_noticed() -> None:
    """The machinery finds what is there to find, and nothing where nothing is changed."""
    program = catalog.shipped()["rm"]
    lowered = {mutant.kind: mutant for mutant in mutants(program)}["class"]
    assert lowered.program.base is CommandClass.READ
    assert is_noticed(lowered, program)
    assert not is_noticed(Mutant(kind="none", where="rm", program=program), program)
