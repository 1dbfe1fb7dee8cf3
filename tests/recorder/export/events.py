"""Recordings for the exports: one of a terminal, one of a command, both hostile where they can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from recorder.events import Event, Kind
from recorder.export.about import About

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>&amp;\x1b]0;t\x07"
ABOUT = About(
    session="se_1",
    recording="rc_1",
    title=HOSTILE,
    who="deployer (ag_1)",
    login="deploy",
    target="web1",
    opened_at=datetime(2026, 11, 22, 9, 0, tzinfo=UTC),
    state="final",
    leaves=7,
    root=bytes(range(32)),
    asked={},
    exporter="auditor (pe_1)",
    exported_at=datetime(2026, 11, 22, 10, 0, tzinfo=UTC),
)


def said(t_us: int, kind: Kind, **document: Any) -> Event:  # noqa: ANN401  as JSON has it
    """A JSON event."""
    return Event(t_us, kind, 0, json.dumps(document).encode())


TERMINAL = [
    said(0, Kind.EXEC, argv="vim /etc/hosts", pty=True),
    Event(0, Kind.RESIZE, 0, b"\0\x64\0\x1e"),
    said(100, Kind.MARK, label="write: approved (1)", code="SE2002I", audit="ac_1"),
    Event(1_000_400, Kind.OUT, 0, b"\x1b[?1049h\x1b[31mred\x1b[0m caf\xc3"),
    Event(1_000_900, Kind.OUT, 0, b"\xa9\n\x1b]52;c;cm0gLXJm\x07\x1b[6n"),
    Event(2_000_000, Kind.IN, 0, b"secret"),
    Event(3_000_000, Kind.RESIZE, 0, b"\0\x50\0\x18"),
    said(4_000_000, Kind.MARK, label=HOSTILE, code="SE2002I", audit="ac_2"),
    said(9_000_000, Kind.EXEC, argv=HOSTILE),
    said(9_000_000, Kind.MARK, label="execute: denied", code="SE2002I", audit="ac_3"),
    Event(9_500_000, Kind.OUT, 0, b"needle in the \x1b[1mhaystack\x1b[0m\r\n" + HOSTILE.encode()),
    said(10_000_000, Kind.EXIT, status=137),
]
COMMAND = [
    said(0, Kind.EXEC, argv="cat x"),
    Event(1_000, Kind.OUT, 0, b"out \xe2\x82"),
    Event(2_000, Kind.ERR, 0, b"err\n"),
    Event(3_000, Kind.OUT, 0, b"\xac\ntwo\r\n"),
    said(4_000, Kind.GAP, bytes=12, reason="slow"),
    Event(5_000, Kind.RESIZE, 0, b"odd"),
    Event(5_000, Kind.MARK, 0, b"{"),
    Event(5_000, Kind.SFTP, 0, b'{"op":"read","path":"\\u001b[31m"}'),
    Event(5_000, 200, 0, b"later"),
    said(6_000, Kind.EXIT, signal="KILL"),
]

HALF_WAY = 100_000
"""The line of a build log at which its second decision stands."""
_LINES_A_PIECE = 40


def build_log(size: int) -> Iterator[Event]:
    """A command that writes so many bytes in numbered lines, 50 KB or so a second, with a decision at HALF_WAY."""
    yield said(0, Kind.EXEC, argv="make", pty=True)
    yield Event(0, Kind.RESIZE, 0, b"\0\x64\0\x1e")
    yield said(100, Kind.MARK, label="execute: approved (1)", code="SE2002I", audit="ac_1")
    number = written = 0
    while written < size:
        lines = (f"line {n} \x1b[32mok\x1b[0m {'x' * (n % 160)}\r\n" for n in range(number, number + _LINES_A_PIECE))
        data = "".join(lines).encode()
        if number == HALF_WAY:
            yield said(number * 2_000, Kind.MARK, label="write: half way", code="SE2002I", audit="ac_2")
        yield Event(number * 2_000 + 1, Kind.OUT, 0, data)
        number, written = number + _LINES_A_PIECE, written + len(data)
    yield said(number * 2_000 + 2, Kind.EXIT, status=0)
