"""The coverage floors of the packages that are pure, read from the run that just ended. Never runs a test itself."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coverage import Coverage
from coverage.exceptions import NoDataError

FLOOR_PERCENT: Final = 95.0
PACKAGES: Final = ("broker/core", "policy", "recorder")
REPORT: Final = Path("build/coverage.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """What a run reached of one package: counts of statements and of branch outcomes."""

    statements: int
    statements_hit: int
    branches: int
    branches_hit: int

    @property
    def statements_percent(self) -> float:
        return _percent(self.statements_hit, self.statements)

    @property
    def branches_percent(self) -> float:
        return _percent(self.branches_hit, self.branches)

    def __str__(self) -> str:
        return (
            f"branches {self.branches_hit}/{self.branches} = {self.branches_percent:.1f} %,"
            f" statements {self.statements_hit}/{self.statements} = {self.statements_percent:.1f} %"
        )

    def reaches(self, floor_percent: float) -> bool:
        """Both figures reach the floor and there is something to count; branches alone would skip unbranching files."""
        return self.statements > 0 and min(self.statements_percent, self.branches_percent) >= floor_percent


def _percent(hit: int, total: int) -> float:
    return 100.0 * hit / total if total else 100.0


def measure(report: dict[str, dict[str, dict[str, dict[str, int]]]], package: str) -> Covered:
    """Sum the files of one package in coverage's JSON report."""
    files = [entry["summary"] for name, entry in report["files"].items() if Path(name).is_relative_to(package)]
    return Covered(
        statements=sum(file["num_statements"] for file in files),
        statements_hit=sum(file["covered_lines"] for file in files),
        branches=sum(file["num_branches"] for file in files),
        branches_hit=sum(file["covered_branches"] for file in files),
    )


def judge(path: Path) -> list[str]:
    """Print each package's figures from coverage's JSON report; return the packages under the floor."""
    report = json.loads(path.read_text())
    below = []
    for package in PACKAGES:
        covered = measure(report, package)
        reached = covered.reaches(FLOOR_PERCENT)
        sys.stdout.write(f"coverage of {package:12} {covered}  {'ok' if reached else f'UNDER {FLOOR_PERCENT:.0f} %'}\n")
        below += [] if reached else [package]
    return below


def main() -> int:
    """Judge the run that `make test` just made; 1 if a package is under the floor or there is nothing to judge."""
    coverage = Coverage()
    coverage.load()
    try:
        coverage.json_report(outfile=str(REPORT))
    except NoDataError:
        sys.stderr.write("no coverage data: run `make test`\n")
        return 1
    below = judge(REPORT)
    if below:
        coverage.report(file=sys.stderr, include=[f"{package}/*" for package in below])
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
