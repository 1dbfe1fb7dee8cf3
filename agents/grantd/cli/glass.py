"""`grantctl break-glass`: sealed credentials for the night when no approver answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from grantd import asking, records, statements
from grantd.cli import exits
from grantd.cli.change import step_up_options, submit
from grantd.cli.directory import named
from grantd.cli.exits import Exit
from grantd.cli.run import line_of, watched
from grantd.cli.sealed import Sealed, SealedKey, seal, use_record
from grantd.cli.shell import Shell, moment, now
from grantd.cli.visible import one_line
from grantd.errors import Invalid
from grantd.execution import Changed, Event
from grantd.profile import replace_file
from grantd.statements import Statement
from grantd.trust import known, new_id, target_named
from grantd.v1 import approval_pb2, glass_pb2
from grantd.v1.action_pb2 import ActionState

_MAX_FILE_BYTES: Final = 1 << 16
_MAX_DAYS: Final = 366
_TOLD: Final = ("request_id", "action_id", "agent_key", "host_key", "login", "command_class", "opaque", "egress",
                "tier", "not_after_us", "policy_version", "nonce", "outlives")  # fmt: skip
"""Of a record, what is the broker's to say: the signer compares it with what it knows itself."""


@click.group("break-glass")
def break_glass() -> None:
    """Sealed credentials for the night when no approver answers: an hour on one target, once, told to every owner."""


@break_glass.command("make")
@click.option("--person", required=True, metavar="NAME", help="whose it is; not your own where there is another owner")
@click.option("--target", required=True, metavar="NAME", help="an SSH host")
@click.option("--login", required=True, help="the login on it")
@click.option("--ceiling", required=True, type=click.Choice(asking.CLASSES), help="the highest class of command")
@click.option("--days", type=click.IntRange(1, _MAX_DAYS), default=90, show_default=True, help="until it runs out")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="the file that holds the sealed key")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="write the passphrase there, do not say it")
@step_up_options
@click.pass_obj
def make(
    shell: Shell, *, person: str, target: str, login: str, ceiling: str, days: int, out: Path,
    passphrase_file: Path | None, key: Path | None, cosign: Path | None,
) -> int:  # fmt: skip
    """Seal a credential for somebody, under an owner's fresh signature (two, where two others could).

    File and passphrase belong in two places. The key is made here and never sent.
    """
    client = shell.client
    if cosign is None:
        ids = {"person": named(shell, "person", person), "target": target_named(client, target)}
        _must_be_known(shell, ids["person"], person)
        _must_be_known(shell, ids["target"], target)
        until = now() + timedelta(days=days)
        made, passphrase = seal(
            tenant=client.whoami().tenant, glass_id=new_id("bg"), login=login, ceiling=ceiling, until=until, **ids
        )
        _keep(shell, made, passphrase, out, passphrase_file)
    sealed = _read(out)
    if (sealed.login, sealed.ceiling) != (login, ceiling):
        raise Invalid("other_change", f"{out} holds another credential than this command makes", "repeat it exactly")
    told = submit(shell, lambda: client.admin.MakeBreakGlass, _wish(sealed), key=key, cosign=cosign)
    shell.show(told.glass, lambda: f"{told.glass.id} for {one_line(person)}, until {moment(told.glass.until)}")
    return Exit.OK


@break_glass.command("list")
@click.pass_obj
def list_glasses(shell: Shell) -> int:
    """All of them, and what became of each. Exit 1 where a use waits for an owner's review."""
    client = shell.client
    told = client.call(client.admin.ListBreakGlass, glass_pb2.ListBreakGlassRequest()).glasses
    head = ("ID", "PERSON", "TARGET", "LOGIN", "CEILING", "UNTIL", "USED", "GRANT", "REVIEWED")
    shell.show_all(told, head, _row)
    return Exit.FAILURE if any(_owes(each) for each in told) else Exit.OK


@break_glass.command("review")
@click.argument("glass_id", metavar="ID")
@click.option("--reason", required=True, help="what you found; kept in the audit log")
@step_up_options
@click.pass_obj
def review(shell: Shell, *, glass_id: str, reason: str, key: Path | None, cosign: Path | None) -> int:
    """Say that you looked at what was done: another owner than who did it. Until then none is made or used."""
    message = glass_pb2.ReviewBreakGlassRequest(id=glass_id, reason=reason)
    told = submit(shell, lambda: shell.client.admin.ReviewBreakGlass, message, key=key, cosign=cosign)
    shell.show(told.glass, lambda: f"reviewed: {told.glass.id}")
    return Exit.OK


@break_glass.command("use")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--reason", required=True, help="what happened; told to every owner, kept in the audit log")
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="read the passphrase there, and do not ask")
@click.option("--grant", "grant_id", metavar="GRANT", help="go on in the hour that it opened before")
@click.argument("words", metavar="[COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def use(
    shell: Shell, *, file: Path, reason: str, passphrase_file: Path | None, grant_id: str | None,
    words: tuple[str, ...],
) -> int:  # fmt: skip
    """Break the glass: open FILE, your own, for one hour, and run COMMAND, or each line of standard input.

    Every command is shown to the sealed key as you typed it, and recorded. Exit code: the last command's own.
    """
    sealed = _read(file)
    if sealed.person != shell.client.whoami().identity_id:
        raise Invalid("other_person", f"{file} is another person's", "it opens for nobody else")
    opened = _Open(shell=shell, sealed=sealed, key=sealed.open(_passphrase(passphrase_file)))
    grant = grant_id or opened.begin(reason)
    status = int(Exit.OK)
    for line in [line_of(words)] if words else _typed():
        status = opened.run(grant, line, reason)
    return status


class _Open:
    """A sealed credential in its hour."""

    def __init__(self, *, shell: Shell, sealed: Sealed, key: SealedKey) -> None:
        self._shell, self._sealed, self._key = shell, sealed, key
        self._signed: set[str] = set()

    def begin(self, reason: str) -> str:
        """Spends it; the grant of the hour."""
        client = self._shell.client
        record = use_record(
            sealed=self._sealed, request_id=new_id("rq"), now=now(), chance=os.urandom(12)
        )  # fmt: skip
        message = glass_pb2.UseBreakGlassRequest(record=record, signature=self._key.sign(record), reason=reason)
        told = client.call(client.admin.UseBreakGlass, message).glass
        self._shell.say(f"the glass is broken: {told.grant_id}, for one hour; every owner is told of it")
        return told.grant_id

    def run(self, grant: str, line: bytes, reason: str) -> int:
        """One command to its end; its exit code."""
        events = self._shell.client.execute(grant, line, reason=reason)
        return exits.of_action(watched(self._shell, self._answered(events, line)), waited=False)

    def _answered(self, events: Iterator[Event], line: bytes) -> Iterator[Event]:
        for event in events:
            waits = isinstance(event, Changed) and event.action.state == ActionState.ACTION_STATE_AWAITING
            if isinstance(event, Changed) and waits and event.action.id not in self._signed:
                self._signed.add(event.action.id)
                self._sign(event.action.id, line)
            yield event

    def _sign(self, action_id: str, line: bytes) -> None:
        """What is signed is made from what was typed: a broker in other hands gets no yes to anything else."""
        client, sealed = self._shell.client, self._sealed
        item = client.call(client.approvals.GetPending, approval_pb2.GetPendingRequest(id=action_id)).item
        if item.action.action_id != action_id or not is_typed(item.action, sealed, line):
            raise Invalid("digest_mismatch", "what waits is not what you typed", "do not go on; tell an owner")
        message = glass_pb2.SignBreakGlassRequest(
            action_id=action_id, signature=self._key.sign(records.action_record(item.action))
        )
        client.call(client.admin.SignBreakGlass, message)


def is_typed(asked: approval_pb2.ActionRecord, sealed: Sealed, line: bytes) -> bool:
    """Whether a record is this line, alone, by the holder, on its target: no input, terminal or folder beside it."""
    bare = approval_pb2.ActionRecord()
    bare.CopyFrom(asked)
    for name in _TOLD:
        bare.ClearField(name)
    return bare == approval_pb2.ActionRecord(
        tenant=sealed.tenant, requester=sealed.person, target_id=sealed.target, command=line, stdin_mode="none"
    )  # fmt: skip


def _wish(sealed: Sealed) -> glass_pb2.MakeBreakGlassRequest:
    return glass_pb2.MakeBreakGlassRequest(
        id=sealed.id,
        person_id=sealed.person,
        target_id=sealed.target,
        login=sealed.login,
        ceiling=asking.class_of(sealed.ceiling),
        public_key=sealed.public_key,
        until_us=sealed.until_us,
    )


def _must_be_known(shell: Shell, subject: str, name: str) -> None:
    """The broker found the id for a name: what the owners signed of it has to say the same name."""
    said = known(shell.client, [subject])[0].statement
    if not said or statements.told(Statement.parse(said).content)[0][1] != name:
        raise Invalid("not_known", f"the signer knows no {name} by this id", "grantctl trust list")


def _keep(shell: Shell, made: Sealed, passphrase: str, out: Path, passphrase_file: Path | None) -> None:
    if out.exists() or (passphrase_file is not None and passphrase_file.exists()):
        raise Invalid("file_exists", "the file exists already", "choose another name")
    replace_file(out, made.render())
    if passphrase_file is None:
        shell.say(f"passphrase, written nowhere else: {passphrase}")
    else:
        replace_file(passphrase_file, passphrase.encode() + b"\n")


def _passphrase(path: Path | None) -> str:
    if path is not None:
        return _bytes(path).decode(errors="replace").strip()
    if not sys.stdin.isatty():
        raise Invalid("no_terminal", "the passphrase needs a terminal to ask on", "use --passphrase-file")
    return str(click.prompt("Passphrase", hide_input=True, err=True))


def _read(path: Path) -> Sealed:
    return Sealed.parse(_bytes(path))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError as missing:
        raise Invalid("no_file", f"{path} cannot be read: {missing.strerror}") from missing


def _typed() -> Iterator[bytes]:
    for raw in sys.stdin.buffer:
        if line := raw.strip():
            yield line


def _owes(each: glass_pb2.BreakGlass) -> bool:
    return each.HasField("used_at") and not each.HasField("reviewed_at")


def _row(each: glass_pb2.BreakGlass) -> tuple[str, ...]:
    reviewed = "NOT YET" if _owes(each) else moment(each.reviewed_at)
    return (each.id, each.person_name, each.target_name, each.login, asking.class_word(each.ceiling),
            moment(each.until), moment(each.used_at), each.grant_id, reviewed)  # fmt: skip
