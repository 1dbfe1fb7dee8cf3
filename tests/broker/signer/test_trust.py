"""The signer's trust file is taken as it was written or not at all (I-17, I-54)."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.signer.trust import TrustFault, TrustFile


@pytest.mark.parametrize("damaged", [b"\r{}\n", b'{"v":1}\r\n', b"\x85\x0c\r\x1c\n"])
def test_a_damaged_line_is_no_torn_end(tmp_path: Path, damaged: bytes) -> None:
    """A whole line with another line-ending byte in it stops the start; nothing is cut off behind it."""
    file = tmp_path / "trust.jsonl"
    file.write_bytes(damaged)
    file.chmod(0o600)
    with pytest.raises(TrustFault):
        TrustFile(tmp_path)
    assert file.read_bytes() == damaged
