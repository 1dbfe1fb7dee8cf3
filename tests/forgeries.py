"""Forged credentials and the rule that refused each, as a table. `python -m tests.forgeries` prints all four.

What refuses is read in the broker's own log, or the target's; whoever forges is told the same words for every rule.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog.testing

WHERE = (
    "tests/broker/proxy/test_forgery.py::test_forged_certificates_are_refused_in_the_same_words",
    "tests/broker/adapters/target_ssh/test_forgery.py::test_forged_certificates_are_refused_by_the_targets_own_sshd",
    "tests/broker/rpc/test_forged_tokens.py",
    "tests/broker/rpc/test_forged_identities.py",
)


def rule_of(logs: list[structlog.typing.EventDict], event: str) -> str:
    """The rule in the newest log line of that event; empty where nothing was refused."""
    return str(next((line.get("rule", "") for line in reversed(logs) if line["event"] == event), ""))


def told(title: str, rows: Mapping[str, str]) -> None:
    """The table, for whoever runs pytest with -s."""
    print(f"\n{title}: {len(rows)} forgeries, by {len(set(rows.values()))} rules")  # noqa: T201  what -s shows
    for name, rule in rows.items():
        print(f"  {name:52} {rule}")  # noqa: T201  as above


def main() -> int:
    """Runs all four with their tables."""
    root = Path(__file__).parent.parent
    return subprocess.call([sys.executable, "-m", "pytest", "-q", "-s", "-n", "0", *WHERE], cwd=root)


if __name__ == "__main__":
    sys.exit(main())
