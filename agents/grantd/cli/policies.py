"""`grantctl policy`: the files in force, what others would change, and replacing them."""

from __future__ import annotations

from pathlib import Path

import click
from google.protobuf.duration_pb2 import Duration

from grantd import asking
from grantd.cli.change import step_up_options, submit
from grantd.cli.exits import Exit
from grantd.cli.policy_text import decision_text, problems_text, rule_text, simulation_text
from grantd.cli.shell import Shell
from grantd.cli.visible import one_line, readable
from grantd.errors import Invalid
from grantd.v1 import admin_pb2

_FILES = click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
_DAY = 86_400


@click.group()
def policy() -> None:
    """Who may do what: Cedar files, and files of programs."""


@policy.command("show")
@click.pass_obj
def show_policy(shell: Shell) -> int:
    """The policy in force."""
    told = _policy_in_force(shell)
    shell.show(told, lambda: _text(told))
    return Exit.OK


@policy.command("put")
@_FILES
@click.option("--replaces", metavar="VERSION", help="the version you looked at [the one in force now]")
@step_up_options
@click.pass_obj
def put_policy(
    shell: Shell, files: tuple[Path, ...], replaces: str | None, key: Path | None, cosign: Path | None
) -> int:
    """Replace the policy by the Cedar FILES, under a fresh signature (two, where two people could)."""
    message = admin_pb2.PutPolicyRequest(
        idempotency_key=asking.new_key(),
        sources=_sources(files),
        replaces=replaces or _policy_in_force(shell).version,
    )
    told = submit(shell, lambda: shell.client.admin.PutPolicy, message, key=key, cosign=cosign)
    shell.show(told.policy, lambda: f"policy {one_line(told.policy.version)} is in force")
    return Exit.OK


@policy.command("check")
@_FILES
@click.pass_obj
def check_policy(shell: Shell, files: tuple[Path, ...]) -> int:
    """Say all that is wrong or suspicious about the FILES as one policy, without putting them. Exit 1 if wrong."""
    client = shell.client
    told = client.call(client.admin.ValidatePolicy, admin_pb2.ValidatePolicyRequest(sources=_sources(files)))
    shell.show(told, lambda: problems_text(told))
    return Exit.OK if told.version else Exit.FAILURE


@policy.command("simulate")
@_FILES
@click.option("--days", type=click.IntRange(1, 90), default=7, show_default=True, help="how far back")
@click.pass_obj
def simulate_policy(shell: Shell, files: tuple[Path, ...], days: int) -> int:
    """Replay what really ran in the last days against the FILES and the policy in force; say what would change."""
    client = shell.client
    request = admin_pb2.SimulatePolicyRequest(sources=_sources(files), period=Duration(seconds=days * _DAY))
    told = client.call(client.admin.SimulatePolicy, request)
    shell.show(told, lambda: simulation_text(told))
    return Exit.OK


@policy.command("explain")
@click.argument("subject", metavar="ID")
@click.pass_obj
def explain_policy(shell: Shell, subject: str) -> int:
    """Explain ID: a policy in force by its @id, or what was decided for an action (`ac_...`)."""
    client = shell.client
    told = client.call(client.admin.ExplainPolicy, admin_pb2.ExplainPolicyRequest(subject=subject))
    shell.show(told, lambda: rule_text(told.rule) if told.HasField("rule") else decision_text(told.action))
    return Exit.OK


def _sources(files: tuple[Path, ...]) -> dict[str, str]:
    """By name, without their folders; two of one name are refused: one would stand for both, whatever it forbids."""
    sources: dict[str, str] = {}
    for file in files:
        if file.name in sources:
            raise Invalid("same_file_name", f"two files are called {file.name}: rename one of them")
        sources[file.name] = _read(file)
    return sources


def _policy_in_force(shell: Shell) -> admin_pb2.Policy:
    client = shell.client
    return client.call(client.admin.GetPolicy, admin_pb2.GetPolicyRequest()).policy


def _text(told: admin_pb2.Policy) -> str:
    # a comment: what is shown can be kept as a file, changed and put again
    lines = [f"// version {one_line(told.version)}, put by {one_line(told.put_by) or 'nobody: as shipped'}"]
    for name, source in sorted(told.sources.items()):
        lines += ["", click.style(f"// {one_line(name)}", bold=True), readable(source)]
    return "\n".join(lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        raise Invalid("no_policy_file", f"{path} cannot be read as text") from wrong
