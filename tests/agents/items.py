"""Items that wait for a decision; records, digests and the check of signatures are the daemon's own."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from broker.core import records, sshsig
from broker.core.clock import from_micros
from grantd.v1 import approval_pb2, options_pb2


def stamp(moment: datetime) -> Timestamp:
    """The wire's form."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def action_item(
    command: bytes,
    *,
    number: int = 1,
    command_class: str = "write",
    opaque: bool = False,
    egress: bool = False,
    outlives: bool = False,
    login: str = "deploy",
    reason: str = "",
    lives: timedelta = timedelta(minutes=5),
    parts: list[options_pb2.CommandPart] | None = None,
) -> approval_pb2.PendingItem:
    """A pending command; its digest is the daemon's own."""
    now = datetime.now(UTC)
    fields = _of_the_agent(
        number, now, login=login, command=command, command_class=command_class, opaque=opaque, egress=egress,
        outlives=outlives,
    )  # fmt: skip
    return approval_pb2.PendingItem(
        id=fields.action_id,
        action=fields,
        digest=records.digest_of(daemon_record(fields)),
        proposed_at=stamp(now + timedelta(milliseconds=number)),
        expires_at=stamp(now + lives),
        quorum=1,
        identity_name="deployer",
        target_name="web1",
        untrusted_reason=reason,
        classification=_classified(command, command_class, opaque=opaque, parts=parts),
        policy_reasons=["tiers.approval.write"],
    )


def _of_the_agent(number: int, now: datetime, **said: Any) -> approval_pb2.ActionRecord:  # noqa: ANN401  the record's
    return approval_pb2.ActionRecord(
        tenant="t1",
        request_id=f"rq_{number:026d}",
        action_id=f"ac_{number:026d}",
        requester="pe_requester",
        agent_id="ag_deployer",
        agent_key=hashlib.sha256(b"agent").digest(),
        target_id="tg_web1",
        host_key=hashlib.sha256(b"host").digest(),
        stdin_mode="none",
        tier="approval",
        not_after_us=int((now + timedelta(minutes=15)).timestamp() * 1_000_000),
        policy_version="p" * 64,
        nonce=int(time.time()).to_bytes(4, "big") + bytes([number % 256]) * 12,
        **said,
    )


def _classified(
    command: bytes, command_class: str, *, opaque: bool, parts: list[options_pb2.CommandPart] | None
) -> options_pb2.Classification:
    value = options_pb2.CommandClass.Value(f"COMMAND_CLASS_{command_class.upper()}")
    whole = options_pb2.CommandPart(
        start=0,
        end=len(command),
        argv=command.decode(errors="replace").split(" "),
        command_class=value,
        opaque=opaque,
        rule="test.rule",
        reason="as the test says",
    )
    return options_pb2.Classification(command_class=value, opaque=opaque, parts=[whole] if parts is None else parts)


def access_item(*, ceiling: str, number: int = 1, flags: tuple[str, ...] = ()) -> approval_pb2.PendingItem:
    """A pending access request; its digest is the daemon's own."""
    now = datetime.now(UTC)
    record = records.AccessRecord(
        tenant="t1",
        request_id=f"rq_{number:026d}",
        requester="pe_requester",
        agent_id="ag_deployer",
        agent_key=b"k" * 32,
        target_id="tg_web1",
        host_key=b"h" * 32,
        login="deploy",
        ceiling=ceiling,
        flags=frozenset(flags),
        ttl=timedelta(minutes=15),
        policy_version="p" * 64,
        nonce=int(time.time()).to_bytes(4, "big") + b"n" * 12,
    )
    return approval_pb2.PendingItem(
        id=record.request_id,
        access=approval_pb2.AccessRecord(
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
            ttl_seconds=900,
            policy_version=record.policy_version,
            nonce=record.nonce,
        ),
        digest=records.digest_of(record.encoded()),
        proposed_at=stamp(now),
        expires_at=stamp(now + timedelta(minutes=5)),
        quorum=1,
        identity_name="deployer",
        target_name="web1",
    )


def daemon_record(fields: approval_pb2.ActionRecord) -> bytes:
    """The record's bytes as the daemon makes them."""
    return records.ActionRecord(
        tenant=fields.tenant,
        request_id=fields.request_id,
        action_id=fields.action_id,
        requester=fields.requester,
        agent_id=fields.agent_id,
        agent_key=fields.agent_key,
        target_id=fields.target_id,
        host_key=fields.host_key,
        login=fields.login,
        command=fields.command,
        cwd=fields.cwd,
        env=dict(fields.env),
        stdin_mode=fields.stdin_mode,
        stdin_sha256=fields.stdin_sha256,
        pty=fields.pty,
        command_class=fields.command_class,
        opaque=fields.opaque,
        egress=fields.egress,
        tier=fields.tier,
        verification=records.Verification(
            command=fields.verification.command,
            expectation=fields.verification.expectation,
            attempts=fields.verification.attempts,
            deadline=fields.verification.deadline.ToTimedelta(),
        )
        if fields.HasField("verification")
        else None,
        rollback=tuple(fields.rollback),
        not_after=from_micros(fields.not_after_us),
        policy_version=fields.policy_version,
        nonce=fields.nonce,
    ).encoded()


def is_signed(record: bytes, signature: bytes, namespace: str, key_line: str) -> bool:
    """Whether an SSHSIG blob holds, by the daemon's own verifier."""
    try:
        sshsig.verify(signature, record, namespace, [key_line])
    except sshsig.BadSignature:
        return False
    return True
