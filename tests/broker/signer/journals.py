"""Reading a signer's journal in a test: only after everything in it was checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from recorder.verify_linelog import verify_linelog

if TYPE_CHECKING:
    from pathlib import Path


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of the journal at `path`, verified with the key beside it."""
    report = verify_linelog(path)
    assert report.ok, report.problems
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def verify(path: Path) -> int:
    """How many rows there are behind the first, which only says how the journal began."""
    return len(rows(path)) - 1
