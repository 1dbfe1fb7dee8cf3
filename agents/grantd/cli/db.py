"""`grantctl db`: a role of one's own in a database, as files that libpq reads. The password is in one of them, 0600.

It stands in no argument and in no environment: what is printed names the files alone.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from grantd import asking
from grantd.cli.exits import Exit
from grantd.cli.shell import DURATION, Shell
from grantd.cli.visible import one_line
from grantd.database import Database
from grantd.errors import Invalid
from grantd.profile import replace_file

_SERVICE: Final = "grantd"
_FILE: Final = "service.conf"


@click.group()
def db() -> None:
    """Databases: connect with a role that ends with its grant."""


@db.command("open")
@click.argument("target")
@click.argument("login", metavar="PROFILE")
@click.option(
    "--ceiling", type=click.Choice(asking.CLASSES), default="read", show_default=True, help="class to ask for"
)
@click.option("--ttl", type=DURATION, default="15m", show_default=True, help="from first use on")
@click.option("--reason", default="", help="why; shown to the approver as your words")
@click.option("--ticket", default="", help="ticket reference")
@click.option("--grant", "grant_id", help="a grant that you have, instead of asking for one")
@click.option("--wait-for", type=DURATION, help="wait at most this long for an approver")
@click.pass_obj
def open_database(
    shell: Shell,
    *,
    target: str,
    login: str,
    ceiling: str,
    ttl: timedelta,
    reason: str,
    ticket: str,
    grant_id: str | None,
    wait_for: timedelta | None,
) -> int:
    """Ask for PROFILE on TARGET, make the role, and print how to connect. Exit 75: an approver has to decide first."""
    if grant_id is None:
        if not reason:
            raise click.UsageError("give --reason, or --grant")
        asked = shell.client.request_access(target, login, ceiling=ceiling, ttl=ttl, reason=reason, ticket=ticket)
        if not asking.is_decided(asked):
            shell.say(f"{asked.id} waits for an approver")
            asked = shell.client.wait_request(asked.id, wait_for)
        if not asking.is_decided(asked):
            return Exit.PENDING
        grant_id = asking.require_grant(asked)
    made = shell.client.issue_database(grant_id)
    root = shell.client.profile.directory / "db"
    _forget_ended(root)
    file = write(root / made.credential_id, made)
    facts = {
        "service_file": str(file),
        "service": _SERVICE,
        "database": made.name,
        "user": made.user,
        "grant": grant_id,
        "not_after": made.not_after.isoformat(),
    }
    until = f"# until {made.not_after.astimezone():%H:%M:%S}, in any program that uses libpq"
    click.echo(json.dumps(facts) if shell.as_json else f"{command(file)}\n{until}")
    return Exit.OK


def write(directory: Path, made: Database) -> Path:
    """The service file of a role, its CA and the time of its end beside it; all 0600 in a directory 0700."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, file = directory / "ca.pem", directory / _FILE
    lines = {
        "host": made.host,
        "port": str(made.port),
        "dbname": made.name,
        "user": made.user,
        "password": made.password,
        "sslmode": "verify-full",
        "sslrootcert": str(ca),
        "channel_binding": "require",
        "gssencmode": "disable",
    }
    for name, value in lines.items():
        if not value.isprintable() or value != value.strip():
            raise Invalid("bad_database", f"the broker named a {name} that a service file cannot hold")
    replace_file(ca, made.ca.encode())
    replace_file(directory / "lease.json", json.dumps({"not_after": made.not_after.timestamp()}).encode())
    replace_file(file, "".join([f"[{_SERVICE}]\n", *(f"{name}={value}\n" for name, value in lines.items())]).encode())
    return file


def command(file: Path) -> str:
    """A command line for psql, to be pasted into a POSIX shell: it names the file, and nothing that is in it."""
    return f"PGSERVICEFILE={shlex.quote(str(file))} psql service={_SERVICE}"


def _forget_ended(root: Path) -> None:
    """Files of leases that are over are removed: nothing that they hold works any more."""
    for directory in _directories(root):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            lease = json.loads((directory / "lease.json").read_bytes())
            if datetime.now(UTC).timestamp() > float(lease["not_after"]):
                shutil.rmtree(directory)


def _directories(root: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (each for each in sorted(root.iterdir()) if each.is_dir() and one_line(each.name) == each.name)
