"""The files that a signer only adds to are its own: locked for one process, read and written by nobody else (I-52)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.core.errors import Fault
from broker.signer.files import open_log
from broker.signer.journal import JournalFault


def open_files() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_log_is_made_private(tmp_path: Path) -> None:
    """0600 whatever the umask, and written at its end alone."""
    before = os.umask(0)
    try:
        descriptor = open_log(tmp_path / "log", JournalFault)
    finally:
        os.umask(before)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    os.write(descriptor, b"one\n")
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"two\n")
    os.close(descriptor)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_a_log_has_one_process(tmp_path: Path) -> None:
    """A second signer over the same directory does not start; after the first one ended it does."""
    first = open_log(tmp_path / "log", JournalFault)
    held = open_files()
    with pytest.raises(JournalFault, match="another signer has it"):
        open_log(tmp_path / "log", JournalFault)
    assert open_files() == held
    os.close(first)
    os.close(open_log(tmp_path / "log", JournalFault))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o660])
def test_a_log_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    """Somebody else may have written what is read back here."""
    path = tmp_path / "log"
    path.touch()
    path.chmod(mode)
    held = open_files()
    with pytest.raises(Fault, match="others may read or write it"):
        open_log(path, JournalFault)
    assert open_files() == held


def test_a_log_is_a_file(tmp_path: Path) -> None:
    """No link to another's file, no pipe, no directory."""
    (tmp_path / "other").touch(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "other")
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(0o700)
    for name in ("link", "pipe", "directory"):
        with pytest.raises(JournalFault, match=r"cannot be opened|others may"):
            open_log(tmp_path / name, JournalFault)
