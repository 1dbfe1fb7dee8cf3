"""The coverage floors count what they say they count, and fail what is under them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import floors
from tests.floors import Covered, measure

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = {"num_statements": 100, "covered_lines": 100, "num_branches": 40, "covered_branches": 40}
HALF = {"num_statements": 100, "covered_lines": 90, "num_branches": 40, "covered_branches": 20}


def test_a_package_is_the_sum_of_its_own_files() -> None:
    """A neighbour whose name begins alike does not help."""
    report = {
        "files": {
            "policy/a.py": {"summary": WHOLE},
            "policy/b.py": {"summary": HALF},
            "policyx/c.py": {"summary": WHOLE},
        }
    }
    assert measure(report, "policy") == Covered(statements=200, statements_hit=190, branches=80, branches_hit=60)


@pytest.mark.parametrize(
    ("statements_hit", "branches_hit", "reached"),
    [(100, 95, True), (95, 100, True), (100, 94, False), (94, 100, False)],
)
def test_both_figures_must_reach_the_floor(statements_hit: int, branches_hit: int, reached: bool) -> None:  # noqa: FBT001 - a table's column
    """Branches alone would let a file without any go untested; statements alone would hide an untaken else."""
    covered = Covered(statements=100, statements_hit=statements_hit, branches=100, branches_hit=branches_hit)
    assert covered.reaches(95.0) is reached


def test_an_empty_package_reaches_nothing() -> None:
    """A renamed folder must not pass as fully covered."""
    assert not measure({"files": {}}, "policy").reaches(95.0)


def test_a_run_without_data_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging nothing must not pass."""
    (tmp_path / "pyproject.toml").write_text('[tool.coverage.run]\nbranch = true\nsource = ["policy"]\n')
    monkeypatch.chdir(tmp_path)
    assert floors.main() == 1


@pytest.mark.parametrize(("figures", "below"), [(WHOLE, []), (HALF, list(floors.PACKAGES))])
def test_packages_under_the_floor_are_named(
    figures: dict[str, int],
    below: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each package is printed, and those under the floor are returned to fail the run."""
    report = {"files": {f"{package}/a.py": {"summary": figures} for package in floors.PACKAGES}}
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps(report))
    assert floors.judge(path) == below
    assert capsys.readouterr().out.count("coverage of") == len(floors.PACKAGES)
