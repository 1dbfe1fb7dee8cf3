"""`python -m tests.policy.scoring [SET] [--report] [-v]`: score a set of labelled lines; 1 if a safety goal fails."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.policy.scoring import report
from tests.policy.scoring.lines import OWN, load
from tests.policy.scoring.score import Score, score


def main() -> int:
    """Print what `make score` prints."""
    options = _arguments()
    found = score(load(options.set))
    start_ms = report.start_up_ms()
    sys.stdout.write("\n".join([report.figures(found), report.confusion(found), report.speed(found, start_ms), ""]))
    sys.stdout.write(report.listed(found.under) + report.listed(found.malformed_accepted))
    if options.verbose:
        sys.stdout.write(report.listed(answer for answer in found.inexact if not answer.under))
    if options.report:
        _write(found, start_ms, whole=options.set == OWN)
    return 0 if found.safe else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make score", description=__doc__)
    parser.add_argument("set", nargs="?", type=Path, default=OWN, help="a JSON-lines file, or a folder of them")
    parser.add_argument("--report", action="store_true", help="write docs/classifier.md too (the own set only)")
    parser.add_argument("-v", "--verbose", action="store_true", help="list every line that is not exact")
    return parser.parse_args()


def _write(found: Score, start_ms: float, *, whole: bool) -> None:
    if not whole:
        raise SystemExit("the page is about the own set")
    report.PAGE.write_text(report.page(found, start_ms), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
