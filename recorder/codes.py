"""Every event that the audit log can hold: code, name, outcome. A code never changes its meaning and is never reused.

Code = family (two letters), four digits, I (as wished), W (refused, cut short or unusual) or E (something is wrong).
Families: GR grants and requests, AP approvals, SE sessions and actions, RC recordings, SC secrets, keys and
credentials, PO policy and inventory, AU identities and sign-in, SY the system itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Outcome(StrEnum):
    """What became of it, as the entry's `outcome` field says it."""

    SUCCESS = "success"
    DENIED = "denied"  # a rule or a person said no
    REFUSED = "refused"  # malformed, unproved or not permitted: nobody had to decide
    EXPIRED = "expired"  # time said no
    FAILURE = "failure"  # it was meant to work and did not


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSpec:
    """One row of the registry. `name` is `noun.past_verb`, the name of the same event in logs and exports."""

    code: str
    name: str
    outcome: Outcome


_SUCCESS, _DENIED, _REFUSED, _EXPIRED, _FAILURE = Outcome

_TABLE = (
    # access requests
    ("GR1001I", "access.requested", _SUCCESS),
    ("GR1002I", "access.approved", _SUCCESS),
    ("GR1003W", "access.denied", _DENIED),
    ("GR1004W", "access.expired", _EXPIRED),
    ("GR1005I", "access.cancelled", _SUCCESS),
    # grants
    ("GR2001I", "grant.activated", _SUCCESS),
    ("GR2002I", "grant.ending", _SUCCESS),
    ("GR2003I", "grant.expired", _SUCCESS),
    ("GR2004I", "grant.revoked", _SUCCESS),
    ("GR2005E", "grant.stuck", _FAILURE),
    ("GR2006I", "grant.retried", _SUCCESS),  # somebody had the end of one that fails tried at once, and why
    # sealed credentials
    ("GR3001I", "glass.made", _SUCCESS),
    ("GR3002W", "glass.used", _SUCCESS),
    ("GR3003I", "glass.signed", _SUCCESS),  # its yes to one action, in the place of an approver's
    ("GR3004I", "glass.reviewed", _SUCCESS),
    # approvals: what a person signed
    ("AP1001I", "approval.recorded", _SUCCESS),
    ("AP1002W", "approval.refused", _REFUSED),  # bad signature, late, own request, role gone: field `reason_code`
    # sessions
    ("SE1001I", "session.opened", _SUCCESS),
    ("SE1002I", "session.closed", _SUCCESS),
    ("SE1003W", "session.cut", _EXPIRED),
    ("SE1004W", "session.feature_refused", _REFUSED),
    ("SE1005W", "session.refused", _REFUSED),
    ("SE1006I", "session.watched", _SUCCESS),  # somebody began to watch it live
    ("SE1007I", "session.unwatched", _SUCCESS),  # and left it
    ("SE1008I", "session.paused", _SUCCESS),
    ("SE1009I", "session.resumed", _SUCCESS),
    ("SE1010I", "session.terminated", _SUCCESS),  # somebody had it cut, and why; its end is an event of its own
    # actions
    ("SE2001I", "action.proposed", _SUCCESS),
    ("SE2002I", "action.allowed", _SUCCESS),
    ("SE2003I", "action.awaiting", _SUCCESS),
    ("SE2004W", "action.denied", _DENIED),
    ("SE2005W", "action.expired", _EXPIRED),
    ("SE2006I", "action.cancelled", _SUCCESS),
    ("SE2007I", "action.running", _SUCCESS),
    ("SE2008I", "action.succeeded", _SUCCESS),
    ("SE2009W", "action.failed", _FAILURE),
    ("SE2010W", "action.cut", _EXPIRED),
    ("SE2011E", "action.lost", _FAILURE),
    ("SE2012E", "action.mismatched", _REFUSED),  # bytes about to run are not the bytes that were decided (I-10, I-34)
    # recordings; fields of all but viewed and exported: rec, session, part, leaves, root (hex)
    ("RC1001I", "recording.opened", _SUCCESS),
    ("RC1002I", "recording.checkpoint", _SUCCESS),
    ("RC1003I", "recording.closed", _SUCCESS),
    ("RC1004W", "recording.recovered", _FAILURE),
    ("RC1005E", "recording.failed", _FAILURE),
    ("RC2001I", "recording.viewed", _SUCCESS),
    ("RC2002I", "recording.exported", _SUCCESS),
    ("RC2003I", "recording.searched", _SUCCESS),
    # secrets, keys, credentials
    ("SC1001I", "credential.issued", _SUCCESS),
    ("SC1002W", "credential.refused", _REFUSED),
    ("SC1101I", "credential.planned", _SUCCESS),  # something is about to be made on a target
    ("SC1102I", "credential.ended", _SUCCESS),  # nothing of it is there any more
    ("SC1103W", "credential.leftover_ended", _FAILURE),  # it was there, and nothing said that it should be
    ("SC2001I", "secret.updated", _SUCCESS),
    ("SC2002I", "secret.read", _SUCCESS),
    ("SC2003I", "secret.deleted", _SUCCESS),
    ("SC2004W", "secret.refused", _REFUSED),  # a value that was to be checked out once more
    ("SC2005W", "secret.due", _EXPIRED),  # a lease on a value ended: whoever had it still knows it, until it is changed
    ("SC3001I", "key.created", _SUCCESS),
    # the signer's own journal: what it signed, and what it keeps; `kind` says which
    ("SC4001I", "certificate.signed", _SUCCESS),
    ("SC4002I", "signer.noted", _SUCCESS),
    ("SC4003I", "signer.journal_begun", _SUCCESS),
    ("SC4004W", "signer.recovered", _FAILURE),  # a half row of a power cut was taken away: field `torn_bytes`
    # what the broker holds against that journal
    ("SC4005I", "signer.head_recorded", _SUCCESS),
    ("SC4006E", "signer.head_mismatched", _FAILURE),  # it lost or changed rows that it had signed for
    ("SC3002I", "key.rotated", _SUCCESS),  # `purpose`, `version`: what seals from now on
    ("SC3003I", "key.rewrapped", _SUCCESS),  # a tenant's keys lie under another root key
    ("SC3004I", "key.destroyed", _SUCCESS),  # a version that nothing needed any more
    ("SC3005W", "key.ended", _SUCCESS),  # `root`: no key is made under this root key again
    ("SC3006W", "key.shredded", _SUCCESS),  # every key of the tenant
    # policy and inventory
    ("PO1001I", "policy.changed", _SUCCESS),
    ("PO1002I", "trust.stated", _SUCCESS),  # a statement for the signer that no other change carried
    ("PO2001I", "target.added", _SUCCESS),
    ("PO2002I", "target.changed", _SUCCESS),
    ("PO2003I", "target.removed", _SUCCESS),
    ("PO2004E", "target.key_mismatched", _REFUSED),
    # identities
    ("AU1001I", "identity.enrolled", _SUCCESS),
    ("AU1002I", "identity.renewed", _SUCCESS),
    ("AU1003W", "identity.refused", _REFUSED),  # authentication failed
    ("AU1004W", "permission.refused", _REFUSED),  # authenticated, not permitted
    ("AU1005I", "enrolment.offered", _SUCCESS),  # a one-time join token was made
    ("AU2001I", "person.added", _SUCCESS),
    ("AU2002I", "person.changed", _SUCCESS),
    ("AU2003I", "person.removed", _SUCCESS),
    ("AU3001I", "agent.added", _SUCCESS),
    ("AU3002I", "agent.changed", _SUCCESS),
    ("AU3003I", "agent.removed", _SUCCESS),
    ("AU4001I", "team.added", _SUCCESS),
    ("AU4002I", "team.changed", _SUCCESS),
    ("AU4003I", "team.removed", _SUCCESS),
    ("AU5001I", "subject.erased", _SUCCESS),  # field `ranges`: leaf indexes of this log, as in "3,10-12"
    # the system
    ("SY1001I", "system.started", _SUCCESS),
    ("SY1002I", "system.stopped", _SUCCESS),
    ("SY1003I", "system.heartbeat", _SUCCESS),
    ("SY1004W", "system.clock_stepped", _FAILURE),
    ("SY1005I", "ca.rotation_asked", _SUCCESS),
    ("SY1006W", "ca.rotated", _SUCCESS),
    ("SY2001W", "system.frozen", _SUCCESS),
    ("SY2002I", "system.unfrozen", _SUCCESS),
    ("SY3001I", "audit.viewed", _SUCCESS),
    ("SY3002I", "audit.exported", _SUCCESS),
    ("SY3003W", "audit.epoch_started", _SUCCESS),
    ("SY3004I", "audit.head_recorded", _SUCCESS),  # a tenant log's checkpoint, as an entry of `_system`
)

CODES: Mapping[str, CodeSpec] = MappingProxyType(
    {code: CodeSpec(code=code, name=name, outcome=outcome) for code, name, outcome in _TABLE}
)
"""Code -> what it means."""

BY_NAME: Mapping[str, CodeSpec] = MappingProxyType({spec.name: spec for spec in CODES.values()})
"""Name -> the same row: `BY_NAME["grant.activated"].code`. Names are as final as codes."""
