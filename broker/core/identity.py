"""Identities, teams and targets as values. Never an authentication.

That is a row looked up by a verified key (I-08, I-24).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from broker.core.ids import IdentityId, TargetId, TeamId, TenantId
from broker.core.kinds import TargetKind, TargetSettings, kind_of
from broker.core.roles import Role
from policy.classes import Tier


class IdentityKind(StrEnum):
    AGENT = "agent"
    PERSON = "person"


class IdentityStatus(StrEnum):
    INVITED = "invited"
    """Has a join token, no key yet."""
    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An agent or a person. `key` is SHA-256 over the SPKI of its client key, empty until enrolled."""

    tenant: TenantId
    id: IdentityId
    kind: IdentityKind
    name: str
    role: Role
    owner: IdentityId | None
    """Only for an agent: the person whose own it is (that person never approves it)."""
    teams: frozenset[TeamId]
    status: IdentityStatus
    key: bytes
    approval_keys: tuple[str, ...]
    """OpenSSH public key lines without comment; people only."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is calling, as one door authenticated them for one call.

    Loaded from the row, never from the certificate's text.
    """

    tenant: TenantId
    identity: IdentityId
    kind: IdentityKind
    name: str
    role: Role
    teams: frozenset[TeamId]
    owner: IdentityId | None
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    tenant: TenantId
    id: TeamId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One login of a target. `read_login` names an unprivileged login used for read-class commands.

    Empty = the login itself.
    """

    name: str
    read_login: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What access is to: where it is, what it is pinned to, who may be what on it."""

    tenant: TenantId
    id: TargetId
    name: str
    host: str
    port: int
    host_key: str
    """OpenSSH public key line without comment, pinned by an administrator (I-25); empty where it is no SSH host."""
    tier: Tier
    teams: frozenset[TeamId]
    labels: Mapping[str, str]
    logins: tuple[Login, ...]
    seal_reads: bool
    """Every read gets its own certificate with force-command."""
    source_address: str
    """Overrides the certificate's source-address (a CIDR or address); empty = local address of the connected socket."""
    settings: TargetSettings
    """What else its kind needs."""
    created_at: datetime

    @property
    def kind(self) -> TargetKind:
        """What access to it is made of."""
        return kind_of(self.settings)
