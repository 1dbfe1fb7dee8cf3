"""`grantctl ssh-config`: an include file for ~/.ssh/config, so that plain ssh, scp, rsync and git go by the broker.

`Match exec` and ProxyCommand run a shell. Only names and paths of harmless characters are written here; what ssh puts
in at run time (%h, %r) stands in single quotes, and names that could end those are caught before.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from grantd import asking
from grantd.cli.exits import Exit
from grantd.cli.shell import DURATION, Shell
from grantd.cli.ssh import kept, place
from grantd.cli.ssh.cert import FlagType
from grantd.cli.visible import one_line
from grantd.errors import Invalid
from grantd.profile import Profile, replace_file
from grantd.v1 import admin_pb2

_PATH: Final = re.compile(r"/[\w ./+,:@=-]*")
"""No quote, backslash, %, $, wildcard or control character: harmless to ssh_config and inside a shell's quotes."""
_NOT_OURS: Final = frozenset({"localhost"})
# `*` has to be there: a list of patterns that only exclude matches nothing
_HARMLESS: Final = r"!*'*,!*\*,!*!*"
_SCRIPT: Final = """\
# Made by `grantctl ssh-config`; make it anew rather than change it. What it stands for: docs/ssh.md.
{login}Match host "{hosts},{harmless}" user "*,{harmless}" exec "{cert}"
    CertificateFile "{at}/%r@%h/id_ed25519-cert.pub"
    IdentityFile "{at}/%r@%h/id_ed25519"

Match host "{hosts},{harmless}" user "*,{harmless}"
    Include "{root}/gateway.conf"
    UserKnownHostsFile "{root}/known_hosts"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    VerifyHostKeyDNS no
    CheckHostIP no
    ProxyCommand {proxy}
    ProxyUseFdpass yes
    PreferredAuthentications publickey
    PubkeyAuthentication yes
    IdentitiesOnly yes
    IdentityFile none
    IdentityAgent none
    ForwardAgent no
    ForwardX11 no
    ForwardX11Trusted no
    GSSAPIAuthentication no
    Tunnel no
    Compression no
    CanonicalizeHostname no
    ServerAliveInterval 30

# whatever else bears such a name leads nowhere
Match host "{hosts}"
    ProxyCommand false
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What somebody chose, all of it checked by `checked`."""

    suffix: str
    hosts: tuple[str, ...]
    login: str
    ceiling: str
    flags: tuple[str, ...]
    ttl: timedelta


@click.command("ssh-config")
@click.option("--suffix", default=place.SUFFIX, show_default=True, help="`ssh TARGET.SUFFIX` goes by the broker")
@click.option("--host", "hosts", multiple=True, metavar="TARGET", help="`ssh TARGET` too; may be repeated")
@click.option("--listed", is_flag=True, help="`ssh TARGET` for each target that the broker lists (for people)")
@click.option("--login", default="", help="who you are there where ssh is told no user [the local user's name]")
@click.option(
    "--ceiling", type=click.Choice(asking.CLASSES), default="write", show_default=True, help="of a grant asked for"
)
@click.option("--flag", "flags", type=FlagType(), multiple=True, help="of a grant asked for; may be repeated")
@click.option("--ttl", type=DURATION, default="15m", show_default=True, help="of a grant asked for, from first use on")
@click.option("--write", is_flag=True, help="write it beside the profile, and one Include line into ~/.ssh/config")
@click.option(
    "--into", type=click.Path(path_type=Path), default=Path("~/.ssh/config"), show_default=True,
    help="the ssh_config that gets the Include line",
)  # fmt: skip
@click.pass_obj
def ssh_config(
    shell: Shell,
    *,
    suffix: str,
    hosts: tuple[str, ...],
    listed: bool,
    login: str,
    ceiling: str,
    flags: tuple[str, ...],
    ttl: timedelta,
    write: bool,
    into: Path,
) -> int:
    """Print an include file for ~/.ssh/config (or write it), so that `ssh deploy@web1.grantd` just works.

    It takes only names that end in SUFFIX, and those that you name. Where there is no grant, one is asked for.
    """
    profile = Profile.load(shell.profile_name)
    names = (*hosts, *(_listed(shell) if listed else ()))
    choices = Choices(suffix=suffix, hosts=names, login=login, ceiling=ceiling, flags=flags, ttl=ttl)
    text = render(choices, profile=profile.directory, program=_program())
    if not write:
        click.echo(text, nl=False)
        return Exit.OK
    path = kept.root_of(profile.directory) / "config"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(path, text.encode())
    added = include(into.expanduser(), path)
    shell.say(f"wrote {path}" + (f" and its Include line into {into}" if added else f"; {into} includes it already"))
    return Exit.OK


def render(choices: Choices, *, profile: Path, program: Path) -> str:
    """The file's text. Raises Invalid where a name or path holds more than it may."""
    chosen = checked(choices)
    for path in (profile, program):
        if _PATH.fullmatch(str(path)) is None:
            raise Invalid(
                "bad_path", f"{path} cannot be written into a ssh_config", "use a path without quotes, % or $"
            )
    hosts = [*([f"*.{chosen.suffix}", chosen.suffix] if chosen.suffix else ()), *chosen.hosts]
    words = [f"'{program}'", "--profile", f"'{profile}'"]
    options = ["--suffix", chosen.suffix] if chosen.suffix else []
    options += ["--ceiling", chosen.ceiling, *(word for flag in chosen.flags for word in ("--flag", f"'{flag}'"))]
    options += ["--ttl", f"{int(chosen.ttl.total_seconds())}s"]
    login = f'Match host "{",".join(hosts)}"\n    User {chosen.login}\n\n' if chosen.login else ""
    return _SCRIPT.format(
        login=login,
        hosts=",".join(hosts),
        harmless=_HARMLESS,
        cert=" ".join([*words, "ssh-cert", "--quiet", *options, "--", "'%h'", "'%r'"]),
        proxy=" ".join([*words, "ssh-proxy", "--fdpass", "--", "'%h'", "'%p'", "'%r'"]),
        at=f"{kept.root_of(profile)}/at",
        root=kept.root_of(profile),
    )


def checked(choices: Choices) -> Choices:
    """The choices, if each is a name and nothing more: they become ssh_config and words of a shell. Raises Invalid."""
    if choices.suffix and not place.is_suffix(choices.suffix):
        raise Invalid("bad_suffix", "the suffix is not a name of lower-case labels", "use one such as grantd")
    if choices.login and not place.is_login(choices.login):
        raise Invalid("bad_login", f"{choices.login!r} is not a login")
    for host in choices.hosts:
        if not place.is_target(host):
            raise Invalid("bad_host", f"{host!r} is not a target's name")
    if not choices.suffix and not choices.hosts:
        raise Invalid("no_hosts", "neither a suffix nor a host: nothing would go by the broker")
    return choices


def include(config: Path, path: Path) -> bool:
    """Put one Include line first in a ssh_config, which keeps its mode; whether it was missing. Raises Invalid."""
    real = config.resolve()  # people keep it elsewhere and link to it
    line = f'Include "{path}"'
    try:
        before = real.read_text() if real.exists() else ""
        mode = real.stat().st_mode & 0o777 if real.exists() else 0o600
        if line in before.splitlines():
            return False
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(real, f"{line}\n\n{before}".encode())
        real.chmod(mode)
    except (OSError, UnicodeDecodeError) as wrong:
        raise Invalid("bad_ssh_config", f"{config} cannot be changed", f"put this first into it: {line}") from wrong
    return True


def _listed(shell: Shell) -> Sequence[str]:
    """Names of targets that capture no other host: without a dot, and not this machine's own."""
    client = shell.client
    told = client.call(client.admin.ListTargets, admin_pb2.ListTargetsRequest())
    found = []
    for each in told.targets:
        if place.is_target(each.name) and "." not in each.name and each.name not in _NOT_OURS:
            found.append(each.name)
        else:
            shell.say(f"grantctl: {one_line(each.name)} could be another host's name and is left out; --host takes it")
    return found


def _program() -> Path:
    """grantctl itself, as this process was started: the same environment later."""
    started = Path(sys.argv[0])
    found = started.absolute() if started.is_file() else Path(shutil.which("grantctl") or "grantctl")
    if not found.is_absolute():
        raise Invalid("no_program", "this grantctl cannot be found again", "start it by its path")
    return found
