"""Whose yes counts, and when it is enough. Never trusts a display: only the signed digest.

Nobody approves what they, their agent or the agent's owner asked for (I-12); distinct people make a quorum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from broker.core.errors import expired, forbidden
from broker.core.ids import ApprovalId, IdentityId, TenantId
from policy.classes import CommandClass

USE_WITHIN = timedelta(minutes=10)
"""An approval older than this is void (I-13)."""


class Verdict(StrEnum):
    APPROVE = "approve"
    DENY = "deny"


class Subject(StrEnum):
    ACCESS = "access"
    ACTION = "action"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's signed decision over one digest."""

    tenant: TenantId
    id: ApprovalId
    subject: Subject
    subject_id: str
    digest: bytes
    person: IdentityId
    role: str
    """The role at the time; re-checked at use."""
    verdict: Verdict
    signature: bytes
    """SSHSIG blob, binary form (between the armour lines, decoded)."""
    key_fingerprint: str
    """`SHA256:...` of the key that made it."""
    at: datetime
    note: str


def must_be_another(person: IdentityId, *, requester: IdentityId, identity: IdentityId) -> None:
    """Raises if the approver is the one who asked, in person or as the owner of the agent (I-12)."""
    if person in (requester, identity):
        raise forbidden("own_request", "nobody decides what they or their agent asked for", "ask a colleague")


def is_enough(approvals: Sequence[Approval], *, quorum: int) -> bool:
    """Whether distinct people said yes often enough. A quorum below one never is."""
    yes = [a for a in approvals if a.verdict is Verdict.APPROVE]
    people, keys = {a.person for a in yes}, {a.key_fingerprint for a in yes}
    return quorum >= 1 and min(len(people), len(keys)) >= quorum


def must_be_fresh(approvals: Sequence[Approval], *, digest: bytes, now: datetime) -> None:
    """Raises unless every yes is over this digest and at most USE_WITHIN old (I-10, I-13)."""
    for approval in approvals:
        if approval.verdict is Verdict.APPROVE and approval.digest != digest:
            raise forbidden("digest_mismatch", "what would run is not what was approved", "propose it again")
        if now - approval.at > USE_WITHIN:
            raise expired("approval_too_old", "the approval is older than 10 minutes", "propose it again")


def needs_code(command_class: CommandClass, *, opaque: bool) -> bool:
    """Whether the approver types a code from the digest instead of a plain y (I-15)."""
    return opaque or command_class >= CommandClass.EXECUTE
