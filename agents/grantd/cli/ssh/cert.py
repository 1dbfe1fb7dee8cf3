"""`grantctl ssh-cert`: key and certificate for a stock ssh, by the grant that there is or one that is asked for."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import click

from grantd import asking
from grantd.cli import sshfiles
from grantd.cli.exits import Exit
from grantd.cli.shell import DURATION, Shell, moment
from grantd.cli.ssh import kept, place
from grantd.cli.ssh.kept import Wish
from grantd.cli.ssh.obtain import Asking, Obtaining, as_answer, own_logins
from grantd.cli.ssh.place import BadPlace, Place
from grantd.cli.ssh.waiting import Patience
from grantd.errors import Invalid
from grantd.v1.access_pb2 import IssueCredentialResponse

REASON: Final = "GRANTCTL_REASON"
"""Environment variable: why, where nobody can be asked for it."""
DEFAULT_CEILING: Final = "read"
FLAG: Final = re.compile(r"[a-z][a-z_-]{0,31}(=[A-Za-z0-9./:\[\]_@-]{1,255})?")
"""What a grant's flag looks like; nothing in it means anything to a shell or to ssh_config."""
C = TypeVar("C", bound=Callable[..., Any])


class FlagType(click.ParamType[str]):
    """`sftp`, `shell`, `forward=HOST:PORT`."""

    name = "flag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401  click's
        if not isinstance(value, str) or FLAG.fullmatch(value) is None:
            self.fail("that is not a flag of a grant", param, ctx)
        return value


def asking_options(command: C) -> C:
    """What is asked for, for every command that may have to ask."""
    for option in (
        click.option("--reason", default="", help=f"why; shown to the approver as your words [${REASON}]"),
        click.option("--ttl", type=DURATION, default="15m", show_default=True, help="from first use on"),
        click.option("--flag", "flags", type=FlagType(), multiple=True, help="more than commands; may be repeated"),
        click.option("--ceiling", type=click.Choice(asking.CLASSES), help="highest class of command [read]"),
        click.option("--wait-for", type=DURATION, help="wait at most this long for an approver"),
    ):
        command = option(command)
    return command


def asked(where: Place, *, ceiling: str | None, flags: tuple[str, ...], ttl: timedelta, reason: str) -> Asking:
    """What these options ask for."""
    return Asking(
        wish=Wish(ceiling or "", tuple(sorted(set(flags)))),
        ceiling=ceiling or DEFAULT_CEILING,
        ttl=ttl,
        reason=reason or os.environ.get(REASON) or f"ssh to {where.target} as {where.login}",
    )


@click.command("ssh-cert")
@click.argument("where", metavar="GRANT|[LOGIN@]TARGET")
@click.argument("user", metavar="[USER]", default="")
@click.option("--suffix", default="", help="what names of targets end in, after a dot")
@click.option("-q", "--quiet", is_flag=True, help="print nothing but what a person has to know")
@asking_options
@click.pass_obj
def ssh_cert(
    shell: Shell,
    *,
    where: str,
    user: str,
    suffix: str,
    quiet: bool,
    wait_for: timedelta | None,
    ceiling: str | None,
    flags: tuple[str, ...],
    ttl: timedelta,
    reason: str,
) -> int:
    """Have a key and a certificate ready for a stock ssh, and print its command line.

    With a GRANT it is that one's. Else a grant of yours for LOGIN on TARGET is used, and asked for where there is none:
    on a terminal this waits for the approver, anywhere else it ends with 75 and goes on when it is called again.
    """
    if where.startswith("gr_") and not user:
        return write_files(shell, where)
    there = place_of(shell, where, user, suffix)
    ask = asked(there, ceiling=ceiling, flags=flags, ttl=ttl, reason=reason)
    files = Obtaining(shell, there, ask).files(Patience.of_streams(wait_for))
    profile = shell.client.profile.directory
    if user:
        kept.link(profile, there, user, where)
    if not quiet:
        shell.show(as_answer(files, kept.directory_of(profile, there)), files.command)
    return Exit.OK


def place_of(shell: Shell, where: str, user: str, suffix: str) -> Place:
    """The place that somebody named; without a login, the one for which there is a grant. Raises Invalid."""
    if suffix and not place.is_suffix(suffix):
        raise Invalid("bad_suffix", "the suffix is not a name of lower-case labels")
    login, _, host = where.rpartition("@")
    if login and user:
        raise Invalid("two_users", "name the login once")
    try:
        return place.parse(host, user or login or _login(shell, host), suffix=suffix)
    except BadPlace as wrong:
        raise Invalid("bad_place", str(wrong), "write LOGIN@TARGET") from wrong


def _login(shell: Shell, target: str) -> str:
    """The one login for which there is a grant; else the local user's name, as ssh does."""
    found = own_logins(shell, target)
    if len(found) > 1:
        raise Invalid("which_login", f"you have grants for several logins on {target}", "write LOGIN@TARGET")
    return found.pop() if found else getpass.getuser()


def write_files(shell: Shell, grant_id: str) -> int:
    """Files of one grant in a directory of its own; prints the command line."""
    client = shell.client
    told: list[IssueCredentialResponse] = []

    def issue(public_key: bytes) -> IssueCredentialResponse:
        told.append(client.issue_ssh(grant_id, public_key))
        return told[-1]

    files = sshfiles.write(kept.root_of(client.profile.directory) / client.grant(grant_id).id, issue)
    shell.say(f"the certificate works until {moment(told[-1].not_after)}, at the gateway only")
    shell.show(told[-1], files.command)
    return Exit.OK
