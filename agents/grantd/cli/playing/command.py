"""`grantctl sessions play`: a player on a terminal, a transcript anywhere else."""

from __future__ import annotations

import codecs
import itertools
import os
import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

import click

from grantd.cli.exits import Exit
from grantd.cli.playing.keys import keys_in
from grantd.cli.playing.player import Player
from grantd.cli.playing.stage import Stage
from grantd.cli.playing.tape import BackgroundReading, Reading, Tape
from grantd.cli.shell import DURATION, Shell, colour_allowed, span
from grantd.cli.visible import exact, readable
from grantd.v1.session_pb2 import PlayRecordingRequest, PlayRecordingResponse

_FRAME_S: Final = 1 / 30
_STILL_S: Final = 0.5
"""Between two looks at the window's size while nothing moves."""
_KINDS: Final = {1: "out", 2: "err", 3: "in"}
_TOLD: Final = {4: "size", 5: "exec", 6: "exit", 9: "mark"}
_KIND_COLOURS: Final = {"err": "red", "in": "cyan"}


@click.command()
@click.argument("session_id", metavar="SESSION")
@click.option("--reason", required=True, help="why you look; kept in the audit log")
@click.option("--speed", type=click.FloatRange(0.25, 32), default=1.0, show_default=True, help="times its own pace")
@click.option("--idle-limit", type=DURATION, default="3s", show_default=True, help="pass over longer pauses")
@click.option("--from", "start", type=DURATION, default="0s", help="begin there, such as 1h30m")
@click.option("--lines", is_flag=True, help="the transcript, on a terminal too")
@click.pass_obj
def play(
    shell: Shell, session_id: str, *, reason: str, speed: float, idle_limit: timedelta, start: timedelta, lines: bool
) -> int:
    """Play a session, drawn from what a terminal would have shown: nothing of the target reaches yours.

    Space pauses, arrows step 5 s, + and - change the speed, n and p go to the next and previous decision, / searches,
    q leaves. Without a terminal: what was recorded as lines, with times; every unsafe byte escaped, stderr marked
    `err`, stdin `in`.
    """
    request = PlayRecordingRequest(session_id=session_id, reason=reason, from_us=_micros(start))
    if shell.as_json:
        events = shell.client.stream(shell.client.sessions.PlayRecording, request)
        shell.show_all(events, (), lambda _: ())
    elif lines or not _on_a_terminal():
        _transcript(shell.client.stream(shell.client.sessions.PlayRecording, request))
    else:
        _perform(shell, request, speed=speed, idle_limit_us=_micros(idle_limit))
    return Exit.OK


def _perform(shell: Shell, request: PlayRecordingRequest, *, speed: float, idle_limit_us: int) -> None:
    opened = False

    def open_at(t_us: int) -> Reading:
        nonlocal opened
        message = PlayRecordingRequest(
            session_id=request.session_id,
            reason=request.reason,
            from_us=t_us,
            with_outline=not opened,
            with_screen=True,
        )
        opened = True
        return BackgroundReading(shell.client.stream(shell.client.sessions.PlayRecording, message))

    tape = Tape(open_at, start_us=request.from_us)
    try:
        player = Player(tape, speed=speed, idle_limit_us=idle_limit_us)
        with Stage(colour=colour_allowed()) as stage:
            _watch(player, stage)
    finally:
        tape.close()


def _watch(player: Player, stage: Stage) -> None:
    last = time.monotonic()
    while not player.quit:
        typed = stage.keys(_FRAME_S if player.busy else _STILL_S)
        if typed is None:
            return
        for key in keys_in(typed):
            if key == "redraw":
                stage.forget()
            player.key(key)
        now = time.monotonic()
        player.advance(now - last)
        last = now
        columns, rows = stage.size()
        stage.draw(player.rows(columns, rows), player.cursor)


def _on_a_terminal() -> bool:
    """A terminal at both ends that shows what is written: another encoding would show something else."""
    both = os.isatty(sys.stdin.fileno()) and os.isatty(sys.stdout.fileno())
    return both and codecs.lookup(sys.stdout.encoding).name == "utf-8" and os.environ.get("TERM") != "dumb"


def _micros(value: timedelta) -> int:
    return value // timedelta(microseconds=1)


def _transcript(events: Iterable[PlayRecordingResponse]) -> None:
    for (kind, _), group in itertools.groupby(events, lambda event: (event.kind, event.channel)):
        for line in _played(kind, list(group)):
            click.echo(line)


def _played(kind: int, group: list[PlayRecordingResponse]) -> list[str]:
    """A run of events of one kind as lines; characters and lines split between events are put together."""
    label = _KINDS.get(kind, "")
    at = f"{span(timedelta(microseconds=group[0].t_us)):>8}.{group[0].t_us // 1000 % 1000:03d}"
    if not label:
        name = _TOLD.get(kind, f"event {kind}")
        return [f"{at} {name:>4} {exact(event.payload)}" for event in group]
    whole = b"".join(event.payload for event in group).decode(errors="surrogateescape")
    # the text as a person reads it, not as a terminal would obey it
    lines = readable(whole.replace("\r\n", "\n")).split("\n")
    if lines[-1] == "":
        lines.pop()
    return [f"{at} {label:>4} {click.style(line, fg=_KIND_COLOURS.get(label))}" for line in lines] or [
        f"{at} {label:>4}"
    ]
