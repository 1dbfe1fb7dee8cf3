"""What the README promises has a test behind it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CLAIMS = re.findall(r"^\| (.+?) \| `(tests/[^`]+)` \|$", (REPOSITORY / "README.md").read_text(), re.MULTILINE)


def test_there_are_claims() -> None:
    """The table is there, and this test reads it."""
    assert len(CLAIMS) > 10


@pytest.mark.parametrize(("claim", "test"), CLAIMS)
def test_every_claim_names_a_test_that_exists(claim: str, test: str) -> None:
    """No claim without a test: the file is there, and the function in it."""
    file, _, function = test.partition("::")
    source = (REPOSITORY / file).read_text()
    assert not function or re.search(rf"def {function}\(", source), claim
