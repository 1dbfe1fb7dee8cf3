"""`grantd freeze`: the kill switch from the broker's own machine, without network, certificate or database."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import click

from broker.cli.options import CONFIG, OUTPUT, TENANT
from broker.cli.plainly import escaped, plainly, quiet

_SECONDS = 10.0


@click.command()
@CONFIG
@TENANT
@click.option("--all", "everything", is_flag=True, help="every tenant of this broker")
@click.option("--reason", required=True, help="why; told to those who are refused, kept in the audit log")
@OUTPUT
def freeze(config: Path, tenant: str, everything: bool, reason: str, output: str) -> None:  # noqa: FBT001  click's
    """End every session and grant now, and issue nothing more until people lift it (`grantctl unfreeze`)."""
    quiet()
    with plainly():
        from broker.config import Settings  # noqa: PLC0415

        settings = Settings.load(config)
        asked: dict[str, object] = {"tenant": None if everything else tenant or settings.tenant, "reason": reason}
        told = _ask(settings.host_socket, asked)
        if "error" in told:
            way_out = escaped(str(told.get("way_out", "")))
            raise click.ClickException(escaped(str(told["error"])) + (f"\n  {way_out}" if way_out else ""))
    click.echo(json.dumps(told) if output == "json" else _said(told))


def _ask(path: Path, asked: dict[str, object]) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise click.ClickException(f"no broker runs here: {path}: {error.strerror}") from error
        connection.sendall(json.dumps(asked).encode() + b"\n")
        with connection.makefile("rb") as answers:
            answer = answers.readline()
    try:
        told = json.loads(answer)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise click.ClickException("the broker hung up: it let nobody in, or it is being ended because it stood still")
    return told


def _said(told: dict[str, object]) -> str:
    late = f", {told['late']} of them late" if told["late"] else ""
    kept = "" if told["recorded"] else "; the database has not got it yet, a file keeps it until it does"
    return f"frozen; {told['sessions']} sessions cut{late}{kept}"
