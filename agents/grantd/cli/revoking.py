"""`grantctl revoke` and `ticket close`: ending many grants at once, by what they have in common."""

from __future__ import annotations

from typing import Final

import click

from grantd.cli.exits import Exit
from grantd.cli.shell import Shell
from grantd.errors import Invalid
from grantd.v1 import access_pb2

_SECONDS: Final = 300.0
"""Each of very many grants is written down before the answer; their sessions are cut long before."""
_SCOPES: Final = ("agent", "person", "target", "team", "ticket", "tenant")


@click.command()
@click.option("--agent", metavar="NAME", help="everything of an agent")
@click.option("--person", metavar="NAME", help="everything of a person")
@click.option("--target", metavar="NAME", help="everything on a target")
@click.option("--team", metavar="NAME", help="everything of everybody in a team")
@click.option("--ticket", metavar="TICKET", help="everything that was asked for with this ticket")
@click.option("--tenant", metavar="NAME", help="everything; name your own tenant, to be sure")
@click.option("--all", "everything", is_flag=True, help="everything of your tenant")
@click.option("--reason", required=True, help="why; told in the sessions that are cut, kept in the audit log")
@click.pass_obj
def revoke(shell: Shell, /, *, everything: bool, reason: str, **scopes: str | None) -> int:
    """End every grant of one scope now, and take back what waits there for a decision. Repeating it is harmless.

    Exactly one of the scopes. A single grant: grantctl grants revoke GRANT.
    """
    named = {name: value for name, value in scopes.items() if value is not None}
    if everything:
        named["tenant"] = named.get("tenant") or shell.client.whoami().tenant
    if len(named) != 1:
        raise Invalid("bad_scope", "name exactly one scope", f"one of: {', '.join('--' + s for s in _SCOPES)}, --all")
    return _revoke(shell, access_pb2.RevokeRequest(reason=reason, **named))


@click.group()
def ticket() -> None:
    """Tickets that grants were asked for with."""


@ticket.command("close")
@click.argument("reference", metavar="TICKET")
@click.option("--reason", default="", help="why [the ticket was closed]")
@click.pass_obj
def close_ticket(shell: Shell, *, reference: str, reason: str) -> int:
    """End the access that TICKET was the reason for. It closes nothing in the system that the ticket is kept in."""
    said = reason or f"ticket {reference} was closed"
    return _revoke(shell, access_pb2.RevokeRequest(reason=said, ticket=reference))


def _revoke(shell: Shell, request: access_pb2.RevokeRequest) -> int:
    client = shell.client
    told = client.call(client.access.Revoke, request, timeout=_SECONDS)
    shell.show(told, lambda: _said(told))
    return Exit.OK


def _said(told: access_pb2.RevokeResponse) -> str:
    late = f" ({told.sessions_late} of them late)" if told.sessions_late else ""
    taken_back = f"; {told.requests_cancelled} requests taken back" if told.requests_cancelled else ""
    return f"{told.grants_ended} grants ended, {told.sessions_cut} sessions cut{late}{taken_back}"
