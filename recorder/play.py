"""Plays a recording in a terminal, at its own pace or faster. Reads no file and no clock: `sleep` is an argument.

A recording of a terminal is drawn through `TerminalFilter`; one of a command is shown line by line with every escape
visible. Either way no byte of the target reaches the viewer's terminal unexamined.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

from recorder.escape import visible
from recorder.export.text import Transcript
from recorder.grec import Event, Kind
from recorder.terminal import TerminalFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_DRAWN = frozenset({Kind.OUT, Kind.ERR})
_SAID = frozenset({Kind.EXIT, Kind.GAP})


def play(
    events: Iterable[Event],
    out: TextIO,
    *,
    pty: bool,
    speed: float,
    idle_limit_s: float,
    sleep: Callable[[float], None],
) -> int:
    """Play until the events end. Returns how many control sequences were held back.

    Args:
        events: in order of time.
        out: a terminal or a file.
        pty: whether the session had a terminal; then its bytes are drawn, else shown as lines.
        speed: 1 is the recording's own pace, 2 twice as fast; infinity does not wait at all.
        idle_limit_s: the longest wait between two events, before `speed`.
        sleep: waits so many seconds.
    """
    if not speed > 0 or not idle_limit_s >= 0:
        raise ValueError("speed is above zero and the idle limit not below it")
    paced = _paced(events, speed, idle_limit_s, sleep)
    return _draw(paced, out) if pty else _tell(paced, out)


def is_pty(event: Event) -> bool:
    """Whether this EXEC event, the first of a recording, says that there was a terminal."""
    try:
        document = json.loads(event.payload)
    except ValueError:
        return False
    return event.kind == Kind.EXEC and isinstance(document, dict) and document.get("pty") is True


def _paced(
    events: Iterable[Event], speed: float, idle_limit_s: float, sleep: Callable[[float], None]
) -> Iterator[Event]:
    last_us = 0
    for event in events:
        wait_s = min((event.t_us - last_us) / 1_000_000, idle_limit_s) / speed
        if wait_s > 0:
            sleep(wait_s)
        last_us = event.t_us
        yield event


def _draw(events: Iterable[Event], out: TextIO) -> int:
    screen, notes = TerminalFilter(), list[str]()
    for event in events:
        if event.kind in _DRAWN:
            out.write(screen.feed(event.payload))
            out.flush()
        elif event.kind in _SAID:
            text = event.payload.decode("utf-8", "surrogateescape")
            notes.append(f"{Kind(event.kind).name.lower()} {visible(text)}")
    out.write(screen.end())
    out.writelines(f"\r\n--- {note}" for note in notes)
    if screen.held_back:
        out.write(f"\r\n--- {screen.held_back} control sequences were held back")
    out.write("\r\n")
    out.flush()
    return screen.held_back


def _tell(events: Iterable[Event], out: TextIO) -> int:
    lines = Transcript()
    for event in events:
        out.writelines(f"{line}\n" for line in lines.feed(event))
        out.flush()
    out.writelines(f"{line}\n" for line in lines.end())
    out.flush()
    return 0
