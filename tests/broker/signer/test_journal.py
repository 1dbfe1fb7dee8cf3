"""Every signature leaves a row that cannot be changed unseen, on disk before the certificate leaves (I-31)."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.clock import from_micros
from broker.signer.journal import HEAD_ROWS, NAME, Field, Journal, JournalFault
from broker.signer.keys import KeyFault
from broker.signer.rows import encode_row
from recorder.checkpoint import parse_and_verify
from recorder.entry import MAX_ENTRY, parse_entry
from recorder.linelog import Leaves
from recorder.merkle import leaf_hash, root_of, verify_consistency
from recorder.verify import verify_paths
from recorder.verify_linelog import verify_linelog
from tests.broker.signer.journals import rows, verify

NOW = from_micros(1_763_769_600_000_000)
HEAD = "journal.checkpoint"
USED: dict[str, Field] = {"record": "ab" * 32, "signatures": ["cd" * 32]}
"""What people signed for."""


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A directory whose journal has five rows behind the first and is closed."""
    opened = Journal(tmp_path)
    for serial in range(5):
        opened.append({"kind": "ssh", "serial": str(serial), "principals": ["a\u00e9\x1b", "b+c"], **USED})
    opened.close()
    return tmp_path


def test_rows_are_entries_of_the_audit_format(filled: Path) -> None:
    """Each row parses as an audit entry with its code; lists are numbered, what is no word is a digest."""
    row = rows(filled / NAME)[3]
    assert (row["code"], row["event"], row["serial"]) == ("SC4001I", "certificate.signed", "2")
    assert row["principals.0"] == "sha256:" + hashlib.sha256("a\u00e9\x1b".encode()).hexdigest()
    assert row["principals.1"] == "b+c"
    assert verify(filled / NAME) == 5


def test_the_log_goes_on_after_a_restart(filled: Path) -> None:
    """A reopened journal continues where it was, and proves that it does."""
    before = parse_and_verify((filled / HEAD).read_bytes(), [(filled / "journal.vkey").read_text().strip()])
    opened = Journal(filled)
    opened.append({"kind": "ssh", "serial": "9"})
    after = parse_and_verify(opened.sign_head(), [opened.vkey])
    verify_consistency(before.size, after.size, opened.growth(before.size), before.root, after.root)
    opened.close()
    assert verify(filled / NAME) == 6


def test_every_edit_is_seen(filled: Path) -> None:
    """A changed, dropped, doubled, swapped or cut row is found, and the signer does not start over it."""
    path = filled / NAME
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    edits = [
        whole.replace(b'"serial":"2"', b'"serial":"3"'),
        whole.replace(b'"serial":"2"', b'"serial": "2"'),
        whole.replace(b'"serial":"4"', b'"serial":"5"'),
        b"".join(lines[1:]),
        b"".join(lines[:2] + lines[3:]),
        b"".join([*lines[:3], lines[2], *lines[3:]]),
        b"".join([lines[1], lines[0], *lines[2:]]),
        b"".join(lines[:-1]),  # a cut tail of whole rows
        whole[:-1],
        whole + b"\n",
        whole + b"[]\n",
        whole + b"\xff\n",
        b"",
    ]
    for edited in edits:
        path.write_bytes(edited)
        assert not verify_linelog(path).ok
        with pytest.raises((JournalFault, KeyFault)):
            Journal(filled)


def test_a_tail_cut_with_its_head_shows_against_a_kept_head(filled: Path, tmp_path: Path) -> None:
    """Whoever rolls rows and head back together is found by a head that somebody kept elsewhere."""
    early = {name: (filled / name).read_bytes() for name in (NAME, HEAD)}
    opened = Journal(filled)
    opened.append({"kind": "ssh", "serial": "9"})
    pin = tmp_path / "pinned"
    pin.write_bytes(opened.sign_head())
    opened.close()
    assert all(report.ok for report in verify_paths([filled / NAME, pin]))
    for name, data in early.items():
        (filled / name).write_bytes(data)
    assert verify_linelog(filled / NAME).ok
    log, _ = verify_paths([filled / NAME, pin])
    assert log.problems == ("pinned checkpoint: it signed 7 rows, 6 are here",)


@pytest.mark.parametrize(("gone", "says"), [(HEAD, "is gone"), (NAME, "it signed 6 rows"), ("journal.key", "is gone")])
def test_what_is_gone_is_missed(filled: Path, gone: str, says: str) -> None:
    """Head, rows and head key only exist together: a signer that lost one does not begin anew."""
    (filled / gone).unlink()
    with pytest.raises((JournalFault, KeyFault), match=says):
        Journal(filled)


def test_a_head_by_another_key_is_refused(filled: Path, tmp_path: Path) -> None:
    """A journal put in the place of this one, with its own head, is not this signer's."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    Journal(other).close()
    (filled / NAME).write_bytes((other / NAME).read_bytes())
    (filled / HEAD).write_bytes((other / HEAD).read_bytes())
    with pytest.raises(JournalFault, match="not signed by the log"):
        Journal(filled)


def test_a_record_is_used_once(filled: Path) -> None:
    """What was signed for is known at once and after a restart (I-12)."""
    digest = hashlib.sha256(b"record").digest()
    opened = Journal(filled)
    assert opened.used(bytes.fromhex("ab" * 32), NOW)
    assert not opened.used(digest, NOW)
    opened.append({"kind": "ssh", **USED, "record": digest.hex()})
    assert opened.used(digest, NOW)
    opened.close()
    again = Journal(filled)
    assert again.used(digest, NOW)
    again.close()


def test_a_row_that_did_not_reach_the_disk_used_nothing(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Single use is what the disk says."""
    opened = Journal(filled)
    with monkeypatch.context() as patched:
        patched.setattr("broker.signer.journal.os.fsync", _full)
        with pytest.raises(JournalFault):
            opened.append({"kind": "ssh", **USED, "record": "cd" * 32})
    assert not opened.used(bytes.fromhex("cd" * 32), NOW)
    opened.close()


def _full(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_heads_are_signed_unasked(tmp_path: Path) -> None:
    """A crash leaves fewer than HEAD_ROWS rows without a signature."""
    opened = Journal(tmp_path)
    for serial in range(HEAD_ROWS):
        opened.append({"kind": "ssh", "serial": str(serial)})
    assert parse_and_verify((tmp_path / HEAD).read_bytes(), [opened.vkey]).size == HEAD_ROWS
    opened.close()


@pytest.mark.parametrize("torn", [b"{", b'{"kind":"ssh"', b"x" * 40_000])
def test_a_torn_row_is_cut_off_and_noted(filled: Path, torn: bytes) -> None:
    """After a power cut the half row goes, a row says how long it was, and the log holds."""
    path = filled / NAME
    with path.open("ab") as file:
        file.write(torn[: MAX_ENTRY + 1])
    Journal(filled).close()
    last = rows(path)[-1]
    assert (last["code"], last["torn_bytes"]) == ("SC4004W", len(torn[: MAX_ENTRY + 1]))


@pytest.mark.parametrize("garbage", [b"hello\n", b"{}\n", b"\n", b"x" * 40_000])
def test_another_file_is_no_journal(tmp_path: Path, garbage: bytes) -> None:
    """A file that a signer did not write is not continued."""
    (tmp_path / NAME).write_bytes(garbage)
    (tmp_path / NAME).chmod(0o600)
    with pytest.raises((JournalFault, KeyFault)):
        Journal(tmp_path)


def test_one_signer_a_journal(filled: Path) -> None:
    """A second signer over the same journal does not start."""
    first = Journal(filled)
    with pytest.raises(JournalFault, match="another signer"):
        Journal(filled)
    first.close()


@pytest.mark.parametrize("mode", [0o644, 0o620])
def test_a_journal_that_others_can_use_is_refused(filled: Path, mode: int) -> None:
    """The journal is the signer's alone."""
    (filled / NAME).chmod(mode)
    with pytest.raises(JournalFault, match="others"):
        Journal(filled)


def test_a_row_has_its_limit(tmp_path: Path) -> None:
    """An oversize row is refused and nothing of it is written."""
    opened = Journal(tmp_path)
    with pytest.raises(JournalFault, match="longer than"):
        opened.append({"kind": "ssh", "principals": ["x" * 200] * 100})
    opened.append({"kind": "ssh"})
    opened.close()
    assert verify(tmp_path / NAME) == 1


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from broker.signer.journal import Journal, JournalFault
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
journal.append({"kind": "before"})
size = (Path(sys.argv[1]) / "journal.log").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        journal.append({"kind": "refused", "pad": "x" * 200})
    except JournalFault:
        print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append({"kind": "after"})
"""


def test_a_full_disk_refuses_and_leaves_no_half_row(tmp_path: Path) -> None:
    """A write that stops half-way raises, is undone, and the next one with room continues the log (I-30)."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["refused", "refused"], done.stderr
    assert verify(tmp_path / NAME) == 2
    assert b"refused" not in (tmp_path / NAME).read_bytes()


@given(
    st.dictionaries(
        st.from_regex(r"f[a-z]{0,4}", fullmatch=True), st.integers(0, 9) | st.text(max_size=9) | st.booleans()
    )
)
def test_a_row_is_one_line(fields: dict[str, str | int | bool]) -> None:
    """Whatever a field holds, a row is a valid entry without a newline."""
    row = encode_row({**fields, "kind": "ssh"}, NOW)
    assert b"\n" not in row
    assert parse_entry(row).t_us == 1_763_769_600_000_000


def test_roots_of_any_size_are_those_of_the_tree() -> None:
    """What proofs and pins are made of agrees with the plain definition, at and around powers of two."""
    leaves, hashes = Leaves(), list[bytes]()
    for number in range(600):
        leaves.append(b"%d" % number)
        hashes.append(leaf_hash(b"%d" % number))
    for size in (0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 600):
        assert leaves.root_at(size) == root_of(hashes[:size])
    assert leaves.root() == root_of(hashes)
