"""`grantctl ca`: the keys that certificates are signed with, and how one follows another."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from grantd.cli.change import step_up_options, submit
from grantd.cli.exits import Exit
from grantd.cli.shell import Shell
from grantd.cli.visible import one_line
from grantd.v1 import ca_pb2

_NAMES: Final = ("egress", "host", "ingress", "x509")
_NEXT: Final = {
    "start": "both keys are believed now; `grantctl ca rotate {name} --switch` lets the new one sign",
    "switch": "the new key signs; `grantctl ca rotate {name} --finish` destroys the old one",
    "finish": "the old key is destroyed: what it signed is refused everywhere",
}


@click.group()
def ca() -> None:
    """The keys that certificates are signed with."""


@ca.command("list")
@click.pass_obj
def list_cas(shell: Shell) -> int:
    """Every key that is believed, and which one signs."""
    client = shell.client
    told = client.call(client.admin.ListCas, ca_pb2.ListCasRequest())
    rows = [(each, generation) for each in told.cas for generation in each.generations]
    shell.show(told, lambda: "\n".join(_row(each, generation) for each, generation in rows))
    return Exit.OK


@ca.command("rotate")
@click.argument("name", type=click.Choice(_NAMES))
@click.option("--start", "step", flag_value="start", help="make the next key: both are believed, the old one signs")
@click.option("--switch", "step", flag_value="switch", help="the next key signs from now on, both are believed")
@click.option("--finish", "step", flag_value="finish", help="destroy the old key")
@click.option("--force", is_flag=True, help="even where somebody is left behind: for a key that others know")
@step_up_options
@click.pass_obj
def rotate(shell: Shell, *, name: str, step: str | None, force: bool, key: Path | None, cosign: Path | None) -> int:
    """Take one step of the rotation of a CA's key, under a fresh signature."""
    if step is None:
        raise click.UsageError("give --start, --switch or --finish")
    message = ca_pb2.RotateCaRequest(name=name, step=step, force=force)
    told = submit(shell, lambda: shell.client.admin.RotateCa, message, key=key, cosign=cosign)
    lines = [_row(told.ca, generation) for generation in told.ca.generations]
    shell.show(told, lambda: "\n".join([*lines, _NEXT[step].format(name=name)]))
    return Exit.OK


def _row(each: ca_pb2.Ca, generation: ca_pb2.CaGeneration) -> str:
    since = generation.since.ToDatetime().isoformat(timespec="seconds") if generation.number > 1 else "made at init"
    head = f"{one_line(each.name):8} {generation.number:>3}  {one_line(generation.stage):8} {since:20}"
    key = "" if each.name == "x509" else f"\n    {one_line(generation.public_key)}"
    return f"{head} {one_line(generation.fingerprint)}{key}"
