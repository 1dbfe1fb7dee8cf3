"""`grantctl agent`, `person` and `team`: who there is, who may join."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from grantd import asking
from grantd.cli.change import step_up_options, submit
from grantd.cli.exits import Exit
from grantd.cli.shell import DURATION, Shell, moment
from grantd.cli.visible import one_line
from grantd.enrolment import Join
from grantd.errors import Invalid, NotFound
from grantd.profile import replace_file
from grantd.v1 import admin_pb2

_ROLES: Final = ("viewer", "manager", "admin", "owner")


@click.group()
def agent() -> None:
    """Programs that may ask for access."""


@agent.command("add")
@click.argument("name")
@click.option("--team", "teams", multiple=True, required=True, help="may be repeated")
@click.option("--owner", default="", metavar="PERSON", help="whose own it is; this person then never approves it")
@click.option("--join-for", type=DURATION, default="1h", show_default=True, help="how long the join file works")
@click.option("--out", type=click.Path(path_type=Path), help="where to write the join file [NAME.join]")
@click.pass_obj
def add_agent(
    shell: Shell, *, name: str, teams: tuple[str, ...], owner: str, join_for: timedelta, out: Path | None
) -> int:
    """Add an agent and write its join file (0600): a secret until it is redeemed, good for one time."""
    path = out or Path(f"{name}.join")
    _require_absent(path)
    client = shell.client
    message = admin_pb2.AddAgentRequest(
        idempotency_key=asking.new_key(), name=name, teams=teams, owner=owner, join_for=asking.duration(join_for)
    )
    told = client.call(client.admin.AddAgent, message)
    _write_join(path, told, name)
    _tell_join(shell, path, told)
    return Exit.OK


@agent.command("list")
@click.pass_obj
def list_agents(shell: Shell) -> int:
    """Agents, by name."""
    return _list(shell, "agent")


@agent.command("suspend")
@click.argument("name")
@click.option("--reason", required=True, help="why; kept in the audit log")
@click.pass_obj
def suspend_agent(shell: Shell, name: str, reason: str) -> int:
    """Suspend an agent: its grants end and its certificate stops working."""
    return _suspend(shell, "agent", name, reason)


@agent.command("teams")
@click.argument("name")
@click.argument("teams", nargs=-1, required=True, metavar="TEAM...")
@click.option("--reason", required=True, help="why; kept in the audit log")
@click.pass_obj
def move_agent(shell: Shell, *, name: str, teams: tuple[str, ...], reason: str) -> int:
    """Put an agent into these teams, and into no other."""
    client = shell.client
    told = client.call(client.admin.SetTeams, _rotation(shell, "agent", name, teams, reason))
    return _tell_teams(shell, told)


@click.group()
def person() -> None:
    """People."""


@person.command("add")
@click.argument("name")
@click.option(
    "--approval-key", "keys", type=click.Path(path_type=Path), multiple=True, required=True, help="public key file"
)
@click.option("--role", type=click.Choice(_ROLES), default="viewer", show_default=True)
@click.option("--team", "teams", multiple=True, help="may be repeated")
@click.option("--join-for", type=DURATION, default="1h", show_default=True, help="how long the join file works")
@click.option("--out", type=click.Path(path_type=Path), help="where to write the join file [NAME.join]")
@step_up_options
@click.pass_obj
def add_person(
    shell: Shell,
    *,
    name: str,
    keys: tuple[Path, ...],
    role: str,
    teams: tuple[str, ...],
    join_for: timedelta,
    out: Path | None,
    key: Path | None,
    cosign: Path | None,
) -> int:
    """Add a person, under your own fresh signature, and write the join file (0600)."""
    path = out or Path(f"{name}.join")
    _require_absent(path)
    message = admin_pb2.AddPersonRequest(
        idempotency_key=asking.new_key(),
        name=name,
        role=role,
        teams=teams,
        approval_keys=[_public_line(file) for file in keys],
        join_for=asking.duration(join_for),
    )
    told = submit(shell, lambda: shell.client.admin.AddPerson, message, key=key, cosign=cosign)
    _write_join(path, told, name)
    _tell_join(shell, path, told)
    return Exit.OK


@person.command("list")
@click.pass_obj
def list_people(shell: Shell) -> int:
    """People, by name."""
    return _list(shell, "person")


@person.command("suspend")
@click.argument("name")
@click.option("--reason", required=True, help="why; kept in the audit log")
@step_up_options
@click.pass_obj
def suspend_person(shell: Shell, *, name: str, reason: str, key: Path | None, cosign: Path | None) -> int:
    """Suspend a person, under your own fresh signature: their grants end and their certificate stops working."""
    return _suspend(shell, "person", name, reason, key=key, cosign=cosign)


@person.command("teams")
@click.argument("name")
@click.argument("teams", nargs=-1, metavar="[TEAM...]")
@click.option("--reason", required=True, help="why; kept in the audit log")
@step_up_options
@click.pass_obj
def move_person(
    shell: Shell, *, name: str, teams: tuple[str, ...], reason: str, key: Path | None, cosign: Path | None
) -> int:  # fmt: skip
    """Put a person into these teams and into no other, under your own fresh signature: who is on call changes so."""
    message = _rotation(shell, "person", name, teams, reason)
    told = submit(shell, lambda: shell.client.admin.SetTeams, message, key=key, cosign=cosign)
    return _tell_teams(shell, told)


@click.group()
def team() -> None:
    """Teams: whose agents may ask for which targets."""


@team.command("add")
@click.argument("name")
@click.pass_obj
def add_team(shell: Shell, name: str) -> int:
    """Add a team."""
    client = shell.client
    told = client.call(client.admin.AddTeam, admin_pb2.AddTeamRequest(idempotency_key=asking.new_key(), name=name))
    shell.show(told, lambda: f"team {one_line(told.team.name)} added")
    return Exit.OK


@team.command("list")
@click.pass_obj
def list_teams(shell: Shell) -> int:
    """Teams, by name."""
    client = shell.client
    told = client.call(client.admin.ListTeams, admin_pb2.ListTeamsRequest())
    shell.show_all(told.teams, ("TEAM", "ID"), lambda each: (each.name, each.id))
    return Exit.OK


def _list(shell: Shell, kind: str) -> int:
    shell.show_all(
        _identities(shell, kind),
        ("NAME", "ROLE", "TEAMS", "STATUS", "ID", "APPROVAL KEYS"),
        lambda each: (
            each.name,
            each.role,
            ",".join(each.teams),
            each.status,
            each.id,
            " ".join(each.approval_keys),
        ),
    )
    return Exit.OK


def _suspend(
    shell: Shell, kind: str, name: str, reason: str, *, key: Path | None = None, cosign: Path | None = None
) -> int:
    message = admin_pb2.SuspendIdentityRequest(identity_id=named(shell, kind, name), reason=reason)
    if kind == "agent":
        told = shell.client.call(shell.client.admin.SuspendIdentity, message)
    else:
        told = submit(shell, lambda: shell.client.admin.SuspendIdentity, message, key=key, cosign=cosign, about=name)
    shell.show(told, lambda: f"{one_line(told.identity.name)} is {one_line(told.identity.status)}")
    return Exit.OK


def _rotation(
    shell: Shell, kind: str, name: str, teams: tuple[str, ...], reason: str
) -> admin_pb2.SetTeamsRequest:  # fmt: skip
    return admin_pb2.SetTeamsRequest(identity_id=named(shell, kind, name), teams=sorted(set(teams)), reason=reason)


def _tell_teams(shell: Shell, told: admin_pb2.SetTeamsResponse) -> int:
    row = told.identity
    shell.show(told, lambda: f"{one_line(row.name)} is in {one_line(', '.join(row.teams)) or 'no team'}")
    return Exit.OK


def named(shell: Shell, kind: str, name: str) -> str:
    """The id of an identity."""
    found = [each for each in _identities(shell, kind) if name in (each.name, each.id)]
    if not found:
        raise NotFound("not_found", f"no such {kind}", f"grantctl {kind} list")
    return found[0].id


def _identities(shell: Shell, kind: str) -> list[admin_pb2.Identity]:
    client = shell.client
    return list(client.call(client.admin.ListIdentities, admin_pb2.ListIdentitiesRequest(kind=kind)).identities)


def _require_absent(path: Path) -> None:
    """Before the token is made: it is shown only once."""
    if path.exists():
        raise Invalid("file_exists", f"{path} exists", "choose another with --out")


def _write_join(path: Path, told: admin_pb2.AddAgentResponse | admin_pb2.AddPersonResponse, name: str) -> None:
    replace_file(path, Join.of(told.join, name=name, secret=told.join_secret).render())


def _tell_join(shell: Shell, path: Path, told: admin_pb2.AddAgentResponse | admin_pb2.AddPersonResponse) -> None:
    # JSON goes to logs and pipes: the secret stays in the file
    told.join_secret = b""
    shell.show(
        told,
        lambda: (
            f"{one_line(told.identity.name)} added ({one_line(told.identity.id)})\n"
            f"join file {path}, good once until {moment(told.join_expires_at)}: grantctl login --join {path}"
        ),
    )


def _public_line(path: Path) -> str:
    try:
        line = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as wrong:
        raise Invalid("no_key", f"{path} cannot be read as a public key") from wrong
    if "PRIVATE" in line or "\n" in line:
        raise Invalid("bad_key", f"{path} is not a public key file", "give the .pub file")
    return line
