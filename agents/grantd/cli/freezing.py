"""`grantctl freeze` and `unfreeze`: the kill switch."""

from __future__ import annotations

from pathlib import Path

import click

from grantd import freezing
from grantd.cli.change import step_up_options, submit
from grantd.cli.exits import Exit
from grantd.cli.shell import Shell
from grantd.v1 import admin_pb2


@click.command()
@click.option("--reason", required=True, help="why; kept in the audit log")
@click.pass_obj
def freeze(shell: Shell, reason: str) -> int:
    """End every session and grant of the tenant now, and issue nothing more until `unfreeze`."""
    told = freezing.freeze(shell.client.profile, reason)
    shell.show(told, lambda: _said(told))
    return Exit.OK


def _said(told: admin_pb2.FreezeResponse) -> str:
    late = f", {told.sessions_late} of them late" if told.sessions_late else ""
    kept = "" if told.recorded else "; the database has not got it yet, a file keeps it until it does"
    return f"frozen; {told.sessions_cut} sessions cut{late}{kept}"


@click.command()
@click.option("--reason", required=True, help="why; kept in the audit log")
@step_up_options
@click.pass_obj
def unfreeze(shell: Shell, reason: str, key: Path | None, cosign: Path | None) -> int:
    """Lift the kill switch, under a fresh signature (two, where two people could)."""
    message = admin_pb2.UnfreezeRequest(reason=reason)
    told = submit(shell, lambda: shell.client.admin.Unfreeze, message, key=key, cosign=cosign)
    shell.show(told, lambda: "lifted")
    return Exit.OK
