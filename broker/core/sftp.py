"""SFTP version 3 as grantd lets it through: which operations there are, what class each has, what runs on the target.

The table is the whole of it: an operation that is not here is answered `unsupported` and never reaches a target.
draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL, section 4.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum
from types import MappingProxyType
from typing import Final

from broker.core.errors import Fault, invalid
from broker.core.fileroot import PLACES, confined, is_root
from policy.classes import CommandClass
from policy.shell.calls import stops_the_machine

VERSION: Final = 3
MAX_DATA: Final = 256 * 1024 - 1024
"""Bytes of one read or write; OpenSSH's own."""
MAX_PACKET: Final = 256 * 1024
"""What a packet may hold behind its length; OpenSSH's own."""
READING: Final = b"internal-sftp -R"
"""The command of a session that reads. No program has this name: nothing but `RunService.transfer` can run it."""
WRITING: Final = b"internal-sftp"


class Op(IntEnum):
    """What a client asks for: the type of its packet."""

    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    EXTENDED = 200


class Reply(IntEnum):
    """What a server answers: the type of its packet."""

    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED_REPLY = 201


INIT: Final = 1
VERSION_TYPE: Final = 2


class Status(IntEnum):
    """How an operation ended."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


PHRASES: Final[Mapping[Status, str]] = MappingProxyType(
    {
        Status.OK: "Success",
        Status.EOF: "End of file",
        Status.NO_SUCH_FILE: "No such file",
        Status.PERMISSION_DENIED: "Permission denied",
        Status.FAILURE: "Failure",
        Status.BAD_MESSAGE: "Bad message",
        Status.NO_CONNECTION: "No connection",
        Status.CONNECTION_LOST: "Connection lost",
        Status.OP_UNSUPPORTED: "Operation unsupported",
    }
)
"""What a client is told beside the code: never the target's own words (I-27)."""


class Open(IntFlag):
    """How a file is opened."""

    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREAT = 0x08
    TRUNC = 0x10
    EXCL = 0x20


_ALTERS: Final = Open.WRITE | Open.APPEND | Open.CREAT | Open.TRUNC | Open.EXCL


class Field(StrEnum):
    """What an operation carries, in its order on the wire."""

    PATH = "path"
    OTHER = "other"
    """A second path."""
    HANDLE = "handle"
    FLAGS = "flags"
    ATTRS = "attrs"
    OFFSET = "offset"
    LENGTH = "length"
    DATA = "data"
    TEXT = "text"
    """Neither a path nor a handle: a user's name, ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One operation."""

    word: str
    """Its name in recordings."""
    command_class: CommandClass
    """The least; an `open` has more by its flags."""
    fields: tuple[Field, ...]
    answers: frozenset[Reply]
    """What may come beside a status."""


def _shape(word: str, command_class: CommandClass, fields: str, *answers: Reply) -> Shape:
    return Shape(
        word=word,
        command_class=command_class,
        fields=tuple(Field(name) for name in fields.split()),
        answers=frozenset(answers),
    )


_READ, _WRITE = CommandClass.READ, CommandClass.WRITE
SHAPES: Final[Mapping[Op, Shape]] = MappingProxyType(
    {
        Op.OPEN: _shape("open", _READ, "path flags attrs", Reply.HANDLE),
        Op.CLOSE: _shape("close", _READ, "handle"),
        Op.READ: _shape("read", _READ, "handle offset length", Reply.DATA),
        Op.LSTAT: _shape("lstat", _READ, "path", Reply.ATTRS),
        Op.FSTAT: _shape("fstat", _READ, "handle", Reply.ATTRS),
        Op.OPENDIR: _shape("opendir", _READ, "path", Reply.HANDLE),
        Op.READDIR: _shape("readdir", _READ, "handle", Reply.NAME),
        Op.REALPATH: _shape("realpath", _READ, "path", Reply.NAME),
        Op.STAT: _shape("stat", _READ, "path", Reply.ATTRS),
        Op.READLINK: _shape("readlink", _READ, "path", Reply.NAME),
        Op.WRITE: _shape("write", _WRITE, "handle offset data"),
        Op.SETSTAT: _shape("setstat", _WRITE, "path attrs"),
        Op.FSETSTAT: _shape("fsetstat", _WRITE, "handle attrs"),
        Op.REMOVE: _shape("remove", _WRITE, "path"),
        Op.MKDIR: _shape("mkdir", _WRITE, "path attrs"),
        Op.RMDIR: _shape("rmdir", _WRITE, "path"),
        Op.RENAME: _shape("rename", _WRITE, "path other"),
        # OpenSSH's server reads the link's target first, whatever the draft says
        Op.SYMLINK: _shape("symlink", _WRITE, "other path"),
    }
)
"""Every operation of version 3 but `extended`, whose name decides."""
EXTENSIONS: Final[Mapping[bytes, Shape]] = MappingProxyType(
    {
        b"statvfs@openssh.com": _shape("statvfs", _READ, "path", Reply.EXTENDED_REPLY),
        b"fstatvfs@openssh.com": _shape("fstatvfs", _READ, "handle", Reply.EXTENDED_REPLY),
        b"expand-path@openssh.com": _shape("expand-path", _READ, "path", Reply.NAME),
        b"home-directory": _shape("home-directory", _READ, "text", Reply.NAME),
        b"users-groups-by-id@openssh.com": _shape("users-groups-by-id", _READ, "text text", Reply.EXTENDED_REPLY),
        b"limits@openssh.com": _shape("limits", _READ, "", Reply.EXTENDED_REPLY),
        b"posix-rename@openssh.com": _shape("posix-rename", _WRITE, "path other"),
        b"hardlink@openssh.com": _shape("hardlink", _WRITE, "path other"),
        b"fsync@openssh.com": _shape("fsync", _WRITE, "handle"),
        b"lsetstat@openssh.com": _shape("lsetstat", _WRITE, "path attrs"),
    }
)
"""`copy-data` is not here: it would go on in the target's server after its session was cut."""
OFFERED_ANYWAY: Final = (b"posix-rename@openssh.com", b"hardlink@openssh.com", b"fsync@openssh.com")
"""A server that only reads does not offer these; every OpenSSH that offers `statvfs` has them when it may write."""
OFFERS_IT: Final = b"statvfs@openssh.com"
VERSIONS: Final[Mapping[bytes, bytes]] = MappingProxyType(
    {b"posix-rename@openssh.com": b"1", b"hardlink@openssh.com": b"1", b"fsync@openssh.com": b"1"}
)
_HEAD: Final = struct.Struct(">BI")
_LONG: Final = struct.Struct(">I")


def class_of(packet: bytes) -> CommandClass | None:
    """The class of a request, told from its bytes alone; None for what is not in the table.

    Reads no more than it needs: what the packet holds beside that is the parser's to judge.
    """
    try:
        op = Op(packet[0])
        if op is Op.EXTENDED:
            return _class_of_extension(packet)
        least = open_class(_open_flags(packet)) if op is Op.OPEN else SHAPES[op].command_class
        return _class_there(least, packet, _HEAD.size, SHAPES[op])
    except (IndexError, ValueError, struct.error):
        return None


def open_class(flags: int) -> CommandClass:
    """READ for a file that is only read; WRITE for every other flag, known or not."""
    return CommandClass.READ if flags == Open.READ else CommandClass.WRITE


def _class_of_extension(packet: bytes) -> CommandClass | None:
    start = _HEAD.size + _LONG.size
    (length,) = _LONG.unpack_from(packet, _HEAD.size)
    shape = EXTENSIONS.get(bytes(packet[start : start + length]))
    return _class_there(shape.command_class, packet, start + length, shape) if shape is not None else None


def _class_there(least: CommandClass, packet: bytes, at: int, shape: Shape) -> CommandClass:
    """More than a write where a path names a file that acts on the machine, as for a command that names it (I-16)."""
    for field in shape.fields if least > CommandClass.READ else ():
        if field not in (Field.PATH, Field.OTHER) or len(packet) < at + _LONG.size:
            break
        (length,) = _LONG.unpack_from(packet, at)
        at += _LONG.size + length
        if stops_the_machine(packet[at - length : at].decode("latin-1")):
            return CommandClass.REBOOT
    return least


def _open_flags(packet: bytes) -> int:
    (length,) = _LONG.unpack_from(packet, _HEAD.size)
    flags: int = _LONG.unpack_from(packet, _HEAD.size + _LONG.size + length)[0]
    return flags


# ---- what runs on the target -----------------------------------------------------------------------------------------
ROOT_FLAG: Final = "sftp-root="
"""Before the one folder that a grant's file sessions see."""
_COMMAND: Final = re.compile(r"internal-sftp(?P<reading> -R)?(?: --root=(?P<root>\S+))?")
_PROGRAM: Final = (
    f"for p in {PLACES}; do [ ! -x $p/sftp-server ] || exec $p/sftp-server%s; done; "
    "echo 'grantd: this host has no sftp-server' >&2; exit 127"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """The commands of a grant's file sessions."""

    reading: bytes
    writing: bytes


class NoSession(Fault):
    """Asked to run as a file session what is none."""


def sessions_of(flags: frozenset[str]) -> Sessions | None:
    """The commands that a grant with these flags may run as file sessions; None without the flag `sftp`."""
    if "sftp" not in flags:
        return None
    root = next((f" --root={flag.removeprefix(ROOT_FLAG)}" for flag in flags if flag.startswith(ROOT_FLAG)), "")
    return Sessions(reading=READING + root.encode(), writing=WRITING + root.encode())


def checked_roots(flags: frozenset[str]) -> frozenset[str]:
    """Those of `flags` that name a root, if they can stand together: one, a plain folder, beside `sftp`."""
    roots = frozenset(flag for flag in flags if flag.startswith(ROOT_FLAG))
    if len(roots) > 1 or (roots and "sftp" not in flags) or not all(map(_is_root_flag, roots)):
        raise invalid(
            "bad_sftp_root",
            "sftp-root is not one plain folder beside the flag sftp",
            "ask for sftp and sftp-root=/one/absolute/folder, of letters, digits and . _ + @ -",
        )
    return roots


def _is_root_flag(flag: str) -> bool:
    return is_root(flag.removeprefix(ROOT_FLAG))


def is_session(command: bytes) -> bool:
    """Whether a command names a file session."""
    return _read(command) is not None


def ceiling_of(command: bytes) -> CommandClass:
    """The highest class of operation that a file session lets through, whatever its own class was decided to be."""
    session = _read(command)
    return CommandClass.READ if session is None or session["reading"] else CommandClass.WRITE


def is_granted(command: bytes, flags: frozenset[str]) -> bool:
    """Whether a file session is one of this grant's."""
    own = sessions_of(flags)
    return own is not None and command in (own.reading, own.writing)


def program(command: bytes) -> bytes:
    """The fixed text that a file session runs on the target: OpenSSH's sftp-server, read-only for a reading one.

    Raises:
        NoSession: the command is none.
    """
    session = _read(command)
    if session is None:
        raise NoSession("not a file session")
    reading = session["reading"] is not None
    if session["root"] is not None:
        return confined(session["root"], reading=reading).encode()
    return (_PROGRAM % (" -R" if reading else "")).encode()


def _read(command: bytes) -> re.Match[str] | None:
    session = _COMMAND.fullmatch(command.decode("ascii", "replace"))
    named = session is not None and session["root"] is not None
    return None if session is None or (named and not is_root(session["root"])) else session
