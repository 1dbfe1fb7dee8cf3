"""What waits for a person, and their decision, both ways. Fields of the signed record go over as they are hashed."""

from __future__ import annotations

from broker.core.action import Action
from broker.core.approval import Verdict
from broker.core.clock import micros
from broker.core.records import AccessRecord, ActionRecord, Verification
from broker.core.request import AccessRequest
from broker.rpc.convert.action import classification_out
from broker.rpc.convert.scalars import duration, moment
from broker.service.approval import Pending, Vote
from grantd.v1 import approval_pb2 as pb

_ROOM = 900 * 1024
"""Bytes of a list below the limit of a message."""
_VERDICTS = {1: Verdict.APPROVE, 2: Verdict.DENY}


def pending_out(item: Pending) -> pb.PendingItem:
    """One thing that waits, whole."""
    made = pb.PendingItem(
        id=item.id,
        digest=item.digest(),
        expires_at=moment(item.subject.expires_at),
        quorum=item.subject.quorum,
        approved_by=item.approved_by,
        identity_name=item.identity_name,
        target_name=item.target_name,
        untrusted_reason=item.subject.reason,
        classification=classification_out(item.seen) if item.seen else None,
        policy_reasons=item.policy_reasons,
    )
    subject = item.subject
    if isinstance(subject, Action):
        made.proposed_at.CopyFrom(moment(subject.proposed_at))
        made.action.CopyFrom(action_record_out(subject.record(), outlives=subject.outlives))
        return made
    _access_in(made, subject)
    return made


def pending_list_out(items: list[pb.PendingItem]) -> pb.ListPendingResponse:
    """A list that fits one message: else the words of the parts and the evidence stay behind, GetPending has them."""
    if sum(item.ByteSize() for item in items) > _ROOM:
        for item in items:
            item.classification.ClearField("parts")
            item.ClearField("untrusted_evidence")
    return pb.ListPendingResponse(items=items)


def vote_of(request: pb.DecideRequest) -> Vote:
    """A decision as it came in."""
    return Vote(
        id=request.id,
        verdict=_VERDICTS[request.verdict],
        digest=request.digest,
        signature=request.signature,
        note=request.note,
    )


def action_record_out(record: ActionRecord, *, outlives: bool) -> pb.ActionRecord:
    """The fields of `grantd/action/v1`."""
    return pb.ActionRecord(
        tenant=record.tenant,
        request_id=record.request_id,
        action_id=record.action_id,
        requester=record.requester,
        agent_id=record.agent_id,
        agent_key=record.agent_key,
        target_id=record.target_id,
        host_key=record.host_key,
        login=record.login,
        command=record.command,
        cwd=record.cwd,
        env=dict(record.env),
        stdin_mode=record.stdin_mode,
        stdin_sha256=record.stdin_sha256,
        pty=record.pty,
        command_class=record.command_class,
        opaque=record.opaque,
        egress=record.egress,
        tier=record.tier,
        verification=_verification_out(record.verification) if record.verification else None,
        rollback=record.rollback,
        not_after_us=micros(record.not_after),
        policy_version=record.policy_version,
        nonce=record.nonce,
        outlives=outlives,
    )


def access_record_out(record: AccessRecord) -> pb.AccessRecord:
    """The fields of `grantd/access/v1`."""
    return pb.AccessRecord(
        tenant=record.tenant,
        request_id=record.request_id,
        requester=record.requester,
        agent_id=record.agent_id,
        agent_key=record.agent_key,
        target_id=record.target_id,
        host_key=record.host_key,
        login=record.login,
        ceiling=record.ceiling,
        flags=sorted(record.flags),
        ttl_seconds=int(record.ttl.total_seconds()),
        policy_version=record.policy_version,
        nonce=record.nonce,
    )


def _access_in(made: pb.PendingItem, subject: AccessRequest) -> None:
    made.proposed_at.CopyFrom(moment(subject.created_at))
    made.access.CopyFrom(access_record_out(subject.record()))
    made.untrusted_ticket = subject.ticket
    made.untrusted_evidence = subject.evidence


def _verification_out(verification: Verification) -> pb.VerificationRecord:
    return pb.VerificationRecord(
        command=verification.command,
        expectation=verification.expectation,
        attempts=verification.attempts,
        deadline=duration(verification.deadline),
    )
