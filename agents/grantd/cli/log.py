"""`grantctl audit`: the log as it stands, its signed head, and a bundle for offline checks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import click

from grantd.cli.exits import Exit
from grantd.cli.shell import Shell, moment
from grantd.cli.visible import readable
from grantd.errors import BrokerFault, Invalid
from grantd.v1 import audit_pb2


@click.group()
def audit() -> None:
    """What happened, provably. Reading it is in the log too."""


@audit.command("list")
@click.option("--from", "from_seq", type=click.IntRange(min=0), default=0, show_default=True, help="first index")
@click.option("--reason", default="", help="why you read it; kept in the log")
@click.pass_obj
def list_events(shell: Shell, from_seq: int, reason: str) -> int:
    """Entries in order."""
    shell.show_all(
        _events(shell, from_seq, reason),
        ("INDEX", "WHEN", "CODE", "EVENT", "ENTRY"),
        lambda event: (
            str(event.seq),
            moment(event.at),
            event.code,
            event.name,
            event.entry.decode(errors="backslashreplace"),
        ),
    )
    return Exit.OK


@audit.command("checkpoint")
@click.pass_obj
def checkpoint(shell: Shell) -> int:
    """The newest signed head: keep it somewhere else, and nobody can rewrite what came before."""
    client = shell.client
    told = client.call(client.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest())
    shell.show(
        told, lambda: f"{readable(told.note.decode(errors='backslashreplace'))}\nverifier key: {readable(told.vkey)}"
    )
    return Exit.OK


@audit.command("export")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--reason", required=True, help="why; kept in the log")
@click.option("--recordings", is_flag=True, help="with the sealed recording files")
@click.option("--disclosures", is_flag=True, help="with the personal values that are not erased")
@click.pass_obj
def export(shell: Shell, *, directory: Path, reason: str, recordings: bool, disclosures: bool) -> int:
    """Write a bundle into a new DIRECTORY; `grantd verify DIRECTORY` checks it without keys or network."""
    try:
        directory.mkdir(mode=0o700)
    except OSError as wrong:
        raise Invalid("bad_directory", f"{directory} cannot be made: {wrong.strerror}", "name a new one") from wrong
    client = shell.client
    request = audit_pb2.ExportBundleRequest(reason=reason, recordings=recordings, disclosures=disclosures)
    written = 0
    for piece in client.stream(client.audit.ExportBundle, request):
        path = _inside(directory, piece.path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(piece.data)
        written += len(piece.data)
    shell.say(f"{written} bytes in {directory}; check them with: grantd verify {directory}")
    return Exit.OK


def _events(shell: Shell, seq: int, reason: str) -> Iterator[audit_pb2.AuditEvent]:
    client = shell.client
    while True:
        page = client.call(client.audit.ListEvents, audit_pb2.ListEventsRequest(from_seq=seq, reason=reason))
        yield from page.events
        seq = page.next_seq
        if not seq:
            return


def _inside(directory: Path, named: str) -> Path:
    """Where a file of the bundle goes; a name that leads elsewhere ends the export."""
    relative = PurePosixPath(named)
    plain = all(part not in ("", ".", "..") and part.isprintable() for part in named.split("/"))
    if relative.is_absolute() or not plain:
        raise BrokerFault("bad_bundle", "the broker sent a file name that leaves the directory")
    return directory / relative
