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
from broker.core.records import pae


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
    """Nothing beyond what stands in every target: the host key is among it."""


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
