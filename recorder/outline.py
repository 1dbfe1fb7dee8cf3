"""A recording at a glance: what was asked for and decided when, whether there was a terminal, how long it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recorder.escape import visible
from recorder.events import Event, Kind

MAX_COMMANDS = 10_000
"""In one outline; what comes later is in the recording alone."""
_MAX_LABEL = 500  # characters
_SIZE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Command:
    """What was asked for and what was decided, both made visible; either may be missing."""

    t_us: int
    text: str
    verdict: str


class Commands:
    """Pairs what was asked for with the decision.

    Args:
        asked: what was asked for, by the id that a decision's mark bears. A decision that it does not know belongs to
            what the recording has just said, if that was a command.
    """

    def __init__(self, asked: Mapping[str, str]) -> None:
        self._asked_by_id = asked
        self.found: list[Command] = []
        self._asked_now = False
        self.terminal = False
        """Whether there has been a terminal so far."""

    def feed(self, event: Event) -> None:
        """Take the next event, of any kind."""
        if event.kind == Kind.RESIZE:
            self.terminal = self.terminal or len(event.payload) == _SIZE_BYTES  # only terminals have a size
            return
        undecided, self._asked_now = self._asked_now, False
        if event.kind == Kind.EXEC:
            self._asked(event.t_us, document_of(event))
        elif event.kind == Kind.MARK:
            self._decided(event.t_us, document_of(event), undecided=undecided)

    def _asked(self, t_us: int, document: dict[str, Any]) -> None:
        self.terminal = self.terminal or document.get("pty") is True
        if text := label_of(document.get("argv") or document.get("subsystem") or ""):
            self._asked_now = True
            self._add(Command(t_us, text, ""))

    def _decided(self, t_us: int, mark: dict[str, Any], *, undecided: bool) -> None:
        """A mark of what nobody knows stands for itself."""
        label = label_of(mark.get("label", ""))
        if undecided and self.found:
            last = self.found.pop()
            self._add(Command(last.t_us, last.text, label))
        else:
            self._add(Command(t_us, label_of(self._asked_by_id.get(str(mark.get("audit")), "")), label))

    def _add(self, command: Command) -> None:
        if len(self.found) < MAX_COMMANDS:
            self.found.append(command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A whole recording, so far."""

    duration_us: int
    terminal: bool
    commands: tuple[Command, ...]


def outline_of(events: Iterable[Event], asked: Mapping[str, str]) -> Outline:
    """Reads every event once. `asked`: as for `Commands`."""
    commands, last_us = Commands(asked), 0
    for event in events:
        commands.feed(event)
        last_us = event.t_us
    return Outline(duration_us=last_us, terminal=commands.terminal, commands=tuple(commands.found))


def document_of(event: Event) -> dict[str, Any]:
    """The JSON object that an event carries; empty where it carries none."""
    try:
        document = json.loads(event.payload)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def label_of(value: object) -> str:
    """Text of agents and targets, cut and made visible."""
    text = str(value)
    left_out = len(text) - _MAX_LABEL
    return visible(text[:_MAX_LABEL]) + (f" ... and {left_out} more characters" if left_out > 0 else "")
