"""What kinds of targets there are, and what each needs to be known by beyond a name, a tier and teams.

A closed union: a kind is added here, and every match over it says what is missing. Holds no secret: those are named by
the target's id in the vault.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, assert_never

from broker.core.database import PostgresSettings
from broker.core.errors import invalid
from broker.core.records import pae
from policy.classes import CommandClass


class TargetKind(StrEnum):
    """What access to a target is made of; never changes in the life of a target."""

    SSH = "ssh"
    """A host: commands through the gateway, each decided."""
    POSTGRES = "postgres"
    """A database: a role of its own for each credential."""
    SECRET = "secret"  # noqa: S105  the name of a kind
    """One value of the vault, handed out once a credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """What stands in no target of another kind; the host key stands in every one."""

    krl_login: str
    """The login that keeps the target's revocation list, of no use for anything else; empty where none is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSettings:
    """A value in the vault."""

    secret: str
    """Its name there."""


TargetSettings: TypeAlias = SshSettings | PostgresSettings | SecretSettings


def kind_of(settings: TargetSettings) -> TargetKind:
    """The kind that settings belong to."""
    match settings:
        case SshSettings():
            return TargetKind.SSH
        case PostgresSettings():
            return TargetKind.POSTGRES
        case SecretSettings():
            return TargetKind.SECRET
        case _:
            assert_never(settings)


def pin_of(settings: PostgresSettings | SecretSettings, *, host: str, port: int) -> bytes:
    """SHA-256, 32 bytes, of all that says what a grant on this target gives: it stands where a host's key does.

    Whoever approves signs over it, and a grant under another one is refused.
    """
    match settings:
        case PostgresSettings():
            parts = [b"grantd/postgres/v1", host.encode(), str(port).encode(), *settings.parts()]
        case SecretSettings():
            parts = [b"grantd/secret/v1", settings.secret.encode()]
        case _:
            assert_never(settings)
    return hashlib.sha256(pae(parts)).digest()


def must_fit(settings: TargetSettings, *, login: str, ceiling: CommandClass, flags: frozenset[str]) -> None:
    """Raises unless a request for `login` can be one on such a target: no flags of a host's, a high enough class.

    Raises:
        Refusal: `wrong_kind`, `profile_above_ceiling`.
    """
    level = level_of(settings, login)
    if level is None:
        return
    if flags:
        raise invalid("wrong_kind", "flags are of SSH hosts only", "ask without flags")
    if level > ceiling:
        raise invalid(
            "profile_above_ceiling", f"{login} is of class {level.word} there", f"ask for the class {level.word}"
        )


def level_of(settings: TargetSettings, login: str) -> CommandClass | None:
    """The class that all use of a grant on such a target counts as; None where each command is decided by itself."""
    match settings:
        case SshSettings():
            return None
        case PostgresSettings():
            return settings.profile(login).level
        case SecretSettings():
            return CommandClass.EXECUTE  # what a value opens is not known
        case _:
            assert_never(settings)


def place_of(settings: TargetSettings, host: str, port: int) -> tuple[str, ...]:
    """Where a credential was made: while one may be there, none of this changes. Nothing for an SSH host."""
    match settings:
        case SshSettings():
            return ()
        case PostgresSettings(database=database, admin=admin):
            return (host, str(port), database, admin)
        case SecretSettings(secret=secret):
            return (secret,)
        case _:
            assert_never(settings)
