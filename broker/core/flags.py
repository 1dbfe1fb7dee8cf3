"""What a grant carries beyond commands: words, and words with a value, as text in the record that a person signs.

Only these are ever granted; each is checked when access is asked for, and read back here wherever it counts.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from broker.core.errors import Refusal, invalid
from broker.core.sftp import ROOT_FLAG, checked_roots

WORDS: Final = frozenset({"shell", "raw_shell", "sftp", "stream_stdin"})
FORWARD: Final = "forward="
SESSIONS: Final = "sessions="
MAX_FORWARDS: Final = 16
MAX_SESSIONS: Final = 10
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""What ends no name: 127.1, 0x7f000001 and their kin are other spellings of an address."""
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_NUMBERS: Final = frozenset(f"{SESSIONS}{number}" for number in range(2, MAX_SESSIONS + 1))
_KNOWN: Final = (
    f"{', '.join(sorted(WORDS))}, {ROOT_FLAG}/FOLDER, {FORWARD}HOST:PORT, {SESSIONS}2 to {SESSIONS}{MAX_SESSIONS}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a forwarded connection leads, as the target sees it: a name in lower case, or an address."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it stands in a flag."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def checked_flags(flags: frozenset[str]) -> frozenset[str]:
    """`flags`, if every one is known and spelled in its one way.

    Raises:
        Refusal: `unknown_flag`, `bad_destination`, `bad_sftp_root`, `too_many_flags`.
    """
    for flag in flags - WORDS - checked_roots(flags):
        if flag.startswith(FORWARD):
            if f"{FORWARD}{destination(flag.removeprefix(FORWARD))}" != flag:
                raise _bad_destination()
        elif not _is_sessions(flag):
            raise invalid("unknown_flag", "a flag is not known", f"known flags: {_KNOWN}")
    if len(forwards(flags)) > MAX_FORWARDS or sum(_is_sessions(flag) for flag in flags) > 1:
        raise invalid(
            "too_many_flags", f"more than {MAX_FORWARDS} forwards, or two numbers of sessions", "ask for less"
        )
    return flags


def destination(text: str) -> Destination:
    """`HOST:PORT` or `[ADDRESS]:PORT`. Raises Refusal `bad_destination`."""
    host, colon, port = text.rpartition(":")
    if not colon or _PORT.fullmatch(port) is None:
        raise _bad_destination()
    return destination_of(host.removeprefix("[").removesuffix("]") if host.startswith("[") else host, int(port))


def destination_of(host: str, port: int) -> Destination:
    """A host and a port as a client names them. Raises Refusal `bad_destination`."""
    if not 0 < port < 2**16:
        raise _bad_destination()
    try:
        return Destination(host=_address(host), port=port)
    except ValueError:
        name = host.lower()
    if _HOST.fullmatch(name) is None or _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise _bad_destination()
    return Destination(host=name, port=port)


def forwards(flags: frozenset[str]) -> frozenset[Destination]:
    """Where connections may be forwarded to; nothing where the flags are not ours."""
    found = set()
    for flag in flags:
        if flag.startswith(FORWARD):
            try:
                found.add(destination(flag.removeprefix(FORWARD)))
            except Refusal:
                continue
    return frozenset(found)


def max_sessions(flags: frozenset[str]) -> int:
    """How many sessions one connection may have at a time (I-22)."""
    return max((int(flag.removeprefix(SESSIONS)) for flag in flags if _is_sessions(flag)), default=1)


def copies_files(flags: frozenset[str]) -> bool:
    """Whether files may be copied to anywhere that the login reaches: not where a root is named."""
    return "sftp" in flags and not any(flag.startswith(ROOT_FLAG) for flag in flags)


def rights(flags: frozenset[str]) -> frozenset[str]:
    """As policies see them: beside `forward=db:5432` the word `forward`. A number of sessions is no right."""
    seen = frozenset(flag for flag in flags if not _is_sessions(flag))
    return seen | {flag.partition("=")[0] for flag in seen}


def _address(host: str) -> str:
    """In its usual spelling, without a zone. Raises ValueError."""
    if "%" in host:
        raise ValueError("a zone is the target's own affair")
    return str(ipaddress.ip_address(host))


def _is_sessions(flag: str) -> bool:
    return flag in _NUMBERS


def _bad_destination() -> Refusal:
    return invalid(
        "bad_destination",
        "a destination is HOST:PORT: a name in lower case, or an address in its usual spelling",
        f"such as {FORWARD}db.internal:5432 or {FORWARD}[::1]:80",
    )
