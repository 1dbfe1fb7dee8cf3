"""`grantctl vault`: the keys that seal what the broker stores for your tenant. No key ever comes here."""

from __future__ import annotations

from pathlib import Path

import click

from grantd.cli.change import step_up_options, submit
from grantd.cli.exits import Exit
from grantd.cli.shell import Shell, table
from grantd.v1 import vault_pb2


@click.group()
def vault() -> None:
    """Keys of your tenant."""


@vault.command()
@click.pass_obj
def status(shell: Shell) -> int:
    """Show each version of each key, the root key that wraps it, and how many rows only it opens."""
    told = shell.client.call(shell.client.vault.GetVaultStatus, vault_pb2.GetVaultStatusRequest())
    shell.show(told, lambda: _text(told))
    return Exit.OK


@vault.command()
@click.argument("purpose", type=click.Choice(["vault", "recordings", "subjects"]))
@step_up_options
@click.pass_obj
def rotate(shell: Shell, purpose: str, key: Path | None, cosign: Path | None) -> int:
    """Make the next version of the key for PURPOSE, under a fresh signature. What older ones seal follows by itself."""
    message = vault_pb2.RotateKeyRequest(purpose=purpose)
    told = submit(shell, lambda: shell.client.vault.RotateKey, message, key=key, cosign=cosign)
    shell.show(told, lambda: f"version {told.version} of the key for {purpose} seals from now on")
    return Exit.OK


def _text(told: vault_pb2.GetVaultStatusResponse) -> str:
    rows = [(key.purpose, str(key.version), key.root_id, str(key.seals)) for key in told.keys]
    lines = [table(("PURPOSE", "VERSION", "ROOT KEY", "SEALS"), rows)]
    lines += [f"being moved to its newest version: {purpose}" for purpose in told.behind]
    return "\n".join(lines)
