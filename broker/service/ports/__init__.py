"""What the services need from the world, as Protocols; adapters implement them and see nothing else of the services.

Tests use fakes that pass the same contract suites. Every implementation normalises what it raises: only `Refusal` and
`Fault` of broker.core.errors leave a port.
"""

from broker.service.ports.audit import (
    AuditHealth,
    AuditKeeper,
    AuditLog,
    AuditRecord,
    ConsistencyProof,
    InclusionProof,
    SignedHead,
)
from broker.service.ports.machine import Entropy, Meter
from broker.service.ports.recordings import Indexer, Recordings
from broker.service.ports.rows import (
    ActionRows,
    ApprovalRows,
    AuditRows,
    CredentialRows,
    FreezeRows,
    GrantRows,
    IdempotencyRows,
    IdentityRows,
    KeyRows,
    OutboxRows,
    PolicyRows,
    RequestRows,
    SeenRows,
    SessionRows,
    Store,
    TargetRows,
    TeamRows,
    Tx,
)
from broker.service.ports.signer import Proof, Signer
from broker.service.ports.targets import Chunk, ExecPlan, Finding, Stream, TargetProcess, Targets
from broker.service.ports.tokens import TokenClaims, Tokens
from broker.service.ports.values import (
    Credential,
    Effect,
    Freeze,
    JoinToken,
    PolicyVersion,
    RecordingKey,
    Session,
    SessionState,
)
from broker.service.ports.vault import ROTATED, KeyStanding, Purpose, Resealed, Sealed, VaultRows

__all__ = [
    "ROTATED",
    "ActionRows",
    "ApprovalRows",
    "AuditHealth",
    "AuditKeeper",
    "AuditLog",
    "AuditRecord",
    "AuditRows",
    "Chunk",
    "ConsistencyProof",
    "Credential",
    "CredentialRows",
    "Effect",
    "Entropy",
    "ExecPlan",
    "Finding",
    "Freeze",
    "FreezeRows",
    "GrantRows",
    "IdempotencyRows",
    "IdentityRows",
    "InclusionProof",
    "Indexer",
    "JoinToken",
    "KeyRows",
    "KeyStanding",
    "Meter",
    "OutboxRows",
    "PolicyRows",
    "PolicyVersion",
    "Proof",
    "Purpose",
    "RecordingKey",
    "Recordings",
    "RequestRows",
    "Resealed",
    "Sealed",
    "SeenRows",
    "Session",
    "SessionRows",
    "SessionState",
    "SignedHead",
    "Signer",
    "Store",
    "Stream",
    "TargetProcess",
    "TargetRows",
    "Targets",
    "TeamRows",
    "TokenClaims",
    "Tokens",
    "Tx",
    "VaultRows",
]
