"""The table of file operations: each has its class, whatever is not in it has none (I-18, I-28)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import sftp
from broker.core.sftp import EXTENSIONS, SHAPES, Op, Open, class_of, open_class
from policy import shell
from policy.classes import CommandClass

READS = {
    "close", "read", "lstat", "fstat", "opendir", "readdir", "realpath", "stat", "readlink", "open", "statvfs",
    "fstatvfs", "expand-path", "home-directory", "users-groups-by-id", "limits",
}  # fmt: skip


def packet(op: int, *strings: bytes, rest: bytes = b"") -> bytes:
    """A request, as far as its class goes."""
    body = b"".join(struct.pack(">I", len(each)) + each for each in strings)
    return struct.pack(">BI", op, 7) + body + rest


def test_exactly_these_are_reads() -> None:
    """Whatever is added above is a write until somebody says otherwise here."""
    shapes = [*SHAPES.values(), *EXTENSIONS.values()]
    assert {shape.word for shape in shapes if shape.command_class is CommandClass.READ} == READS
    assert {shape.command_class for shape in shapes} == {CommandClass.READ, CommandClass.WRITE}


def test_every_operation_of_version_3_has_a_class() -> None:
    """Types 3 to 20; every other is refused."""
    known = {number for number in range(256) if class_of(packet(number, b"/a", rest=bytes(8))) is not None}
    assert known == set(range(3, 21))


@pytest.mark.parametrize("flags", range(128))
def test_a_file_is_read_only_where_nothing_else_is_asked(flags: int) -> None:
    """Every flag but READ, also unknown ones and none at all, makes a write."""
    expected = CommandClass.READ if flags == Open.READ else CommandClass.WRITE
    assert class_of(packet(Op.OPEN, b"/a", rest=struct.pack(">I", flags))) is expected
    assert open_class(flags) is expected


def test_extensions_are_known_by_their_whole_name() -> None:
    """No prefix, no case, no copy-data."""
    for name, shape in EXTENSIONS.items():
        assert class_of(packet(Op.EXTENDED, name)) is shape.command_class
        assert class_of(packet(Op.EXTENDED, name + b"x")) is None
        assert class_of(packet(Op.EXTENDED, name.upper())) is None
    assert class_of(packet(Op.EXTENDED, b"copy-data")) is None


@given(st.binary(max_size=40))
def test_no_bytes_raise(data: bytes) -> None:
    """Whatever comes has a class or none."""
    assert class_of(data) in (None, CommandClass.READ, CommandClass.WRITE)


def test_a_session_is_granted_by_its_flag_alone() -> None:
    """I-28: off unless granted."""
    assert sftp.sessions_of(frozenset({"stream_stdin", "shell"})) is None
    for command in (sftp.READING, sftp.WRITING):
        assert sftp.is_session(command)
        assert sftp.is_granted(command, frozenset({"sftp"}))
        assert not sftp.is_granted(command, frozenset({"stream_stdin"}))


def test_only_a_session_has_a_program() -> None:
    """Nothing that a caller wrote becomes text for the target."""
    assert b"sftp-server -R;" in sftp.program(sftp.READING)
    assert b" -R" not in sftp.program(sftp.WRITING)
    for other in (b"internal-sftp  -R", b"internal-sftp -R ", b"internal-sftp -d /", b"id", b""):
        with pytest.raises(sftp.NoSession):
            sftp.program(other)


def test_the_classifier_says_what_a_session_is() -> None:
    """The command that people decide has the class of what it lets through."""
    for command in (sftp.READING, sftp.WRITING):
        seen = shell.classify(command)
        assert isinstance(seen, shell.Classified)
        assert (seen.command_class, seen.opaque) == (sftp.ceiling_of(command), False)
