"""`grantctl ssh` and `ssh-proxy`: the stock ssh with everything that it needs, and its way to the gateway."""

from __future__ import annotations

import os
import shlex
import shutil
from datetime import timedelta
from typing import Final

import click

from grantd import asking
from grantd.cli.shell import Shell
from grantd.cli.ssh import proxy
from grantd.cli.ssh.cert import asked, asking_options, place_of
from grantd.cli.ssh.obtain import Obtaining
from grantd.cli.ssh.waiting import Patience
from grantd.errors import Invalid
from grantd.profile import locate

_PORT: Final = 65535
# whatever a person's own ssh_config says for every host, it does not lead this connection elsewhere or lend it anything
_PLAIN: Final = (
    "-o", "ProxyCommand=none", "-o", "ProxyJump=none", "-o", "ForwardAgent=no", "-o", "ForwardX11=no",
    "-o", "IdentityAgent=none", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "PreferredAuthentications=publickey",
)  # fmt: skip


@click.command("ssh", context_settings={"ignore_unknown_options": False})
@click.argument("where", metavar="[LOGIN@]TARGET")
@click.argument("words", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("-t", "tty", is_flag=True, help="a terminal for the command")
@click.option("--ssh-arg", "more", metavar="WORD", multiple=True, help="pass a word to ssh; may be repeated")
@asking_options
@click.pass_obj
def ssh(
    shell: Shell,
    *,
    where: str,
    words: tuple[str, ...],
    tty: bool,
    more: tuple[str, ...],
    wait_for: timedelta | None,
    ceiling: str | None,
    flags: tuple[str, ...],
    ttl: timedelta,
    reason: str,
) -> int:
    """Ask for access if there is none, then be the stock ssh: `grantctl ssh deploy@web1 -- df -h`.

    Without --ceiling a new grant is asked for that reaches as far as COMMAND does. One word after `--` is the command
    line as it stands; several are an argument list and are quoted. Exit status: ssh's, which is the command's own.
    """
    there = place_of(shell, where, "", "")
    line = words[0] if len(words) == 1 else shlex.join(words)
    flags = flags if words else (*flags, "shell")
    ceiling = ceiling or (_class(shell, line) if words else None)
    ask = asked(there, ceiling=ceiling, flags=flags, ttl=ttl, reason=reason)
    files = Obtaining(shell, there, ask).files(Patience.of_streams(wait_for))
    program = shutil.which("ssh")
    if program is None:
        raise Invalid("no_ssh", "there is no ssh on this machine", "install OpenSSH's client, or use grantctl run")
    options = [*files.options(), *_PLAIN, *(["-t"] if tty else []), *more]
    shell.close()
    os.execv(program, ["ssh", *options, f"{files.user}@{files.host}", *(["--", line] if words else [])])  # noqa: S606  no shell: words go to ssh as they are


@click.command("ssh-proxy")
@click.argument("host", metavar="HOST")
@click.argument("port", metavar="[PORT]", default="22")
@click.argument("user", metavar="[USER]", default="")
@click.option("--fdpass", is_flag=True, help="hand the connected socket to ssh (ProxyUseFdpass yes)")
@click.pass_obj
def ssh_proxy(shell: Shell, host: str, port: str, user: str, *, fdpass: bool) -> int:
    """Connect standard input and output to the gateway, for ssh's ProxyCommand. Exit 255 where that fails.

    HOST, PORT and USER are what ssh was asked for; where the gateway is, the last certificate told.
    """
    if not (port.isascii() and port.isdecimal() and 0 < int(port) <= _PORT):
        raise click.UsageError("PORT is a number")
    return proxy.run(locate(shell.profile_name), host, user, fdpass=fdpass)


def _class(shell: Shell, line: str) -> str | None:
    """How far a command reaches; what cannot be told is asked for as little, and the broker says no to it."""
    word = asking.class_word(shell.client.classify(os.fsencode(line)).command_class)
    return word if word in asking.CLASSES else None
