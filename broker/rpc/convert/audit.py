"""Rows, heads and proofs of the audit log, for the wire."""

from __future__ import annotations

from broker.rpc.convert.scalars import moment
from broker.service.ports import AuditRecord, ConsistencyProof, InclusionProof, SignedHead
from grantd.v1 import audit_pb2 as pb


def record_out(record: AuditRecord) -> pb.AuditEvent:
    """One entry with what is disclosed of it."""
    return pb.AuditEvent(
        seq=record.seq,
        entry=record.entry,
        disclosures=[disclosure.decode() for disclosure in record.disclosures],
        at=moment(record.at),
        code=record.code,
        name=record.name,
    )


def head_out(head: SignedHead) -> pb.GetCheckpointResponse:
    """The newest signed head."""
    return pb.GetCheckpointResponse(note=head.note, vkey=head.vkey)


def inclusion_out(proof: InclusionProof) -> pb.ProveInclusionResponse:
    """That a leaf is in a tree."""
    return pb.ProveInclusionResponse(proof=proof.hashes, size=proof.size, leaf_hash=proof.leaf_hash)


def consistency_out(proof: ConsistencyProof) -> pb.ProveConsistencyResponse:
    """That a tree continues another."""
    return pb.ProveConsistencyResponse(proof=proof.hashes, to_size=proof.size)
