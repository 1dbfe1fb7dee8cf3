"""Who may call what: the permission table (I-41, I-42). One table, AND-ed with ownership checks in the services.

Every RPC names one of these permissions in its proto; a role holds a set of them; an agent is a role of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    MANAGER = "manager"
    VIEWER = "viewer"
    AGENT = "agent"
    """Not a person's role: what an agent credential holds, and all it ever holds (I-17)."""


class Permission(StrEnum):
    NONE = "none"
    """No credential at all: health, and enrolment (whose join token is its credential)."""
    SELF = "identity.self"
    ACCESS_REQUEST = "access.request"
    ACCESS_READ = "access.read"
    ACCESS_REVOKE = "access.revoke"
    APPROVAL_READ = "approval.read"
    APPROVAL_DECIDE = "approval.decide"
    ACTION_RUN = "action.run"
    SESSION_READ = "session.read"
    SESSION_WATCH = "session.watch"
    SESSION_TERMINATE = "session.terminate"
    RECORDING_READ = "recording.read"
    AUDIT_READ = "audit.read"
    DIRECTORY_READ = "directory.read"
    """Targets, teams, agents, people: names and roles."""
    AGENT_WRITE = "agent.write"
    TEAM_WRITE = "team.write"
    TARGET_WRITE = "target.write"
    PERSON_WRITE = "person.write"
    POLICY_READ = "policy.read"
    POLICY_WRITE = "policy.write"
    SECRET_WRITE = "secret.write"  # noqa: S105  the name of a permission
    VAULT_READ = "vault.read"
    VAULT_WRITE = "vault.write"
    REVOKE = "revoke.write"
    """Of many grants at once; one grant at a time is ACCESS_REVOKE's."""
    STUCK = "stuck.write"
    """Ends that fail: looking at them, trying one again."""
    FREEZE = "freeze.write"
    UNFREEZE = "unfreeze.write"
    CA_READ = "ca.read"
    CA_ROTATE = "ca.rotate"


_OWN = frozenset(
    {
        Permission.SELF,
        Permission.ACCESS_REQUEST,
        Permission.ACCESS_READ,
        Permission.ACCESS_REVOKE,
        Permission.ACTION_RUN,
    }
)
"""What everybody may do about their own requests and grants; a person's wider sight is decided per object."""
_VIEWER = _OWN | {Permission.SESSION_READ, Permission.DIRECTORY_READ, Permission.POLICY_READ, Permission.APPROVAL_READ}
_MANAGER = _VIEWER | {
    Permission.APPROVAL_DECIDE,
    Permission.SESSION_WATCH,
    Permission.SESSION_TERMINATE,
    Permission.RECORDING_READ,
    Permission.AGENT_WRITE,
    Permission.REVOKE,
    Permission.FREEZE,
}
_ADMIN = _MANAGER | {
    Permission.AUDIT_READ,
    Permission.SECRET_WRITE,
    Permission.TEAM_WRITE,
    Permission.TARGET_WRITE,
    Permission.STUCK,
    Permission.UNFREEZE,
    Permission.VAULT_READ,
    Permission.CA_READ,
}
_OWNER = _ADMIN | {Permission.PERSON_WRITE, Permission.POLICY_WRITE, Permission.VAULT_WRITE, Permission.CA_ROTATE}

MATRIX: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.AGENT: _OWN,
        Role.VIEWER: _VIEWER,
        Role.MANAGER: _MANAGER,
        Role.ADMIN: _ADMIN,
        Role.OWNER: _OWNER,
    }
)
RANK: Mapping[Role, int] = MappingProxyType({Role.VIEWER: 1, Role.MANAGER: 2, Role.ADMIN: 3, Role.OWNER: 4})
"""For "nobody grants a role above their own" (I-43). Agents have no rank."""
TEAM_BOUND = frozenset({Role.MANAGER})
"""Roles that see and decide for their own teams only (P14)."""


def holds(role: Role, permission: Permission) -> bool:
    """Whether `role` holds `permission`. NONE is nobody's to hold: it is checked where it is declared."""
    return permission in MATRIX[role]
