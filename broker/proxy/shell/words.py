"""What the gated shell says of itself: prompt, hint, help, what is waited for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, assert_never

from broker.core.shell_line import ChangeDirectory, Command, Nothing, read_line
from broker.proxy.shell.cells import Styled, width
from policy.classes import CommandClass, Tier
from policy.shell import Classified, Refused, Verdict
from recorder.escape import visible

_COLOURS: Final[Mapping[CommandClass, str]] = MappingProxyType(
    {
        CommandClass.READ: "32",
        CommandClass.WRITE: "33",
        CommandClass.EXECUTE: "31",
        CommandClass.INSTALL: "35",
        CommandClass.REBOOT: "1;31",
    }
)
_MINUTE, _HOUR = 60, 3600
_SHORT: Final = 16
NO_HINT: Final = Styled(text="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the shell is: all that its prompt shows and that does not change while it lives."""

    login: str
    target: str
    tier: Tier
    ceiling: CommandClass


def prompt(place: Place, *, left_s: float, cwd: str, status: int, columns: int) -> Sequence[Styled]:
    """`login@target tier up-to left cwd $ `, with the last exit status where it was not 0; shorter where it is narrow.

    Args:
        place: see Place.
        left_s: seconds until the access ends.
        cwd: as the target told it, so escaped here; empty for the home.
        status: of the last line.
        columns: of the terminal.
    """
    where = visible(cwd) or "~"
    short = f".../{where.rpartition('/')[2]}" if len(where) > _SHORT else where
    name = Styled(text=f"{place.login}@{place.target}", style="1")
    ends = Styled(text=f" {left(left_s)}", style="1;31" if left_s < _MINUTE else "2")
    failed = (Styled(text=f" [{status}]", style="31"),) if status else ()
    whole = (
        name,
        Styled(text=f" {place.tier} <={place.ceiling.word}", style="2"),
        ends,
        Styled(text=f" {where}", style="36"),
        *failed,
        Styled(text=" $ "),
    )
    narrower = (name, ends, Styled(text=f" {short}", style="36"), *failed, Styled(text=" $ "))
    for pieces in (whole, narrower, (name, *failed, Styled(text=" $ ")), (*failed, Styled(text="$ "))):
        if sum(width(piece.text) for piece in pieces) <= columns // 2:
            return pieces
    return (Styled(text="$ "),)


def left(seconds: float) -> str:
    """How long, in one short word."""
    if seconds >= _HOUR:
        return f"{int(seconds // _HOUR)}h{int(seconds % _HOUR // _MINUTE):02}m"
    return f"{int(seconds // _MINUTE)}m" if seconds >= _MINUTE else f"{max(0, int(seconds))}s"


def clock(remaining: timedelta) -> str:
    """Minutes and seconds."""
    seconds = max(0, int(remaining.total_seconds()))
    return f"{seconds // _MINUTE}:{seconds % _MINUTE:02}"


def class_of(verdict: Classified) -> Styled:
    """The class in its colour, and whether a person must look whatever the tier says."""
    looks = ", a person looks" if verdict.opaque else ""
    return Styled(text=f"{verdict.command_class.word}{looks}", style=_COLOURS[verdict.command_class])


def hint(verdict: Verdict) -> Styled:
    """What stands behind a line while it is typed."""
    match verdict:
        case Classified():
            return class_of(verdict)
        case Refused(rule="parse.error"):
            return NO_HINT  # hardly a line is complete while it is typed
        case Refused(reason=reason):
            return Styled(text=f"never runs: {visible(reason)}", style="2")
        case _:
            assert_never(verdict)


def typed_line(text: str) -> bytes | None:
    """What of a text would be classified; None where the gateway answers it."""
    match read_line(text, kept={}, before="/"):
        case Command(line=line) | ChangeDirectory(line=line):
            return line
        case Nothing():
            return None
        case _:
            return None


def waiting(code: str, remaining: timedelta, *, columns: int) -> Sequence[Styled]:
    """What is waited for, on one row."""
    for text in (
        f"grantd: waiting for a person to allow this ({code}), {clock(remaining)} left; Ctrl-C takes it back",
        f"grantd: waiting for a person ({code}), {clock(remaining)}",
        f"waiting {clock(remaining)}",
    ):
        if len(text) < columns:
            return (Styled(text=text, style="33"),)
    return ()


def help_rows(place: Place, *, left_s: float, unattended: Sequence[str], kept: Mapping[str, str]) -> Sequence[str]:
    """What `help` says."""
    free = ", ".join(unattended) or "nothing"
    return (
        f"{place.login}@{place.target}: tier {place.tier}, up to {place.ceiling.word}, ends in {left(left_s)}",
        f"runs without asking: {free}; what the policy says of one line is told when it is entered",
        "each line is decided and recorded by itself, and runs in a shell of its own",
        "`cd` and `export NAME=VALUE` go from line to line",
        f"exported: {', '.join(sorted(kept)) or 'nothing'}",
        "tty LINE: run it in a terminal (full-screen programs get one unasked); history, help, exit",
        "Tab completes, Ctrl-R searches, Ctrl-C interrupts, Alt-Enter begins another row; a paste never runs a line",
    )
