"""`grantctl login` and `whoami`: becoming and being somebody at a broker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from grantd import enrolment
from grantd.cli import signing
from grantd.cli.shell import Shell, facts, moment, now
from grantd.enrolment import Join
from grantd.errors import Invalid
from grantd.profile import Profile, locate

_MAX_JOIN_BYTES: Final = 64 * 1024


@click.command()
@click.option("--join", metavar="FILE|-", help="redeem a join file, from `agent add` or `person add`")
@click.option(
    "--key", type=click.Path(path_type=Path), help="approval key: a key file, or the .pub of a key in ssh-agent"
)
@click.pass_obj
def login(shell: Shell, join: str | None, key: Path | None) -> int:
    """Get a client certificate: with a join file the first time, by the approval key afterwards."""
    profile = _sign_in(shell, key) if join is None else _enrol(shell, join, key)
    shell.say(f"signed in; the profile is {profile.directory}")
    return _tell(shell)


@click.command()
@click.pass_obj
def whoami(shell: Shell) -> int:
    """Who the broker takes you for, and until when."""
    return _tell(shell)


def _tell(shell: Shell) -> int:
    told = shell.client.whoami()
    shell.show(
        told,
        lambda: facts(
            {
                "name": told.name,
                "kind": told.kind,
                "role": told.role,
                "teams": ", ".join(told.teams),
                "tenant": told.tenant,
                "id": told.identity_id,
                "certificate until": moment(told.certificate_not_after),
                "broker": f"{shell.client.profile.description.address}, version {told.server_version}",
            }
        ),
    )
    return 0


def _enrol(shell: Shell, join: str, key: Path | None) -> Profile:
    raw = sys.stdin.buffer.read(_MAX_JOIN_BYTES) if join == "-" else _read(Path(join))
    profile = enrolment.enrol(
        Join.parse(raw),
        locate(shell.profile_name),
        approval_key=str(key.expanduser().absolute()) if key else "",
    )
    if join != "-":
        Path(join).unlink(missing_ok=True)  # it works once: what is left of it is only a risk to explain
    return profile


def _sign_in(shell: Shell, key: Path | None) -> Profile:
    profile = Profile.load(shell.profile_name)
    signer = signing.find(profile, key)
    profile = enrolment.sign_in(profile, signer.sign, now=now())
    return profile.with_approval_key(key.expanduser().absolute()) if key else profile


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()[:_MAX_JOIN_BYTES]
    except OSError as missing:
        raise Invalid("no_join_file", f"{path} cannot be read: {missing.strerror}") from missing
