"""What the classifier says about a command line. Values only: they hold no parser objects and decide nothing."""

from __future__ import annotations

from dataclasses import dataclass

from policy.classes import CommandClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that a command line does: a simple command, a redirect, an assignment.

    `span` is in byte offsets into the command as it was given; a part from inside a quoted script (`sh -c '...'`) has
    the span of the word it was written in. `argv` is dequoted; a word whose value only the target knows is shown as it
    was written.
    """

    span: tuple[int, int]
    argv: tuple[str, ...]
    command_class: CommandClass
    opaque: bool
    egress: bool
    outlives: bool
    rule: str
    reason: str
    keyboard: bool = False
    transfer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """A command line that parsed. `opaque`: not all of it was understood, a person must look (I-16).

    `keyboard`: a read that stays one whatever is typed into it (docs/classifier-binding.md). `transfer`: all of it is
    the far end of a copy, whose stdin is the protocol. `egress`: data may leave the host by the network. `outlives`: it
    may leave work behind that ending the session does not end (I-29).
    """

    command_class: CommandClass
    opaque: bool
    egress: bool
    outlives: bool
    parts: tuple[Part, ...]
    keyboard: bool = False
    transfer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A command line that is never run: not text, too big, or not shell. `rule` is stable, `reason` is for people."""

    rule: str
    reason: str


Verdict = Classified | Refused
