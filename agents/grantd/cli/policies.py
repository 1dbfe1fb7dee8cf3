"""`grantctl policy`: the Cedar files in force, and replacing them."""

from __future__ import annotations

from pathlib import Path

import click

from grantd import asking
from grantd.cli.change import step_up_options, submit
from grantd.cli.exits import Exit
from grantd.cli.shell import Shell
from grantd.cli.visible import one_line, readable
from grantd.errors import Invalid
from grantd.v1 import admin_pb2


@click.group()
def policy() -> None:
    """Who may do what: Cedar files."""


@policy.command("show")
@click.pass_obj
def show_policy(shell: Shell) -> int:
    """The policy in force."""
    told = _policy_in_force(shell)
    shell.show(told, lambda: _text(told))
    return Exit.OK


@policy.command("put")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--replaces", metavar="VERSION", help="the version you looked at [the one in force now]")
@step_up_options
@click.pass_obj
def put_policy(
    shell: Shell, files: tuple[Path, ...], replaces: str | None, key: Path | None, cosign: Path | None
) -> int:
    """Replace the policy by the Cedar FILES, under a fresh signature (two, where two people could)."""
    message = admin_pb2.PutPolicyRequest(
        idempotency_key=asking.new_key(),
        sources={file.name: _read(file) for file in files},
        replaces=replaces or _policy_in_force(shell).version,
    )
    told = submit(shell, lambda: shell.client.admin.PutPolicy, message, key=key, cosign=cosign)
    shell.show(told.policy, lambda: f"policy {one_line(told.policy.version)} is in force")
    return Exit.OK


def _policy_in_force(shell: Shell) -> admin_pb2.Policy:
    client = shell.client
    return client.call(client.admin.GetPolicy, admin_pb2.GetPolicyRequest()).policy


def _text(told: admin_pb2.Policy) -> str:
    lines = [f"version {one_line(told.version)}, put by {one_line(told.put_by) or 'nobody: as shipped'}"]
    for name, source in sorted(told.sources.items()):
        lines += ["", click.style(f"// {one_line(name)}", bold=True), readable(source)]
    return "\n".join(lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        raise Invalid("no_policy_file", f"{path} cannot be read as text") from wrong
