"""`grantctl explain`: what the classifier makes of a command line, and policy under a grant. Runs nothing.

Colour only repeats what the marks under the line say: one letter for the class of each byte, a capital where it was not
understood. Everything of the command and of the broker is escaped before it reaches the terminal (I-11, I-27).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import click

from grantd import asking
from grantd.cli.exits import Exit
from grantd.cli.shell import CLASS_COLOURS, Shell, class_badge
from grantd.cli.visible import exact, one_line, units
from grantd.v1.action_pb2 import Command, PreviewResponse
from grantd.v1.options_pb2 import Advice, Classification, CommandPart

_MARKS: Final = {"read": "r", "write": "w", "execute": "x", "install": "i", "reboot": "b"}
_DECISIONS: Final = {"permit": "runs at once", "needs_approval": "asks a person", "deny": "denied"}
_MARGIN: Final = "  "
_LEAST_COLUMNS: Final = 20
_NO_TERMINAL: Final = 1 << 20


@click.command()
@click.argument("line")
@click.option("--grant", "grant_id", metavar="GRANT", help="also say what policy would decide under this grant")
@click.pass_obj
def explain(shell: Shell, line: str, grant_id: str | None) -> int:
    """Class of the command LINE, part by part, and what would lower it."""
    raw = os.fsencode(line)
    if grant_id is None:
        told = shell.client.classify(raw)
        shell.show(told, lambda: explanation(raw, told, columns=_columns()))
        return Exit.OK
    preview = shell.client.preview(grant_id, Command(line=raw))
    shell.show(preview, lambda: forecast(raw, preview, columns=_columns()))
    return Exit.OK


def explanation(raw: bytes, told: Classification, *, columns: int) -> str:
    """The command with its classes, each part with its reason, and the advice."""
    if told.refused:
        return f"{exact(raw)}\nrefused ({one_line(told.rule)}): {one_line(told.reason)}"
    rows = _laid_out(raw, told, width=max(columns - len(_MARGIN), _LEAST_COLUMNS))
    lines = [line for row in rows for line in (_coloured(row), _marks(row))]
    lines += ["", f"class {class_badge(asking.class_word(told.command_class))}{_flags(told)}"]
    for part in sorted(told.parts, key=lambda part: (part.start, -part.end)):
        lines += _part(part, rows)
    lines += _advice(told.advice)
    return "\n".join(lines)


def forecast(raw: bytes, told: PreviewResponse, *, columns: int) -> str:
    """`explanation`, and what policy would decide."""
    lines = [explanation(raw, told.classification, columns=columns), ""]
    reasons = f" ({one_line(', '.join(told.reasons))})" if told.reasons else ""
    lines.append(f"decision {_DECISIONS.get(told.decision, one_line(told.decision))}{reasons}")
    if told.quorum:
        lines.append(f"  {told.quorum} of: {one_line(', '.join(told.approver_roles))}")
    if told.approvers:
        lines.append(f"  who could: {one_line(', '.join(told.approvers))}")
    if told.watcher_roles:
        lines.append(f"  watched, as long as it runs, by one of: {one_line(', '.join(told.watcher_roles))}")
    if told.alternatives:
        lines.append("what would change it")
    lines += [
        f"  {exact(other.what)}: {_DECISIONS.get(other.decision, one_line(other.decision))}"
        for other in told.alternatives
    ]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """One character of the command as it is shown; `word` is the highest class that covers it, or empty."""

    offset: int
    shown: str
    word: str
    opaque: bool


def _laid_out(raw: bytes, told: Classification, *, width: int) -> list[list[_Cell]]:
    """The command in rows of at most `width` columns."""
    rows: list[list[_Cell]] = [[]]
    used = 0
    for offset, shown in units(raw):
        if used + len(shown) > width:
            rows.append([])
            used = 0
        used += len(shown)
        rows[-1].append(_cell(offset, shown, told))
    return rows


def _cell(offset: int, shown: str, told: Classification) -> _Cell:
    covering = [part for part in told.parts if part.start <= offset < part.end]
    word = asking.class_word(max(part.command_class for part in covering)) if covering else ""
    return _Cell(offset=offset, shown=shown, word=word, opaque=any(part.opaque for part in covering))


def _coloured(row: Sequence[_Cell]) -> str:
    runs = [(word, "".join(cell.shown for cell in run)) for word, run in groupby(row, key=lambda cell: cell.word)]
    return _MARGIN + "".join(click.style(shown, fg=CLASS_COLOURS.get(word)) if word else shown for word, shown in runs)


def _marks(row: Sequence[_Cell]) -> str:
    return (_MARGIN + "".join(_mark(cell.word, opaque=cell.opaque) * len(cell.shown) for cell in row)).rstrip()


def _mark(word: str, *, opaque: bool) -> str:
    letter = _MARKS.get(word, "?") if word else " "
    return letter.upper() if opaque else letter


def _part(part: CommandPart, rows: Sequence[Sequence[_Cell]]) -> Iterator[str]:
    """Its bytes marked under the line (where that fits one row), its words, its reason."""
    word = asking.class_word(part.command_class)
    if len(rows) == 1:
        mark = _mark(word, opaque=part.opaque)
        yield ""
        yield (
            _MARGIN + "".join((mark if part.start <= c.offset < part.end else " ") * len(c.shown) for c in rows[0])
        ).rstrip()
    flags = _flags(part)
    yield f"  {class_badge(word.ljust(7))} {' '.join(f'[{exact(each)}]' for each in part.argv)}".rstrip()
    yield f"          {exact(part.rule)}: {exact(part.reason)}{flags}"


def _advice(pieces: Sequence[Advice]) -> Iterator[str]:
    if pieces:
        yield ""
        yield "what would lower it"
    for piece in pieces:
        left = ", still not inspectable" if piece.opaque else ""
        yield f"  {exact(piece.say)}: {class_badge(asking.class_word(piece.command_class))}{left}"


def _flags(told: Classification | CommandPart) -> str:
    flags = {"not inspectable": told.opaque, "data may leave": told.egress, "may outlive the session": told.outlives}
    return "".join(f", {flag}" for flag, is_set in flags.items() if is_set)


def _columns() -> int:
    """Of the terminal; without one a row has no end, so that a program reads one line."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _NO_TERMINAL
