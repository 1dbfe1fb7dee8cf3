"""Credentials beyond SSH, as services see them: what is made on the other side for a grant, and taken away with it.

An issuer is one kind of target. The service keeps the row (PLANNED, ISSUED, ENDED) and the audit; an issuer makes and
ends, by the credential's id alone, so that every call can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeAlias

from broker.core.identity import Target
from broker.core.ids import CredentialId, GrantId, IdentityId, TenantId
from broker.service.ports.targets import Finding
from policy.classes import CommandClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One credential from its plan to its end, and what it is for."""

    tenant: TenantId
    credential: CredentialId
    grant: GrantId
    identity: IdentityId
    target: Target
    login: str
    """The login of the grant: on a database its profile."""
    ceiling: CommandClass
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseWish:
    """What a caller brings for a role in a database."""

    verifier: str
    """`SCRAM-SHA-256$...`: made by the caller of a password that never leaves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretWish:
    """What a caller brings for a value of the vault."""

    public_key: bytes
    """X25519, 32 bytes, of this one call: what comes back is sealed to it."""


CredentialWish: TypeAlias = DatabaseWish | SecretWish


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be made. Nothing of it is secret."""

    name: str
    """What it is called on the other side; unique among all of the kind."""
    key: bytes
    """SHA-256 of what binds it to the caller."""
    facts: Mapping[str, str | int]
    """For the audit log: opaque ids and enumerations only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseAccess:
    """How to connect: everything but the password, which the caller made."""

    host: str
    port: int
    database: str
    user: str
    ca: str
    """PEM: whose certificate the server must show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedSecret:
    """A value, sealed to the caller's key."""

    sealed: bytes


Access: TypeAlias = DatabaseAccess | WrappedSecret


class Found(StrEnum):
    """What an end came upon."""

    SOMETHING = "something"
    """It was there, and is gone."""
    NOTHING = "nothing"
    """It never was, or was gone already: somebody else took it away, or an earlier try did."""


class CredentialIssuer(Protocol):
    """Makes and ends the credentials of one kind of target.

    Raises TargetFault where the other side cannot be reached or does not do it.
    """

    def plan(self, lease: Lease, wish: CredentialWish) -> Plan:
        """What `create` would make. Reads nothing outside.

        Raises:
            Refusal: the grant does not allow it, or the wish is not one of this kind or malformed.
        """
        ...

    async def create(self, lease: Lease, wish: CredentialWish) -> Access:
        """Makes it, whole or not at all, until `lease.not_after` at most; the same answer where it is there already."""
        ...

    async def end(self, target: Target, credential: CredentialId) -> Found:
        """Takes it away: what uses it is cut first, at once. Nothing where it never was, or is gone.

        A `create` of the same credential that still runs somewhere is waited for. Bounded in time.

        Raises:
            Fault: something of it may still be there.
        """
        ...

    async def leftovers(self, target: Target) -> Sequence[CredentialId]:
        """Which credentials of this broker and of the target's tenant are there, whether a row knows them or not."""
        ...

    async def check(self, target: Target, login: str) -> Sequence[Finding]:
        """Checks the target from outside for one login, as `grantctl target check` shows it. Changes nothing."""
        ...
