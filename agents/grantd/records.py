"""The records that people sign, rebuilt from the fields that were shown (`grantd/action/v1` and the others).

Written against the format and not against the broker's code: the two implementations are held together only by
tests/vectors/records.json. Never trusts a digest that somebody else computed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from google.protobuf.message import Message

from grantd.v1 import approval_pb2, options_pb2

APPROVAL_NAMESPACE: Final = "grantd-approval@v1"
"""SSHSIG namespaces: a signature made for one purpose is worthless for another."""
SIGN_IN_NAMESPACE: Final = "grantd-sign-in@v1"
CHANGE_NAMESPACE: Final = "grantd-change@v1"
_CODE_LENGTH: Final = 6
_NONCE_BYTES: Final = 16
_MADE_SECONDS: Final = 11 * 60
"""A question waits ten minutes; one for clocks that differ."""
_AHEAD_SECONDS: Final = 60


def pae(*parts: bytes) -> bytes:
    """Number of parts (u32, big-endian), then each part behind its own u32 length."""
    framed = [len(parts).to_bytes(4, "big")]
    for part in parts:
        framed += (len(part).to_bytes(4, "big"), part)
    return b"".join(framed)


def action_record(fields: approval_pb2.ActionRecord) -> bytes:
    """The bytes that approve one command. `outlives` is deliberately not among them."""
    return pae(
        b"grantd/action/v1",
        fields.tenant.encode(),
        fields.request_id.encode(),
        fields.action_id.encode(),
        fields.requester.encode(),
        fields.agent_id.encode(),
        fields.agent_key,
        fields.target_id.encode(),
        fields.host_key,
        fields.login.encode(),
        fields.command,
        fields.cwd.encode(),
        _pairs(fields.env.items()),
        fields.stdin_mode.encode(),
        fields.stdin_sha256,
        _bit(fields.pty),
        fields.command_class.encode(),
        _bit(fields.opaque),
        _bit(fields.egress),
        fields.tier.encode(),
        _verification(fields),
        _list(fields.rollback),
        _number(fields.not_after_us),
        fields.policy_version.encode(),
        fields.nonce,
    )


def access_record(fields: approval_pb2.AccessRecord) -> bytes:
    """The bytes that approve one access request."""
    return pae(
        b"grantd/access/v1",
        fields.tenant.encode(),
        fields.request_id.encode(),
        fields.requester.encode(),
        fields.agent_id.encode(),
        fields.agent_key,
        fields.target_id.encode(),
        fields.host_key,
        fields.login.encode(),
        fields.ceiling.encode(),
        _list(sorted(flag.encode() for flag in fields.flags)),
        _number(fields.ttl_seconds),
        fields.policy_version.encode(),
        fields.nonce,
    )


def denial_record(record: bytes) -> bytes:
    """What denies a record. Its own prefix: a no can never be replayed as a yes, nor the other way round."""
    return pae(b"grantd/deny/v1", record)


def sign_in_record(*, tenant: str, person: str, key_sha256: bytes, signed_at_us: int, nonce: bytes) -> bytes:
    """What signs a person in: binds the new client key (SHA-256 of its SPKI)."""
    return pae(b"grantd/sign-in/v1", tenant.encode(), person.encode(), key_sha256, _number(signed_at_us), nonce)


def change_record(  # noqa: D417  the rest is in options.proto
    *, tenant: str, person_id: str, method: str, request: Message, signed_at_us: int, nonce: bytes
) -> bytes:
    """What steps up for one administrative change.

    Args:
        method: full name of the RPC, such as `grantd.v1.AdminService/PutTarget`.
        request: the request; its `step_ups` are left out of the hash.
    """
    payload = hashlib.sha256(change_payload(request)).digest()
    return pae(
        b"grantd/change/v1",
        tenant.encode(),
        person_id.encode(),
        method.encode(),
        payload,
        _number(signed_at_us),
        nonce,
    )


def change_payload(request: Message) -> bytes:
    """The request without its signatures, serialised deterministically."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("step_ups")
    return bare.SerializeToString(deterministic=True)


def step_up_record(step_up: options_pb2.StepUp, *, tenant: str, method: str, request: Message) -> bytes:
    """The record behind one StepUp of a request."""
    return change_record(
        tenant=tenant,
        person_id=step_up.person_id,
        method=method,
        request=request,
        signed_at_us=step_up.signed_at_us,
        nonce=step_up.nonce,
    )


def made_recently(nonce: bytes, now: datetime) -> bool:
    """Whether the record with this nonce was made in the last minutes, by the second that stands in its first bytes.

    Whoever signs asks this of their own clock: a signature that somebody keeps cannot be called fresh later.
    """
    age = int(now.timestamp()) - int.from_bytes(nonce[:4], "big")
    return len(nonce) == _NONCE_BYTES and -_AHEAD_SECONDS <= age <= _MADE_SECONDS


def digest_of(record: bytes) -> bytes:
    """The approval digest: SHA-256, 32 bytes."""
    return hashlib.sha256(record).digest()


def code_of(digest: bytes) -> str:
    """What an approver types for execute and above: 6 base32 characters of the digest, lower case."""
    return base64.b32encode(digest).decode()[:_CODE_LENGTH].lower()


def _number(value: int) -> bytes:
    return b"%d" % value


def _bit(value: bool) -> bytes:  # noqa: FBT001  one spelling of a bool
    return b"1" if value else b"0"


def _list(parts: Iterable[bytes]) -> bytes:
    held = tuple(parts)
    return pae(*held) if held else b""


def _pairs(items: Iterable[tuple[str, str]]) -> bytes:
    return _list(part.encode() for pair in sorted(items) for part in pair)


def _verification(fields: approval_pb2.ActionRecord) -> bytes:
    if not fields.HasField("verification"):
        return b""
    check = fields.verification
    return pae(check.command, check.expectation, _number(check.attempts), _number(check.deadline.seconds))
