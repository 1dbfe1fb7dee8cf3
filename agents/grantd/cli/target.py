"""`grantctl target`: what access is to. A host key is pinned by a person who compared it, never taken on trust."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path
from typing import Final

import click

from grantd import asking
from grantd.cli import database_file
from grantd.cli.change import step_up_options, submit
from grantd.cli.exits import Exit
from grantd.cli.shell import Shell, word
from grantd.cli.visible import one_line, readable
from grantd.errors import Invalid
from grantd.v1 import admin_pb2
from grantd.v1.admin_pb2 import CheckTargetResponse, SshTarget, Target, TargetLogin
from grantd.v1.options_pb2 import AutonomyTier

_TIERS: Final = {"approval": 1, "trusted": 2, "closed-loop": 3}
_PORTS: Final = {"ssh": 22, "postgres": 5432}
_MAX_PORT: Final = 65535
_MAX_PASSWORD: Final = 1025


@click.group()
def target() -> None:
    """Machines that grants are for."""


@target.command("add")
@click.argument("name")
@click.argument("address", metavar="HOST[:PORT]")
@click.option("--kind", type=click.Choice(("ssh", "postgres")), default="ssh", show_default=True)
@click.option("--settings", type=click.Path(path_type=Path), help="of a database: a TOML file (docs/databases.md)")
@click.option("--login", "logins", multiple=True, metavar="LOGIN[=READ_LOGIN]", help="of a host; may be repeated")
@click.option("--tier", type=click.Choice(tuple(_TIERS)), default="approval", show_default=True)
@click.option("--team", "teams", multiple=True, required=True, help="may be repeated")
@click.option("--host-key", type=click.Path(path_type=Path), help="the host's public key file")
@click.option("--scan", is_flag=True, help="look at the key that the address shows, and compare it")
@click.option("--fingerprint", help="with --scan: the fingerprint that you expect")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="for policies; may be repeated")
@click.option("--seal-reads", is_flag=True, help="every read gets its own certificate")
@click.option("--krl-login", default="", help="the host's login that keeps its revocation list, and does nothing else")
@click.option("--source-address", default="", help="the broker's address as the target sees it")
@click.option("--check/--no-check", default=True, show_default=True, help="look at the target from outside afterwards")
@step_up_options
@click.pass_obj
def add(
    shell: Shell,
    *,
    name: str,
    address: str,
    kind: str,
    settings: Path | None,
    logins: tuple[str, ...],
    tier: str,
    teams: tuple[str, ...],
    host_key: Path | None,
    scan: bool,
    fingerprint: str | None,
    labels: tuple[str, ...],
    seal_reads: bool,
    krl_login: str,
    source_address: str,
    check: bool,
    key: Path | None,
    cosign: Path | None,
) -> int:
    """Add or change a target, under a fresh signature; prints the lines that its sshd needs."""
    _must_fit(kind, logins, settings, krl_login)
    host, port = split_address(address, _PORTS[kind])
    message = admin_pb2.PutTargetRequest(
        idempotency_key=asking.new_key(),
        target=Target(
            name=name,
            host=host,
            port=port,
            host_key="" if settings else _host_key(shell, host, port, host_key, scan=scan, fingerprint=fingerprint),
            postgres=database_file.read(settings) if settings else None,
            ssh=SshTarget(krl_login=krl_login) if krl_login else None,
            tier=AutonomyTier.ValueType(_TIERS[tier]),
            teams=teams,
            labels=_labels(labels),
            logins=[_login(each) for each in logins],
            seal_reads=seal_reads,
            source_address=source_address,
        ),
    )
    told = submit(shell, lambda: shell.client.admin.PutTarget, message, key=key, cosign=cosign)
    shell.show(told, lambda: _added(told))
    if check and not settings:  # a database lets the broker in once it has a password
        _check_once_in_place(shell, name)
    return Exit.OK


@target.command("list")
@click.pass_obj
def list_targets(shell: Shell) -> int:
    """Targets, by name."""
    client = shell.client
    told = client.call(client.admin.ListTargets, admin_pb2.ListTargetsRequest())
    shell.show_all(
        told.targets,
        ("TARGET", "ADDRESS", "TIER", "LOGINS", "TEAMS", "ID"),
        lambda each: (
            each.name,
            f"{each.host}:{each.port}",
            word(AutonomyTier.Name(each.tier), "AUTONOMY_TIER_").replace("_", "-"),
            ",".join(login.name for login in each.logins),
            ",".join(each.teams),
            each.id,
        ),
    )
    return Exit.OK


@target.command("doctor")
@click.argument("name")
@click.option("--login", default="", help="which login [the first]")
@click.pass_obj
def doctor(shell: Shell, name: str, login: str) -> int:
    """Look at a target's sshd from outside, and say what to change. Exit 1 if something is wrong.

    Host key and its certificate, algorithms, trust, principals, other logins, forced commands, forwarding, agent, X11,
    tunnels, environment, sessions, passwords, clock, start-up files, revocation list, and while the egress CA's key
    changes, whether it knows the next one. What cannot be seen is said to be unseen.
    """
    told = _check(shell, name, login)
    return Exit.OK if all(finding.ok for finding in told.findings) else Exit.FAILURE


@target.command("password")
@click.argument("name")
@click.option("--file", type=click.Path(path_type=Path), help="read it from a file")
@click.option("--key", type=click.Path(path_type=Path), help="approval key, if not the profile's")
@click.pass_obj
def set_password(shell: Shell, *, name: str, file: Path | None, key: Path | None) -> int:
    """Put the broker's own password for a database into its vault; asked for without echo, or read from a file."""
    message = admin_pb2.SetTargetPasswordRequest(target=name, password=_password(file))
    told = submit(shell, lambda: shell.client.admin.SetTargetPassword, message, key=key, cosign=None)
    shell.show(told, lambda: f"the password of {one_line(name)} is in the vault")
    return Exit.OK


target.add_command(doctor, "check")  # its earlier name


@target.command("scan")
@click.argument("address", metavar="HOST[:PORT]")
@click.pass_obj
def scan_address(shell: Shell, address: str) -> int:
    """The host key that an address shows right now. Compare it on the host before you trust it."""
    told = _scan(shell, *split_address(address))
    shell.show(told, lambda: f"{one_line(told.fingerprint)}\n{one_line(told.host_key)}")
    return Exit.OK


def split_address(address: str, port_if_none: int = _PORTS["ssh"]) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port` or a bare v6 address. Raises click's usage error."""
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        port = rest.removeprefix(":") if bracket else "?"
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    else:
        host, port = address, ""
    if not port:
        return host, port_if_none
    if not host or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
        raise click.UsageError(f"{one_line(address)} is not HOST or HOST:PORT")
    return host, int(port)


def _must_fit(kind: str, logins: tuple[str, ...], settings: Path | None, krl_login: str) -> None:
    """What is given is of that kind of target. Raises click's usage error."""
    if (kind == "ssh") is not bool(logins) or (kind == "postgres") is not (settings is not None):
        raise click.UsageError("a host needs --login, a database --kind postgres and --settings FILE")
    if krl_login and kind != "ssh":
        raise click.UsageError("--krl-login is of hosts alone")


def _host_key(shell: Shell, host: str, port: int, file: Path | None, *, scan: bool, fingerprint: str | None) -> str:
    if (file is None) is not scan:
        raise click.UsageError("give either --host-key FILE or --scan")
    if file is not None:
        try:
            return " ".join(file.read_text().split()[:2])
        except (OSError, UnicodeDecodeError) as wrong:
            raise Invalid("no_host_key", f"{file} cannot be read as a public key") from wrong
    told = _scan(shell, host, port)
    shown = fingerprint_of(told.host_key)  # of the key that will be pinned, whatever stands beside it
    if fingerprint is not None:
        if fingerprint != shown:
            raise Invalid("other_host_key", f"{host} shows {shown}, not {fingerprint}", "find out why")
        return told.host_key
    if not sys.stdin.isatty():
        raise Invalid("no_terminal", "comparing a host key needs a terminal", "give --host-key or --fingerprint")
    shell.say(f"{one_line(host)}:{port} shows {one_line(shown)}")
    shell.say("On the host itself:  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    if not click.confirm("Is it the same?", default=False, err=True):
        raise Invalid("host_key_refused", "the host key was not confirmed; nothing was changed")
    return told.host_key


def _password(file: Path | None) -> bytes:
    """Never an argument, never the environment: both are open to others."""
    if file is not None:
        try:
            return file.read_bytes().removesuffix(b"\n")
        except OSError as wrong:
            raise Invalid("no_password", f"{file} cannot be read: {wrong.strerror}") from wrong
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline(_MAX_PASSWORD).removesuffix(b"\n")
    given: str = click.prompt("Password of the broker's role", hide_input=True, err=True)
    return given.encode()


def fingerprint_of(line: str) -> str:
    """`SHA256:...` of an OpenSSH public key line. Raises Invalid."""
    try:
        digest = hashlib.sha256(base64.b64decode(line.split()[1], validate=True)).digest()
    except (IndexError, ValueError) as wrong:
        raise Invalid("bad_public_key", "the broker's answer is no host key") from wrong
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _scan(shell: Shell, host: str, port: int) -> admin_pb2.ScanHostKeyResponse:
    client = shell.client
    return client.call(client.admin.ScanHostKey, admin_pb2.ScanHostKeyRequest(host=host, port=port))


def _check(shell: Shell, name: str, login: str) -> CheckTargetResponse:
    client = shell.client
    told = client.call(client.admin.CheckTarget, admin_pb2.CheckTargetRequest(target=name, login=login))
    shell.show(told, lambda: "\n".join(_finding(each) for each in told.findings))
    return told


def _check_once_in_place(shell: Shell, name: str) -> None:
    if sys.stdin.isatty() and not shell.as_json:
        click.prompt("Press Enter when they are in place", default="", show_default=False, err=True)
    _check(shell, name, "")


def _finding(finding: admin_pb2.TargetFinding) -> str:
    mark = click.style("ok ", fg="green") if finding.ok else click.style("BAD", fg="red", bold=True)
    mark = click.style("see", fg="yellow") if finding.ok and finding.advice else mark
    advice = f"\n      {one_line(finding.advice)}" if finding.advice else ""
    return f"  {mark} {one_line(finding.what)}{advice}"


def _added(told: admin_pb2.PutTargetResponse) -> str:
    if told.target.HasField("postgres"):
        name = one_line(told.target.name)
        return f"target {name} is {one_line(told.target.id)}; then: grantctl target password {name}"
    head = f"target {one_line(told.target.name)} is {one_line(told.target.id)}; its sshd needs:"
    return f"{head}\n\n{readable(told.sshd_lines)}"


def _login(text: str) -> TargetLogin:
    name, _, read_login = text.partition("=")
    return TargetLogin(name=name, read_login=read_login)


def _labels(pairs: tuple[str, ...]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if not all(separator and name for name, separator, _ in split):
        raise click.UsageError("a label is NAME=VALUE")
    return {name: value for name, _, value in split}
