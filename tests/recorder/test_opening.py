"""What a recording commits to before it exists."""

from __future__ import annotations

from pathlib import Path

from recorder.track import opening
from tests.recorder.recordings import DONE, meta, store


async def test_the_first_commitment_is_known_before_the_file(tmp_path: Path) -> None:
    """I-30, I-31: the audit row of the opening can be durable, with its root, before anything is written."""
    given = meta()
    with store(tmp_path) as recordings:
        before = opening(given)
        sink = await recordings.create(given)
        await sink.close(DONE)
    assert sink.opened == before


def test_another_salt_is_another_commitment() -> None:
    """Two parts under one data key and one header never share a key."""
    assert opening(meta()).root != opening(meta()).root
