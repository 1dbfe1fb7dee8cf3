"""`grantctl trust`: whom and what the signer believes, and an owner's signature under what it does not believe yet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from grantd import statements
from grantd.cli.change import step_up_options, submit
from grantd.cli.exits import Exit
from grantd.cli.shell import Shell, now
from grantd.cli.visible import one_line
from grantd.enrolment import micros
from grantd.errors import Invalid, NotFound
from grantd.trust import known
from grantd.v1 import admin_pb2
from grantd.v1.admin_pb2 import TrustEntry

_STATES: Final = {(True, True): "same", (True, False): "other", (False, False): "unknown"}


@click.group()
def trust() -> None:
    """What the signer believes: people, targets, programs."""


@trust.command("list")
@click.pass_obj
def list_trust(shell: Shell) -> int:
    """Everything that broker and signer know. Exit 1 where the signer does not believe what the broker has."""
    entries = known(shell.client, ())
    shell.show_all(entries, ("NAME", "SIGNER", "SUBJECT"), lambda each: (each.name, _state(each), each.subject))
    return Exit.OK if all(_state(each) == "same" for each in entries) else Exit.FAILURE


@trust.command("adopt")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--yes", is_flag=True, help="you have read it already")
@step_up_options
@click.pass_obj
def adopt(shell: Shell, *, names: tuple[str, ...], yes: bool, key: Path | None, cosign: Path | None) -> int:
    """Sign what the broker has of NAMEs, or of everything that the signer does not believe. People first."""
    entries = [each for each in known(shell.client, ()) if _state(each) != "same"]
    if missing := set(names) - {each.name for each in entries}:
        raise NotFound("not_found", f"nothing to adopt: {', '.join(sorted(missing))}", "grantctl trust list")
    for entry in entries:
        if not names or entry.name in names:
            _adopt(shell, entry, yes=yes, key=key, cosign=cosign)
    return Exit.OK


def _adopt(shell: Shell, entry: TrustEntry, *, yes: bool, key: Path | None, cosign: Path | None) -> None:
    shell.say("\n".join(f"  {name}  {one_line(value)}" for name, value in statements.told(entry.content)))
    if not yes and not _agrees():
        return
    said = statements.following(
        entry.statement, tenant=shell.client.whoami().tenant, subject=entry.subject, content=entry.content,
        at_us=micros(now()),
    )  # fmt: skip
    message = admin_pb2.PutTrustRequest(trust=said.encoded())
    told = submit(shell, lambda: shell.client.admin.PutTrust, message, key=key, cosign=cosign)
    shell.show(told, lambda: f"the signer believes it: {one_line(entry.name)}")


def _state(entry: TrustEntry) -> str:
    # a tenant without programs of its own needs no statement that says so
    nothing = not entry.statement and entry.content == statements.programs({})
    return "same" if nothing else _STATES[bool(entry.statement), entry.same]


def _agrees() -> bool:
    if not sys.stdin.isatty():
        raise Invalid("no_terminal", "signing needs a terminal to ask on", "use --yes if you have read it")
    return click.confirm("Sign this?", default=False, err=True)
