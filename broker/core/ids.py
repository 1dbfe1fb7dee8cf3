"""Typed ids. Every id is a prefix and 26 lower-case base32 characters (130 bits drawn, 128 random).

None carries meaning.

Never makes an id: randomness is an argument (`render`).
"""

from __future__ import annotations

import base64
import re
from typing import NewType

TenantId = NewType("TenantId", str)
"""The isolation boundary. Operators choose it: `[a-z][a-z0-9-]{0,30}`; `_system` is grantd's own."""
IdentityId = NewType("IdentityId", str)
"""An agent (`ag_...`) or a person (`pe_...`)."""
TeamId = NewType("TeamId", str)
TargetId = NewType("TargetId", str)
RequestId = NewType("RequestId", str)
GrantId = NewType("GrantId", str)
ActionId = NewType("ActionId", str)
ApprovalId = NewType("ApprovalId", str)
SessionId = NewType("SessionId", str)
RecordingId = NewType("RecordingId", str)
CredentialId = NewType("CredentialId", str)
AuditId = NewType("AuditId", str)
"""32 lower-case hex digits of a UUIDv7 (formats.md 2.2)."""

SYSTEM_TENANT = TenantId("_system")
PREFIXES = {
    "agent": "ag",
    "person": "pe",
    "team": "te",
    "target": "tg",
    "request": "rq",
    "grant": "gr",
    "action": "ac",
    "approval": "ap",
    "session": "se",
    "recording": "rc",
    "credential": "cr",
    "join": "jt",
    "change": "ch",
    "glass": "bg",
}
"""Kind of object -> prefix of its id."""

_RANDOM_BYTES = 16
_TENANT = re.compile(r"[a-z][a-z0-9-]{0,30}")
_ID = re.compile(r"[a-z]{2}_[a-z2-7]{26}")
_LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def render(kind: str, random16: bytes) -> str:
    """The id of a `kind` (a key of PREFIXES) from 16 random bytes."""
    if len(random16) != _RANDOM_BYTES:
        raise ValueError("an id takes exactly 16 random bytes")
    return f"{PREFIXES[kind]}_{base64.b32encode(random16).decode().rstrip('=').lower()}"


def is_id(text: str) -> bool:
    """Whether `text` has the shape of an id; says nothing about existence."""
    return _ID.fullmatch(text) is not None


def is_agent(identity: IdentityId) -> bool:
    """Whether an identity is an agent's: records name the agent apart from whoever is behind it."""
    return identity.startswith(f"{PREFIXES['agent']}_")


def is_tenant(text: str) -> bool:
    """Whether `text` may name a tenant (`_system` may not be asked for from outside)."""
    return _TENANT.fullmatch(text) is not None


def is_login(text: str) -> bool:
    """Whether `text` is a login name that cannot be read as a number, an option or a path (threats.md F17)."""
    return _LOGIN.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether `text` may name a target, team, agent or person: lower case, digits, `.`, `_`, `-`; never `+` or `@`."""
    return _NAME.fullmatch(text) is not None
