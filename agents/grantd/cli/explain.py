"""`grantctl explain`: what the classifier makes of a command line. Runs nothing."""

from __future__ import annotations

import os

import click

from grantd import asking
from grantd.cli.exits import Exit
from grantd.cli.shell import CLASS_COLOURS, Shell, class_badge
from grantd.cli.visible import exact, one_line, units
from grantd.v1.options_pb2 import Classification


@click.command()
@click.argument("line")
@click.pass_obj
def explain(shell: Shell, line: str) -> int:
    """Class of the command LINE, part by part."""
    raw = os.fsencode(line)
    told = shell.client.classify(raw)
    shell.show(told, lambda: explanation(raw, told))
    return Exit.OK


def explanation(raw: bytes, told: Classification) -> str:
    """The command with its parts coloured by class, then each part with its reason."""
    if told.refused:
        return f"{exact(raw)}\nrefused ({one_line(told.rule)}): {one_line(told.reason)}"
    lines = [coloured(raw, told), "", f"class {class_badge(asking.class_word(told.command_class))}{_marks(told)}"]
    for part in told.parts:
        argv = " ".join(f"[{exact(word)}]" for word in part.argv)
        lines.append(f"  {class_badge(asking.class_word(part.command_class).ljust(7))} {argv}")
        lines.append(f"          {one_line(part.rule)}: {one_line(part.reason)}")
    return "\n".join(lines)


def coloured(raw: bytes, told: Classification) -> str:
    """The exact command; each byte in the colour of the highest class of the parts that cover it."""
    return "".join(
        click.style(shown, fg=CLASS_COLOURS.get(_class_at(offset, told))) if _class_at(offset, told) else shown
        for offset, shown in units(raw)
    )


def _class_at(offset: int, told: Classification) -> str:
    covering = [part.command_class for part in told.parts if part.start <= offset < part.end]
    return asking.class_word(max(covering)) if covering else ""


def _marks(told: Classification) -> str:
    marks = {"not inspectable": told.opaque, "data may leave": told.egress, "may outlive the session": told.outlives}
    return "".join(f", {mark}" for mark, is_set in marks.items() if is_set)
