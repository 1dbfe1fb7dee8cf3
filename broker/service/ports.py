"""What the services need from the world, as Protocols. Adapters implement them.

Tests use fakes that pass the same contract suites.

Every implementation normalises what it raises: only `Refusal` and `Fault` of broker.core.errors leave a port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from broker.core.action import Action, ActionState, Outcome
from broker.core.approval import Approval, Subject
from broker.core.cert import CertSpec, X509Spec
from broker.core.events import AuditEvent
from broker.core.grant import Grant, GrantState
from broker.core.identity import Identity, IdentityKind, Target, Team
from broker.core.ids import (
    ActionId,
    AuditId,
    CredentialId,
    GrantId,
    IdentityId,
    RecordingId,
    RequestId,
    SessionId,
    TargetId,
    TeamId,
    TenantId,
)
from broker.core.request import AccessRequest
from broker.core.secret import Secret
from recorder.reader import RecordingReader
from recorder.sink import RecordingSink
from recorder.store.files import Unfinished
from recorder.track import RecordingMeta

T = TypeVar("T")


# ---- randomness
# -------------------------------------------------------------------------------------------------------
class Entropy(Protocol):
    """The only source of randomness."""

    def token(self, size: int) -> bytes:
        """`size` random bytes from the operating system."""
        ...

    def uuid7(self, now: datetime) -> AuditId:
        """A UUIDv7 of `now`, 32 lower-case hex digits."""
        ...


# ---- the store
# --------------------------------------------------------------------------------------------------------
class SessionState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    CUT = "cut"
    LOST = "lost"
    """The broker died while it was open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One use of a grant on a target, always recorded."""

    tenant: TenantId
    id: SessionId
    grant_id: GrantId
    action_id: ActionId | None
    identity: IdentityId
    target_id: TargetId
    login: str
    kind: str
    """`exec`; later `shell`, `raw_shell`, `sftp`."""
    door: str
    """`grpc` or `ssh`."""
    recording: RecordingId
    state: SessionState
    opened_at: datetime
    closed_at: datetime | None
    end_reason: str
    recording_leaves: int
    """Frames committed at close, or at the last checkpoint while open."""
    recording_root: bytes
    """32 bytes, or empty while nothing is committed."""
    recording_state: str
    """`open`, `final`, `truncated` or `torn`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate or token that a grant issued; the row without which its signature is worth nothing (I-08)."""

    tenant: TenantId
    id: CredentialId
    grant_id: GrantId
    kind: str
    """`ssh` (ingress certificate), `token` (JWT), `egress`."""
    serial: str
    """Decimal certificate serial, or the token's jti."""
    key: bytes
    """SHA-256 of the bound public key: SSH public key blob for certificates, client SPKI for tokens."""
    issued_at: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """One stored set of Cedar files. `version` is the SHA-256 hex of policy.engine."""

    tenant: TenantId
    version: str
    sources: Mapping[str, str]
    put_by: str
    put_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """The kill switch: while a row stands, nothing is issued, approved or run in the tenant (I-61)."""

    tenant: TenantId
    frozen_by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A one-time enrolment right. Only the SHA-256 of the secret is kept (I-53)."""

    tenant: TenantId
    secret_sha256: bytes
    identity: IdentityId
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something to do after commit, idempotent, retried until done (the outbox)."""

    tenant: TenantId
    id: int
    """Assigned by the store; 0 in a new one."""
    kind: str
    """`end_grant`."""
    subject: str
    attempts: int
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingKey:
    """A recording's data key, opened. `key_id` stands in the recording's header."""

    recording: RecordingId
    key_id: str
    key: Secret[bytes]


class IdentityRows(Protocol):
    def get(self, identity: IdentityId) -> Identity | None: ...
    def by_name(self, kind: IdentityKind, name: str) -> Identity | None: ...
    def by_key(self, key: bytes) -> Identity | None:
        """By SHA-256 of the client SPKI; only ACTIVE ones."""
        ...

    def all(self) -> Sequence[Identity]: ...
    def put(self, identity: Identity) -> None:
        """Insert or replace, teams and approval keys included. Raises Refusal `name_taken`."""
        ...

    def put_join(self, token: JoinToken) -> None: ...
    def take_join(self, secret_sha256: bytes, now: datetime) -> IdentityId | None:
        """Spends the token: exactly one caller ever gets the identity; None if unknown, spent or late."""
        ...

    def forget_joins(self, now: datetime) -> int:
        """Drops join tokens that ended before `now`; returns how many."""
        ...


class TeamRows(Protocol):
    def get(self, team: TeamId) -> Team | None: ...
    def by_name(self, name: str) -> Team | None: ...
    def all(self) -> Sequence[Team]: ...
    def put(self, team: Team) -> None: ...


class TargetRows(Protocol):
    def get(self, target: TargetId) -> Target | None: ...
    def by_name(self, name: str) -> Target | None: ...
    def all(self) -> Sequence[Target]: ...
    def put(self, target: Target) -> None: ...


class RequestRows(Protocol):
    def get(self, request: RequestId) -> AccessRequest | None: ...
    def put(self, request: AccessRequest) -> None: ...
    def pending(self) -> Sequence[AccessRequest]:
        """Oldest first."""
        ...

    def count_pending(self, identity: IdentityId | None) -> int:
        """Of one identity, or of the tenant where None."""
        ...


class GrantRows(Protocol):
    def get(self, grant: GrantId) -> Grant | None: ...
    def put(self, grant: Grant) -> None: ...
    def in_states(self, states: Iterable[GrantState]) -> Sequence[Grant]: ...
    def page(self, *, identity: IdentityId | None, after: GrantId | None, limit: int) -> Sequence[Grant]:
        """Newest first."""
        ...


class ActionRows(Protocol):
    def get(self, action: ActionId) -> Action | None: ...
    def put(self, action: Action) -> None: ...
    def in_states(self, states: Iterable[ActionState], *, grant: GrantId | None) -> Sequence[Action]:
        """Oldest first; of one grant, or of the tenant where None."""
        ...

    def count_awaiting(self, identity: IdentityId | None) -> int: ...
    def awaiting_with_key(self, key: bytes, grant: GrantId) -> Action | None:
        """The AWAITING action of a grant with this action key, if any (a retry merges into it)."""
        ...

    def denied_since(self, key: bytes, identity: IdentityId, since: datetime) -> Action | None:
        """The newest action of an identity with this key that a person denied at or after `since` (cool-down)."""
        ...

    def page(
        self, *, grant: GrantId | None, identity: IdentityId | None, after: ActionId | None, limit: int
    ) -> Sequence[Action]: ...


class ApprovalRows(Protocol):
    def add(self, approval: Approval) -> None:
        """One row a person and subject: a second decision of the same person raises Refusal `already_decided`."""
        ...

    def of(self, subject: Subject, subject_id: str) -> Sequence[Approval]: ...
    def spend(self, subject: Subject, subject_id: str) -> bool:
        """Marks the approvals as used; False if they already were (single use, I-13, I-63)."""
        ...


class SessionRows(Protocol):
    def get(self, session: SessionId) -> Session | None: ...
    def put(self, session: Session) -> None: ...
    def open(self, grant: GrantId | None) -> Sequence[Session]: ...
    def page(self, *, identity: IdentityId | None, after: SessionId | None, limit: int) -> Sequence[Session]:
        """Newest first."""
        ...


class CredentialRows(Protocol):
    def add(self, credential: Credential) -> None: ...
    def by_serial(self, kind: str, serial: str) -> Credential | None: ...
    def count(self, grant: GrantId, kinds: Iterable[str]) -> int:
        """How many of these kinds a grant has issued."""
        ...


class PolicyRows(Protocol):
    def current(self) -> PolicyVersion | None: ...
    def put(self, version: PolicyVersion) -> None: ...


class FreezeRows(Protocol):
    def active(self) -> Freeze | None: ...
    def put(self, freeze: Freeze) -> None: ...
    def lift(self) -> None: ...


class IdempotencyRows(Protocol):
    def find(self, identity: IdentityId, method: str, key: str) -> tuple[bytes, str] | None:
        """(SHA-256 of the request, id of what it made) of an earlier call with this key."""
        ...

    def put(
        self, identity: IdentityId, method: str, key: str, request_sha256: bytes, made: str, now: datetime
    ) -> None: ...

    def forget(self, before: datetime) -> int:
        """Drops keys that were used before `before`; returns how many."""
        ...


class SeenRows(Protocol):
    def first_time(self, purpose: str, nonce: bytes, expires_at: datetime) -> bool:
        """True for exactly one caller a (purpose, nonce); rows may be dropped after `expires_at`."""
        ...

    def forget(self, now: datetime) -> int:
        """Drops what expired before `now`; returns how many."""
        ...


class OutboxRows(Protocol):
    def put(self, effect: Effect) -> None: ...
    def due(self, now: datetime, limit: int) -> Sequence[Effect]: ...
    def done(self, effect: Effect) -> None: ...
    def retry(self, effect: Effect, due_at: datetime) -> None: ...


class AuditRows(Protocol):
    def append(self, event: AuditEvent, now: datetime) -> AuditId:
        """Puts the finished entry (canonical bytes, digests, sealed disclosures) into the log's outbox (I-31)."""
        ...


class KeyRows(Protocol):
    def new_recording_key(self, recording: RecordingId) -> RecordingKey:
        """A fresh 32-byte DEK, stored wrapped by the tenant's recordings key; the row lives outside the file."""
        ...

    def recording_key(self, recording: RecordingId) -> RecordingKey | None: ...
    def secret(self, name: str) -> Secret[bytes] | None: ...
    def put_secret(self, name: str, value: Secret[bytes]) -> None: ...


class Tx(Protocol):
    """One unit of work's view of one tenant. Valid only inside the unit."""

    @property
    def identities(self) -> IdentityRows: ...
    @property
    def teams(self) -> TeamRows: ...
    @property
    def targets(self) -> TargetRows: ...
    @property
    def requests(self) -> RequestRows: ...
    @property
    def grants(self) -> GrantRows: ...
    @property
    def actions(self) -> ActionRows: ...
    @property
    def approvals(self) -> ApprovalRows: ...
    @property
    def sessions(self) -> SessionRows: ...
    @property
    def credentials(self) -> CredentialRows: ...
    @property
    def policies(self) -> PolicyRows: ...
    @property
    def freezes(self) -> FreezeRows: ...
    @property
    def idempotency(self) -> IdempotencyRows: ...
    @property
    def seen(self) -> SeenRows: ...
    @property
    def outbox(self) -> OutboxRows: ...
    @property
    def audit(self) -> AuditRows: ...
    @property
    def keys(self) -> KeyRows: ...


class Store(Protocol):
    """Units of work. A unit is a plain synchronous function.

    It may not block on anything but its Tx, and may run again after a conflict.
    """

    async def run(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        """One transaction, durable when this returns. An exception rolls the unit back and comes out as it was.

        Raises:
            StoreFault: the database could not (read-only, full, locked, gone); nothing was written.
        """
        ...

    async def read(self, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
        """Reads only; a write in it fails."""
        ...

    async def tenants(self) -> Sequence[TenantId]:
        """Every tenant but `_system`."""
        ...


# ---- the signer
# -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Why a certificate may be signed: the record that people signed and their signatures.

    Empty where policy let it run unattended.
    """

    record: bytes
    signatures: tuple[bytes, ...]


class Signer(Protocol):
    """The only holder of CA keys, another process. Raises SignerFault; checks what it signed before returning it."""

    async def sign_ssh(self, spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
        """An OpenSSH certificate blob for the Ed25519 `public_key` blob (SSH wire form)."""
        ...

    async def sign_x509(self, spec: X509Spec, csr_der: bytes) -> bytes:
        """A DER certificate for the key of the CSR; names come from the spec alone."""
        ...

    async def ssh_ca(self, name: str) -> bytes:
        """Public key blob (SSH wire form) of the `ingress`, `egress` or `host` CA."""
        ...

    async def x509_ca(self) -> bytes:
        """The X.509 CA certificate, DER."""
        ...


# ---- recordings
# -------------------------------------------------------------------------------------------------------
class Recordings(Protocol):
    """Where recordings are kept; recorder.store.files is one. Raises recorder.errors.RecorderFailed.

    No recording, no session.
    """

    async def create(self, meta: RecordingMeta) -> RecordingSink:
        """Opens a recording whose header is durable on return."""
        ...

    async def open(
        self, *, ten: str, rec: str, sid: str, start: datetime, dek: bytes | bytearray | None
    ) -> RecordingReader:
        """A reader over its parts; without a key it verifies only."""
        ...

    async def scan_unfinished(self, *, is_closed: Callable[[str, str], bool]) -> Sequence[Unfinished]:
        """Recordings that broke off with their broker."""
        ...


# ---- targets
# ----------------------------------------------------------------------------------------------------------
class Stream(StrEnum):
    OUT = "out"
    ERR = "err"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Bytes that the command wrote; at most 64 KiB."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecPlan:
    """One decided command, ready to run. Nothing in it is decided by the adapter."""

    tenant: TenantId
    grant_id: GrantId
    action_id: ActionId
    target: Target
    login: str
    """The login on the target: the grant's, or its read_login for a pooled read."""
    command: bytes
    cwd: str
    env: Mapping[str, str]
    sealed: bool
    """True: own connection, own certificate, force-command = this command in the wrapper. False: pooled read."""
    wants_stdin: bool
    serial: int
    """For the certificate, if a connection has to be opened for it."""
    not_after: datetime
    seconds_left: float
    """Counted on the target itself by the reaper or the wrapper."""
    proof: Proof
    announce: Callable[[int], Awaitable[None]]
    """Awaited with the serial before the signer is asked: the intent is durable first."""


class TargetProcess(Protocol):
    """One running command. Not reading is the back-pressure: at most 2 MiB wait in the broker."""

    async def read(self) -> Chunk | Outcome:
        """The next bytes, or how it ended; after that it is closed. Raises TargetFault `connection_lost`."""
        ...

    async def write(self, data: bytes) -> None:
        """To its stdin; waits while the target does not read."""
        ...

    async def write_eof(self) -> None: ...
    async def cut(self) -> None:
        """Ends it on the target too (reaper, wrapper), at once; idempotent.

        Returns within 1 s whatever the target does.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a check of a target from outside."""

    ok: bool
    what: str
    """Short, plain; never the target's own text."""
    advice: str


class Targets(Protocol):
    """The only way to a target.

    Raises TargetFault with codes `unreachable`, `host_key_changed`, `login_refused`, `too_slow`, `connection_lost`,
    `no_bash`.
    """

    async def start(self, plan: ExecPlan) -> TargetProcess: ...
    async def end_grant(self, tenant: TenantId, grant: GrantId) -> None:
        """Closes the pooled connection of a grant and what still runs on it; idempotent; bounded to 1 s."""
        ...

    async def probe(
        self, target: Target, login: str, announce: Callable[[int], Awaitable[None]], serial: int
    ) -> Sequence[Finding]:
        """Checks from outside.

        Reachable, host key as pinned, egress certificate accepted, wrong principal refused, bash there, no start-up
        file sourced.
        """
        ...

    def sshd_lines(self, target: Target, egress_ca: str) -> str:
        """What an administrator adds to the target's sshd, ready to paste.

        `egress_ca` is an OpenSSH public key line.
        """
        ...

    async def fetch_host_key(self, host: str, port: int) -> str:
        """The Ed25519 host key that the address shows right now, as an OpenSSH line.

        For an administrator to compare, never trusted by itself.
        """
        ...


# ---- seeing
# -----------------------------------------------------------------------------------------------------------
class Meter(Protocol):
    """Counters and histograms with bounded labels; never raises (style.md rule 22)."""

    def count(self, name: str, **labels: str) -> None: ...
    def observe(self, name: str, value: float, **labels: str) -> None: ...
    def gauge(self, name: str, value: float, **labels: str) -> None: ...


# ---- the audit log
# ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One row of a tenant's log, checked against the tree before it is handed out."""

    seq: int
    """Leaf index."""
    entry: bytes
    """The exact leaf: canonical JSON (recorder.entry)."""
    disclosures: tuple[bytes, ...]
    """Texts whose digests stand in the entry; fewer than digests only where a `subject.erased` row says so."""
    at: datetime
    code: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """The newest published checkpoint of a log."""

    note: bytes
    """C2SP signed note."""
    vkey: str
    """Verifier key of the log, `origin+id+key`."""
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """That leaf `seq` is in the tree of `size` leaves (RFC 6962)."""

    seq: int
    size: int
    leaf_hash: bytes
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyProof:
    """That the tree of `old_size` leaves is a prefix of the tree of `size` leaves (RFC 6962)."""

    old_size: int
    size: int
    hashes: tuple[bytes, ...]


class AuditHealth(Protocol):
    """Whether what happens now can still be proved later. Asked before anything is granted, signed or run (I-31)."""

    def refuse_if_broken(self, tenant: TenantId) -> None:
        """Raises Refusal `audit_log_forked` or `audit_log_late`; never waits, never touches the store."""
        ...


class AuditLog(Protocol):
    """Reading a tenant's log. Who reads, and why, is the service's to write down first (I-33)."""

    async def entries(self, tenant: TenantId, *, from_seq: int, limit: int) -> Sequence[AuditRecord]:
        """In order, at most `limit` (1 to 1000). Raises Fault when a row or a disclosure is not what the tree holds."""
        ...

    async def head(self, tenant: TenantId) -> SignedHead | None:
        """The newest checkpoint; None before the first."""
        ...

    async def prove_inclusion(self, tenant: TenantId, *, seq: int, size: int | None) -> InclusionProof:
        """In the tree of `size`, None = the newest checkpoint's. Raises Refusal `no_such_leaf`, `no_such_size`."""
        ...

    async def prove_consistency(self, tenant: TenantId, *, old_size: int, size: int | None) -> ConsistencyProof:
        """From `old_size` to `size`, None = the newest checkpoint's. Raises Refusal `no_such_size`."""
        ...

    def export_bundle(
        self, tenant: TenantId, *, recordings: bool, disclosures: bool
    ) -> AsyncIterator[tuple[str, bytes]]:
        """The files of a bundle (recorder.bundle) as (relative path, at most 256 KiB).

        The same path again continues it.

        Made at the newest checkpoint, which never moves under it. Raises Refusal `no_checkpoint`.
        """
        ...


class AuditKeeper(Protocol):
    """What keeps a log growing; driven by broker.jobs.sequencer alone. Every call raises Fault when it could not."""

    async def start(self, now: datetime) -> None:
        """Opens or makes the signing key, holds every kept head against the log. Nothing is served before this."""
        ...

    async def waiting(self, *, sweep: bool) -> Sequence[TenantId]:
        """Logs with something to sequence, as far as this broker knows; `sweep` looks into every log."""
        ...

    async def sequence(self, tenant: TenantId) -> int:
        """Gives waiting entries their places, at most one batch, durably. Returns how many."""
        ...

    def unsigned(self) -> Sequence[TenantId]:
        """Logs that have grown since their last signed head."""
        ...

    async def sign_head(self, tenant: TenantId, now: datetime) -> bool:
        """Proves that the log continues its last signed head, signs, keeps outside the database, publishes.

        False if nothing is new. A log that does not continue is broken from then on: AuditHealth refuses.
        """
        ...

    async def beat(self, now: datetime) -> Sequence[TenantId]:
        """Appends `system.heartbeat` to each log whose last signed head is an hour old, so that silence can be seen."""
        ...

    def report(self) -> None:
        """Lag and state to the meter."""
        ...


# ---- grant tokens
# -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaims:
    """What a grant token says (RFC 7519, RFC 7800). Every claim is required.

    None is trusted without its row (I-08, I-09).
    """

    jti: str
    tenant: TenantId
    grant: GrantId
    key: bytes
    """`cnf.jkt`: SHA-256 of the client key's SPKI, 32 bytes."""
    issued_at: datetime
    not_before: datetime
    expires_at: datetime


class Tokens(Protocol):
    """Signs and verifies grant tokens. One algorithm, one key id; anything unusual is refused."""

    def sign(self, claims: TokenClaims) -> str:
        """A compact JWT (EdDSA)."""
        ...

    def verify(self, token: str, *, now: datetime) -> TokenClaims:
        """The claims of a token whose signature, header, names, audience and times all hold at `now`.

        Raises:
            Refusal: `bad_token`, whatever was wrong.
        """
        ...
