"""What every service is handed: the ports, the process's live state and the limits. Built once, in broker.app.

Holds no logic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from broker.core.clock import Clock, Instant
from broker.core.ids import TenantId
from broker.core.kinds import TargetKind
from broker.service.ends import Ends
from broker.service.leases import Leases, both
from broker.service.live import LiveSessions
from broker.service.policies import Policies
from broker.service.ports import (
    AuditHealth,
    CredentialIssuer,
    Entropy,
    FreezeSpool,
    Indexer,
    Meter,
    Recordings,
    Signer,
    Store,
    Targets,
    Tokens,
    Uploads,
)
from broker.service.roster import Roster
from broker.service.wake import Bell
from recorder.search import index_beside
from recorder.typed import InputPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps that no caller can raise (I-19, I-60)."""

    pending_per_identity: int = 5
    pending_per_tenant: int = 50
    denial_cools_for: timedelta = timedelta(minutes=10)
    credentials_per_grant: int = 100
    sessions_per_grant: int = 10
    sessions_per_process: int = 500
    max_output_bytes: int = 1 << 30
    """Of one command, stdout and stderr together; more cuts it."""
    unwatched_for: timedelta = timedelta(minutes=5)
    """How long a session's input may be held while nobody is there who could let it flow; then it is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Addresses that clients are told."""

    grpc: str
    """`host:port` of the mTLS listener."""
    join: str
    """`host:port` of the enrolment listener."""
    freeze: str
    """`host:port` of the kill switch's own listener."""
    gateway: str
    """`host:port` of the SSH door."""
    gateway_names: tuple[str, ...]
    """Names of the gateway in its host certificate and in known_hosts lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything outside a service, by port."""

    store: Store
    clock: Clock
    entropy: Entropy
    signer: Signer
    targets: Targets
    issuers: Mapping[TargetKind, CredentialIssuer]
    """For every kind of target but SSH."""
    uploads: Uploads
    recordings: Recordings
    tokens: Tokens
    meter: Meter
    audit_health: AuditHealth
    freezes: FreezeSpool
    live: LiveSessions
    leases: Leases
    ends: Ends
    policies: Policies
    bell: Bell
    limits: Limits
    places: Places
    roster: Roster = field(default_factory=Roster)
    """Who may pull the kill switch, in memory."""
    index: Indexer = index_beside
    """How filters of words are made."""
    keeps_input: InputPolicy = InputPolicy.OFF
    """What recordings keep of what is typed and piped in."""
    operators: TenantId | None = None
    """The tenant whose Owners decide over what all tenants share: the keys of the CAs. None: nobody does."""

    def reading(self) -> Instant:
        """One reading of both clocks, the wall put forward to where it must be: by it ends are looked for (I-05)."""
        return self.leases.now(self.clock)

    def instant(self) -> Instant:
        """One reading of both clocks: taken once, at the start of a use case.

        Refuses while the wall clock cannot be trusted (I-05).
        """
        return self.leases.trusted(both(self.clock))

    def ready(self, tenant: TenantId) -> Instant:
        """`instant`, if anything may happen in the tenant, and can also be proved later.

        Nothing is granted, decided or run while it is frozen, written down or not (I-61), or on a broken log (I-31).
        """
        self.live.must_be_open(tenant)
        self.audit_health.refuse_if_broken(tenant)
        return self.instant()
