"""`grantctl secret`: values that are put in and checked out. Never in an argument, the environment or the history.

A value comes from a prompt without echo, a file or a descriptor, and goes to a new file in memory that only you can
read, or into a pipe. On a terminal it is shown only where you say so.
"""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from grantd import asking, secrets
from grantd.cli.change import step_up_options, submit
from grantd.cli.exits import Exit
from grantd.cli.shell import Shell, moment
from grantd.errors import Invalid
from grantd.v1 import admin_pb2, options_pb2, vault_pb2

_MAX_BYTES: Final = 65_536
_MEMORY: Final = ("/run/user/{uid}", "/dev/shm")  # noqa: S108  both are looked at before they are used
_TIERS: Final = ("approval", "trusted", "closed-loop")


@click.group()
def secret() -> None:
    """Secrets: put them, list them without their values, check one out under a grant."""


def _from(command: click.decorators.FC) -> click.decorators.FC:
    command = click.option(
        "--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="read it there"
    )(command)
    return click.option("--fd", type=click.IntRange(0), help="read it from this open descriptor, to its end")(command)


@secret.command()
@click.argument("name")
@_from
@click.option("--team", "teams", multiple=True, help="make a target of that name for this team; can be repeated")
@click.option("--tier", type=click.Choice(_TIERS), default="approval", show_default=True, help="of that target")
@step_up_options
@click.pass_obj
def put(
    shell: Shell, name: str, file: Path | None, fd: int | None, teams: tuple[str, ...], tier: str, key: Path | None,
    cosign: Path | None,
) -> int:  # fmt: skip
    """Put the first value of secret NAME. With --team it can be asked for, as login `value` on target NAME."""
    put_ = _put(shell, name, file, fd, replaces=0)
    if teams:
        _offer(shell, name, teams, tier, key=key, cosign=cosign)
    shell.show(put_, lambda: f"{name}: version {put_.version}")
    return Exit.OK


@secret.command()
@click.argument("name")
@_from
@click.pass_obj
def rotate(shell: Shell, name: str, file: Path | None, fd: int | None) -> int:
    """Put the next value of secret NAME; the one before is gone."""
    current = next((found for found in _all(shell).secrets if found.name == name), None)
    if current is None:
        raise Invalid("no_such_secret", f"there is no secret {name}", "grantctl secret put makes one")
    put_ = _put(shell, name, file, fd, replaces=current.version)
    shell.show(put_, lambda: f"{name}: version {put_.version}")
    return Exit.OK


@secret.command("list")
@click.pass_obj
def list_(shell: Shell) -> int:
    """List secrets: versions, who has one out, and what is due to be changed. No values."""
    shell.show_all(_all(shell).secrets, ("NAME", "VERSION", "PUT", "OUT", "DUE"), _row)
    return Exit.OK


@secret.command()
@click.argument("name")
@click.option("--reason", required=True, help="why; kept in the audit log")
@click.pass_obj
def delete(shell: Shell, name: str, reason: str) -> int:
    """Delete the value of secret NAME. Whoever checked it out still knows it."""
    client = shell.client
    told = client.call(client.vault.DeleteSecret, vault_pb2.DeleteSecretRequest(name=name, reason=reason))
    shell.show(told, lambda: f"{name}: its value is deleted")
    return Exit.OK


@secret.command()
@click.argument("grant")
@click.option("--stdout", "to_stdout", is_flag=True, help="write the value itself to standard output, into a pipe")
@click.option("--show", is_flag=True, help="with --stdout: on a terminal too")
@click.pass_obj
def checkout(shell: Shell, grant: str, to_stdout: bool, show: bool) -> int:  # noqa: FBT001  flags of click
    """Take out the value that GRANT is on, once. It goes to a new file in memory, whose path is printed."""
    if to_stdout and sys.stdout.isatty() and not show:
        raise Invalid("terminal", "standard output is a terminal, which keeps what it showed", "--show, or a pipe")
    folder = None if to_stdout else _in_memory()  # before anything is taken out: it can be taken out once
    try:
        value = shell.client.checkout(grant)
    except BaseException:
        if folder is not None:
            folder.rmdir()
        raise
    try:
        if folder is None:
            _written(sys.stdout.fileno(), value)
            return Exit.OK
        path = _kept(folder, value)
    finally:
        secrets.zero(value)
    shell.say("remove it when you are done: it is not taken back, at the end of the lease it is due to be changed")
    click.echo(path)
    return Exit.OK


def _put(shell: Shell, name: str, file: Path | None, fd: int | None, *, replaces: int) -> vault_pb2.PutSecretResponse:
    value = _value(name, file, fd)
    try:
        return shell.client.put_secret(name, value, replaces=replaces)
    finally:
        secrets.zero(value)


def _offer(
    shell: Shell, name: str, teams: tuple[str, ...], tier: str, *, key: Path | None, cosign: Path | None
) -> None:
    """The target by which it can be asked for."""
    made = admin_pb2.Target(
        name=name, teams=teams, secret=admin_pb2.SecretTarget(secret=name),
        tier=options_pb2.AutonomyTier.Value(f"AUTONOMY_TIER_{tier.replace('-', '_').upper()}"),
    )  # fmt: skip
    message = admin_pb2.PutTargetRequest(idempotency_key=asking.new_key(), target=made)
    submit(shell, lambda: shell.client.admin.PutTarget, message, key=key, cosign=cosign)


def _all(shell: Shell) -> vault_pb2.ListSecretsResponse:
    return shell.client.call(shell.client.vault.ListSecrets, vault_pb2.ListSecretsRequest())


def _row(found: vault_pb2.Secret) -> tuple[str, ...]:
    due = moment(found.due_since) if found.HasField("due_since") else ""
    return found.name, f"{found.version}{' (deleted)' * found.deleted}", moment(found.put_at), str(found.out), due


def _value(name: str, file: Path | None, fd: int | None) -> bytearray:
    """The value, from the one place that was named; a prompt where none was. Raises Invalid."""
    if file is not None and fd is not None:
        raise Invalid("two_places", "say --file or --fd, not both")
    if fd is not None:
        return _read(fd)
    if file is not None:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(descriptor)
        finally:
            os.close(descriptor)
    if not sys.stdin.isatty():
        raise Invalid("no_terminal", "there is no terminal to ask on", "--file FILE, or --fd 0 for standard input")
    first, second = getpass.getpass(f"value of {name}: "), getpass.getpass("again: ")
    if first != second:
        raise Invalid("not_the_same", "the two are not the same")
    return bytearray(first.encode())


def _read(descriptor: int) -> bytearray:
    """To its end, into one buffer."""
    buffer = bytearray(_MAX_BYTES + 1)
    filled = 0
    while filled < len(buffer) and (got := os.readv(descriptor, [memoryview(buffer)[filled:]])):
        filled += got
    if filled > _MAX_BYTES:
        secrets.zero(buffer)
        raise Invalid("value_too_long", f"a value has at most {_MAX_BYTES} bytes")
    value = buffer[:filled]
    secrets.zero(buffer)
    return value


def _in_memory() -> Path:
    """A new directory of our own in a file system in memory: nothing of it reaches a disk. Raises Invalid."""
    for place in _MEMORY:
        path = Path(place.format(uid=os.getuid()))
        if path.is_dir() and os.access(path, os.W_OK) and _is_in_memory(path):
            return Path(tempfile.mkdtemp(prefix="grantctl-", dir=path))  # 0700
    raise Invalid("no_memory_files", "there is no file system in memory to keep it in", "--stdout into a pipe")


def _is_in_memory(path: Path) -> bool:
    """By the kernel's table of mounts: the longest one that the path lies under."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    above = [words for words in mounts if path == Path(words[1]) or Path(words[1]) in path.parents]
    return bool(above) and max(above, key=lambda words: len(words[1]))[2] in ("tmpfs", "ramfs")


def _kept(folder: Path, value: bytearray) -> Path:
    path = folder / "value"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    try:
        _written(descriptor, value)
    finally:
        os.close(descriptor)
    return path


def _written(descriptor: int, value: bytearray) -> None:
    """All of it, without a copy."""
    left = memoryview(value)
    while left:
        left = left[os.write(descriptor, left) :]
