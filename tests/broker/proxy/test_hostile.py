"""The table of hostile peers is one that can be made: two of its rows, on every run (I-20, I-26)."""

from __future__ import annotations

import pytest

from tests.broker.proxy.hostile import MIB, PEERS, seen


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "reasons"),
    [("3,000 channels", ("refused_features",)), ("a terminal of 4 G x 4 G, resized 20,000 times", ())],
)
async def test_a_row_of_the_table(name: str, reasons: tuple[str, ...]) -> None:
    """Its memory is bounded, it is cut where the table says so, and an honest client beside it reads."""
    row = await seen(name, PEERS[name])
    assert row.grew < 32 * MIB
    assert (row.cut_s is not None, row.reasons) == (bool(reasons), reasons)
    assert row.before_ms > 0
