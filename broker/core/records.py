"""The records that people sign, and the action key (formats.md section 9). Bytes in their final form.

Vectors in tests/vectors.

Two hashes, never interchanged: the action key merges retries and cools down denials, the approval digest is what is
signed. Text written by an agent (reason, evidence) is in neither.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.core.clock import from_micros, micros
from broker.core.sshwire import Reader, WireError

ACTION = b"grantd/action/v1"
_ACTION_PARTS, _PTY_PART = 25, 15
ACCESS = b"grantd/access/v1"
ACTION_KEY = b"grantd/action-key/v1"
SIGN_IN = b"grantd/sign-in/v1"
CHANGE = b"grantd/change/v1"
APPROVAL_NAMESPACE = "grantd-approval@v1"
"""SSHSIG namespace of decisions over actions and access requests."""
SIGN_IN_NAMESPACE = "grantd-sign-in@v1"
CHANGE_NAMESPACE = "grantd-change@v1"
CODE_LENGTH = 6
_NONCE_CHANCE = 12
_NONCE_BYTES = 4 + _NONCE_CHANCE
DENY_PREFIX = b"grantd/deny/v1"


def pae(parts: Iterable[bytes]) -> bytes:
    """u32 count, then each part behind its u32 length, big-endian: injective over lists of byte strings."""
    listed = list(parts)
    return b"".join([len(listed).to_bytes(4, "big"), *[len(p).to_bytes(4, "big") + p for p in listed]])


def unpae(data: bytes) -> tuple[bytes, ...]:
    """The inverse of pae. Raises WireError."""
    reader = Reader(data)
    count = reader.u32()
    if count > len(data) // 4:
        raise WireError("more parts than bytes")
    parts = tuple([reader.string() for _ in range(count)])
    reader.end()
    return parts


def digest_of(record: bytes) -> bytes:
    """The approval digest: SHA-256 of a record, 32 bytes."""
    return hashlib.sha256(record).digest()


def code_of(digest: bytes) -> str:
    """What an approver types for execute and above: the first 6 base32 characters of the digest, lower case."""
    return base64.b32encode(digest).decode()[:CODE_LENGTH].lower()


def timed_nonce(now: datetime, chance: bytes) -> bytes:
    """The nonce of a record that people sign: the second in which it was made (u32), then 12 random bytes.

    Whoever signs looks at the second, so that nobody can keep a signature for later and call it fresh (I-13).
    """
    if len(chance) != _NONCE_CHANCE:
        raise ValueError("a nonce takes exactly 12 random bytes")
    return (micros(now) // 1_000_000).to_bytes(4, "big") + chance


def made_at(nonce: bytes) -> datetime:
    """When the record with this nonce was made, by its own word. Raises ValueError."""
    if len(nonce) != _NONCE_BYTES:
        raise ValueError("a nonce has 16 bytes")
    return from_micros(int.from_bytes(nonce[:4], "big") * 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How the effect is checked after the command ran: a command, what it must say, how often, until when (seconds)."""

    command: bytes
    expectation: bytes
    attempts: int
    deadline: timedelta

    def encoded(self) -> bytes:
        """The nested PAE of the record."""
        return pae([self.command, self.expectation, _int(self.attempts), _seconds(self.deadline)])


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRecord:
    """Everything that one approval of a command binds (I-10). All ids as text; hashes are 32 raw bytes or empty."""

    tenant: str
    request_id: str
    action_id: str
    requester: str
    agent_id: str
    agent_key: bytes
    target_id: str
    host_key: bytes
    login: str
    command: bytes
    cwd: str
    env: Mapping[str, str]
    stdin_mode: str
    stdin_sha256: bytes
    pty: bool
    command_class: str
    opaque: bool
    egress: bool
    tier: str
    verification: Verification | None
    rollback: tuple[bytes, ...]
    not_after: datetime
    policy_version: str
    nonce: bytes

    def encoded(self) -> bytes:
        """The bytes that a person signs (namespace APPROVAL_NAMESPACE, sha512)."""
        return pae(
            [
                ACTION,
                *_texts(self.tenant, self.request_id, self.action_id, self.requester, self.agent_id),
                self.agent_key,
                self.target_id.encode(),
                self.host_key,
                self.login.encode(),
                self.command,
                self.cwd.encode(),
                _env(self.env),
                self.stdin_mode.encode(),
                self.stdin_sha256,
                _flag(self.pty),
                self.command_class.encode(),
                _flag(self.opaque),
                _flag(self.egress),
                self.tier.encode(),
                _verification(self.verification),
                pae(self.rollback) if self.rollback else b"",
                _int(micros(self.not_after)),
                self.policy_version.encode(),
                self.nonce,
            ]
        )

    def action_key(self) -> bytes:
        """Merges retries of the same action and cools down its denials; 32 bytes."""
        parts = [
            ACTION_KEY,
            *_texts(self.tenant, self.agent_id, self.target_id, self.login),
            self.command,
            self.cwd.encode(),
            _env(self.env),
            self.stdin_sha256,
            _verification(self.verification),
            pae(self.rollback) if self.rollback else b"",
        ]
        return hashlib.sha256(pae(parts)).digest()


def says_terminal(parts: Sequence[bytes]) -> bool | None:
    """What the record of an action, taken apart, says of a terminal; None where it is no record of an action."""
    if tuple(parts[:1]) != (ACTION,) or len(parts) != _ACTION_PARTS:
        return None
    return {b"1": True, b"0": False}.get(parts[_PTY_PART])


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRecord:
    """Everything that one approval of an access request binds."""

    tenant: str
    request_id: str
    requester: str
    agent_id: str
    agent_key: bytes
    target_id: str
    host_key: bytes
    login: str
    ceiling: str
    flags: frozenset[str]
    ttl: timedelta
    policy_version: str
    nonce: bytes

    def encoded(self) -> bytes:
        """The bytes that a person signs (namespace APPROVAL_NAMESPACE, sha512)."""
        return pae(
            [
                ACCESS,
                *_texts(self.tenant, self.request_id, self.requester, self.agent_id),
                self.agent_key,
                self.target_id.encode(),
                self.host_key,
                self.login.encode(),
                self.ceiling.encode(),
                pae(f.encode() for f in sorted(self.flags)) if self.flags else b"",
                _seconds(self.ttl),
                self.policy_version.encode(),
                self.nonce,
            ]
        )


def denial_record(record: bytes) -> bytes:
    """What is signed to deny: the same record under its own prefix, so that a denial can never be replayed as a yes."""
    return pae([DENY_PREFIX, record])


def sign_in_record(*, tenant: str, person: str, key_sha256: bytes, at: datetime, nonce: bytes) -> bytes:
    """What a person's approval key signs to get a fresh client certificate for the key of `key_sha256` (SPKI)."""
    return pae([SIGN_IN, *_texts(tenant, person), key_sha256, _int(micros(at)), nonce])


def change_record(*, tenant: str, person: str, method: str, payload_sha256: bytes, at: datetime, nonce: bytes) -> bytes:
    """Step-up: what a fresh signature over one administrative change covers.

    `method` is the RPC's full name, the hash is over its deterministic request bytes without the signatures.
    """
    return pae([CHANGE, *_texts(tenant, person, method), payload_sha256, _int(micros(at)), nonce])


def _texts(*values: str) -> list[bytes]:
    return [v.encode() for v in values]


def _int(value: int) -> bytes:
    return str(value).encode()


def _seconds(value: timedelta) -> bytes:
    return _int(value // timedelta(seconds=1))


def _flag(value: bool) -> bytes:  # noqa: FBT001  one private spelling of a bool
    return b"1" if value else b"0"


def _env(env: Mapping[str, str]) -> bytes:
    if not env:
        return b""
    return pae(part for name in sorted(env) for part in (name.encode(), env[name].encode()))


def _verification(verification: Verification | None) -> bytes:
    return b"" if verification is None else verification.encoded()
