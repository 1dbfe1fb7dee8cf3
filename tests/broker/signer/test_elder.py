"""A journal of the first format stays what it was, and the present one is bound to its every byte (I-31)."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from broker.signer.elder import FIRST, ElderFault, read
from broker.signer.elder import NAME as ELDER
from broker.signer.journal import NAME, Journal, JournalFault
from recorder.verify_linelog import verify_linelog
from tests.broker.signer.journals import rows

if TYPE_CHECKING:
    from pathlib import Path

RECORD = hashlib.sha256(b"used before").digest()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A directory with a journal as the first signers wrote it: three lines."""
    last, lines = FIRST, list[bytes]()
    for number in range(3):
        fields = {"kind": "ssh", "n": number, "prev": last, "record": RECORD.hex() if number == 1 else "", "v": 1}
        lines.append(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())
        last = hashlib.sha256(lines[-1]).hexdigest()
    (tmp_path / ELDER).write_bytes(b"".join(line + b"\n" for line in lines))
    (tmp_path / ELDER).chmod(0o600)
    return tmp_path


def test_the_journal_goes_on_from_it(old: Path) -> None:
    """The first row holds its number of lines and its hash; what it says was used stays used, also later."""
    before = (old / ELDER).read_bytes()
    for _ in range(2):
        opened = Journal(old)
        assert opened.used(RECORD, datetime.now(UTC))
        opened.close()
    first, *rest = rows(old / NAME)
    assert (first["code"], first["elder_lines"]) == ("SC4003I", 3)
    assert first["elder"] == hashlib.sha256(before).hexdigest()
    assert not rest
    assert (old / ELDER).read_bytes() == before


@pytest.mark.parametrize("edit", ["change", "drop", "spell", "remove"])
def test_an_edit_before_the_change_of_format_stops_it(old: Path, edit: str) -> None:
    """A line that does not follow the one before it is named; an older journal that changes later is missed."""
    whole = (old / ELDER).read_bytes()
    lines = whole.splitlines(keepends=True)
    edited = {
        "change": whole.replace(b'"n":0', b'"n":7'),
        "drop": b"".join([lines[0], lines[2]]),
        "spell": whole.replace(b'"v":1', b'"v": 1'),
        "remove": b"",
    }[edit]
    Journal(old).close()
    (old / ELDER).write_bytes(edited)
    with pytest.raises(JournalFault, match=r"journal\.jsonl"):
        Journal(old)
    assert not verify_linelog(old / NAME).ok
    if edited:
        with pytest.raises(ElderFault):
            read(old / ELDER)


def test_a_torn_last_line_is_measured(old: Path) -> None:
    """A power cut of then is no fault of now; not a byte of it is lost or believed."""
    with (old / ELDER).open("ab") as file:
        file.write(b'{"kind"')
    Journal(old).close()
    assert rows(old / NAME)[0]["elder_torn_bytes"] == 7
