"""Audit events as values. Encoding, salts and sealing are the audit adapter's; the names are recorder.codes'.

`facts` are opaque ids, enumerations and numbers only; everything that could name a person, a host, a command or a
path goes into `personal`, which leaves the log as salted digests (formats.md 2.2, I-35, I-36).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from broker.core.ids import TenantId

ENDINGS: Final = frozenset(
    {"access.expired", "access.cancelled", "grant.ending", "grant.expired", "grant.revoked", "grant.stuck"}
    | {"action.expired", "action.cancelled", "action.cut", "action.lost", "agent.removed", "person.removed"}
    | {"system.frozen"}
)
"""What takes access away: written also where its words cannot be sealed. An end is never refused (I-02)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Personal:
    """One value under its subject's key: deleting the key erases it, the log stays verifiable."""

    subject: str
    """Whose: an identity id, a target id, or the tenant."""
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something that happened, in the transaction that made it happen (I-31)."""

    tenant: TenantId
    name: str
    """`noun.past_verb` of recorder.codes, such as `grant.activated`; the registry says code and outcome."""
    actor: str = ""
    """Identity id of who did it; empty where time or the broker did."""
    facts: Mapping[str, str | int] = field(default_factory=dict)
    personal: tuple[Personal, ...] = ()


def without_words(event: AuditEvent) -> AuditEvent:
    """The same event without its personal values; `unsealed` says how many there were."""
    return replace(event, personal=(), facts={**event.facts, "unsealed": len(event.personal)})
