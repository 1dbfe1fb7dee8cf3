"""Every signature leaves a line that cannot be changed unseen, on disk before the certificate leaves (I-31)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.signer import journal
from broker.signer.journal import FIRST, NAME, Journal, JournalFault, encode_line, verify


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A directory whose journal has five lines and is closed."""
    opened = Journal(tmp_path)
    for serial in range(5):
        opened.append({"kind": "ssh", "serial": str(serial), "principals": ["a\u00e9\x1b"]})
    opened.close()
    return tmp_path


def test_lines_are_chained(filled: Path) -> None:
    """Each line names the hash of the one before it, and its own number."""
    lines = (filled / NAME).read_bytes().splitlines()
    assert len(lines) == 5
    assert f'"prev":"{FIRST}"'.encode() in lines[0]
    assert verify(filled / NAME) == 5


def test_the_chain_goes_on_after_a_restart(filled: Path) -> None:
    """A reopened journal continues where it was."""
    opened = Journal(filled)
    opened.append({"kind": "ssh", "serial": "9"})
    opened.close()
    assert verify(filled / NAME) == 6


def test_every_edit_is_seen(filled: Path) -> None:
    """A changed, dropped, doubled or swapped line is found, and so is another spelling of the same one."""
    path = filled / NAME
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    edits = [
        whole.replace(b'"serial":"2"', b'"serial":"3"'),
        whole.replace(b'"serial":"2"', b'"serial": "2"'),
        whole.replace(b'"serial":"4"', b'"serial": "4"'),  # the last line: no later hash speaks for it
        b"".join(lines[1:]),
        b"".join(lines[:2] + lines[3:]),
        b"".join([*lines[:3], lines[2], *lines[3:]]),
        b"".join([lines[1], lines[0], *lines[2:]]),
        whole[:-1],
        whole + b"\n",
        whole + b"[]\n",
        whole + b"\xff\n",
    ]
    for edited in edits:
        path.write_bytes(edited)
        with pytest.raises(JournalFault):
            verify(path)


@pytest.mark.parametrize("torn", [b"{", b'{"kind":"ssh"', b"x" * 1000])
def test_a_torn_line_is_cut_off_and_noted(filled: Path, torn: bytes) -> None:
    """After a power cut the half line goes, a line says how long it was, and the chain holds."""
    path = filled / NAME
    with path.open("ab") as file:
        file.write(torn)
    Journal(filled).close()
    assert verify(path) == 6
    assert f'"torn_bytes":{len(torn)}'.encode() in path.read_bytes().splitlines()[-1]


def test_a_torn_first_line_is_cut_off_too(tmp_path: Path) -> None:
    """Also when it was the very first one."""
    (tmp_path / NAME).write_bytes(b'{"kind"')
    (tmp_path / NAME).chmod(0o600)
    Journal(tmp_path).close()
    assert verify(tmp_path / NAME) == 1


@pytest.mark.parametrize("garbage", [b"hello\n", b"{}\n", b"\n", b"x" * 40_000])
def test_another_file_is_no_journal(tmp_path: Path, garbage: bytes) -> None:
    """A file that a signer did not write is not continued."""
    (tmp_path / NAME).write_bytes(garbage)
    (tmp_path / NAME).chmod(0o600)
    with pytest.raises(JournalFault):
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


def test_a_line_has_its_limit(tmp_path: Path) -> None:
    """An oversize line is refused and nothing of it is written."""
    opened = Journal(tmp_path)
    with pytest.raises(JournalFault, match="too long"):
        opened.append({"kind": "x" * journal.MAX_LINE})
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
resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        journal.append({"kind": "refused", "pad": "x" * 500})
    except JournalFault:
        print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append({"kind": "after"})
"""


def test_a_full_disk_refuses_and_leaves_no_half_line(tmp_path: Path) -> None:
    """A write that stops half-way raises, is undone, and the next one with room continues the chain (I-30)."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["refused", "refused"], done.stderr
    assert verify(tmp_path / NAME) == 2
    assert b"refused" not in (tmp_path / NAME).read_bytes()


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=9) | st.booleans(), max_size=4))
def test_a_line_is_one_line(fields: dict[str, str | int | bool]) -> None:
    """Whatever a field holds, no newline or control character stands raw in the file."""
    assert encode_line(dict(fields)).decode("ascii").isprintable()
