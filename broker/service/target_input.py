"""A target as an administrator gives it, and whether it can be one. Reads nothing: each kind has its own rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, assert_never

from broker.core.cert import is_address_list
from broker.core.database import PostgresSettings
from broker.core.database import checked as checked_database
from broker.core.errors import invalid
from broker.core.identity import Login
from broker.core.ids import TargetId, is_login, is_name
from broker.core.kinds import SecretSettings, SshSettings, TargetSettings
from broker.core.sshwire import parse_line
from policy.classes import Tier

MAX_LABELS: Final = 32
MAX_LOGINS: Final = 16
SECRET_LOGIN: Final = "value"  # noqa: S105  the one login of a secret
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_LABEL: Final = re.compile(r"[A-Za-z0-9._/-]{1,64}")
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInput:
    """A target as it came in; teams by name."""

    name: str
    host: str
    port: int
    host_key: str
    tier: Tier
    teams: frozenset[str]
    labels: dict[str, str]
    logins: tuple[Login, ...]
    seal_reads: bool
    source_address: str
    settings: TargetSettings
    id: TargetId | None = None
    """Of a new one, the id that its statement names; None = drawn here."""


def checked(given: TargetInput) -> TargetInput:
    """What will be stored: the host key in its one spelling; the logins of a database are its profiles.

    Raises:
        Refusal: it cannot be a target of its kind; the code says why.
    """
    if not is_name(given.name):
        raise invalid("bad_name", "a target's name is lower case letters, digits, '.', '_', '-'")
    if len(given.labels) > MAX_LABELS or not all(
        _LABEL.fullmatch(k) and _LABEL.fullmatch(v) for k, v in given.labels.items()
    ):
        raise invalid("bad_label", "at most 32 labels of letters, digits, '.', '_', '/' and '-'")
    match given.settings:
        case SshSettings() as settings:
            return _host(given, settings)
        case PostgresSettings() as settings:
            return _database(given, settings)
        case SecretSettings() as settings:
            return _secret(given, settings)
        case _:
            assert_never(given.settings)


def check_address(host: str, port: int) -> None:
    """Raises unless these can be a host and a port."""
    if not _HOST.fullmatch(host) or host.startswith("-"):
        raise invalid("bad_host", "not a host name or address")
    if not 1 <= port <= _MAX_PORT:
        raise invalid("bad_port", "a port is 1 to 65535")


def _host(given: TargetInput, settings: SshSettings) -> TargetInput:
    check_address(given.host, given.port)
    key = parse_line(given.host_key)
    if not 1 <= len(given.logins) <= MAX_LOGINS or len({login.name for login in given.logins}) != len(given.logins):
        raise invalid("bad_login", "a target has 1 to 16 different logins", "name the logins that grants may use")
    names = [name for login in given.logins for name in (login.name, login.read_login) if name]
    if settings.krl_login in names:
        raise invalid("bad_login", "the login that keeps the revocation list is nobody else's", "name another one")
    for name in [*names, *([settings.krl_login] if settings.krl_login else [])]:
        if not is_login(name):
            raise invalid("bad_login", "a login is lower case letters, digits, '_' and '-', starting with a letter")
    if given.source_address and not is_address_list(given.source_address):
        raise invalid("bad_source_address", "the source address is an address or a CIDR list")
    return replace(given, host_key=key.line())


def _database(given: TargetInput, settings: PostgresSettings) -> TargetInput:
    check_address(given.host, given.port)
    checked_database(settings)
    _only_of_hosts(given)
    return replace(given, logins=tuple(Login(name=profile.name, read_login="") for profile in settings.profiles))


def _secret(given: TargetInput, settings: SecretSettings) -> TargetInput:
    if given.host or given.port:
        raise invalid("bad_host", "a secret has no address")
    if not is_name(settings.secret):
        raise invalid("bad_name", "a secret's name is lower case letters, digits, '.', '_', '-'")
    _only_of_hosts(given)
    return replace(given, logins=(Login(name=SECRET_LOGIN, read_login=""),))


def _only_of_hosts(given: TargetInput) -> None:
    if given.host_key or given.logins or given.seal_reads or given.source_address:
        raise invalid("wrong_kind", "host key, logins, sealed reads and source address are of SSH hosts only")
