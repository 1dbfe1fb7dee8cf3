"""`python -m tests.policy.fuzz`: look for holes for a while, on every core given; 1 if one is found.

Writes the figures to build/fuzz-shell.json, from where `make score REPORT=1` takes them.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from tests.policy.fuzz.arena import arena
from tests.policy.fuzz.hunt import Tally, compare, hunt

FIGURES: Final = Path("build/fuzz-shell.json")
_HUNTING: Final = 0.6  # of the time; the rest is for shfmt
_NO_END: Final = 10**9


def main() -> int:
    """Print each hole as a Python literal, then what was tried."""
    options = _arguments()
    start = time.monotonic()
    with ProcessPoolExecutor(options.workers) as pool:
        seeds = [options.seed + 1000 * number for number in range(options.workers)]
        found = Tally()
        for one in pool.map(_worker, seeds, [options.seconds] * options.workers):
            found.add(one)
    for script in (*found.holes, *found.apart, *found.faults):
        sys.stdout.write(f"HOLE {script!r}\n")
    _tell(found, options.seed, time.monotonic() - start)
    return 1 if found.holes or found.apart or found.faults else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="by chance, and printed")
    return parser.parse_args()


def _worker(seed: int, seconds: float) -> Tally:
    start = time.monotonic()
    with arena() as place:
        tally = hunt(place, seed=seed, cases=_NO_END, until=start + seconds * _HUNTING)
    tally.add(compare(seed=seed + 1, cases=_NO_END, until=start + seconds))
    return tally


def _tell(found: Tally, seed: int, seconds: float) -> None:
    figures = {
        "scripts made": found.generated,
        "refused": found.refused,
        "opaque": found.opaque,
        "run by bash": found.executed,
        "of these, ended for taking too long": found.hung,
        "parsed by shfmt too": found.compared,
        "holes": len(found.holes),
        "accepted, but otherwise read or refused by shfmt and bash": len(found.apart),
        "faults": len(found.faults),
        "seconds": round(seconds),
        "seed": seed,
    }
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    sys.stdout.write("".join(f"{name}: {value}\n" for name, value in figures.items()))


if __name__ == "__main__":
    sys.exit(main())
