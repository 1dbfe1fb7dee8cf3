"""One unit of work's view of one tenant: a row set a kind, made when first asked for. Never begins or commits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Connection

from broker.adapters.store.actions import ActionRowsSql
from broker.adapters.store.approvals import ApprovalRowsSql
from broker.adapters.store.glass import GlassRowsSql
from broker.adapters.store.grants import CredentialRowsSql, GrantRowsSql
from broker.adapters.store.identities import IdentityRowsSql
from broker.adapters.store.once import IdempotencyRowsSql, OutboxRowsSql, SeenRowsSql
from broker.adapters.store.requests import RequestRowsSql
from broker.adapters.store.rules import FreezeRowsSql, PolicyRowsSql
from broker.adapters.store.secrets import SecretRowsSql
from broker.adapters.store.sessions import SessionRowsSql
from broker.adapters.store.targets import TargetRowsSql, TeamRowsSql
from broker.core.ids import TenantId
from broker.service.ports import AuditRows, KeyRows


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSource:
    """Who makes the rows that need more than a connection: the vault's keys and the audit entries."""

    keys: Callable[[Connection, TenantId], KeyRows]
    audit: Callable[[Connection, TenantId], AuditRows]


class SqlTx:
    """Tx over one SQLAlchemy connection. Valid only inside its unit."""

    def __init__(self, conn: Connection, tenant: TenantId, source: RowSource) -> None:
        self._conn, self._tenant, self._source = conn, tenant, source

    @cached_property
    def identities(self) -> IdentityRowsSql:
        return IdentityRowsSql(self._conn, self._tenant)

    @cached_property
    def teams(self) -> TeamRowsSql:
        return TeamRowsSql(self._conn, self._tenant)

    @cached_property
    def targets(self) -> TargetRowsSql:
        return TargetRowsSql(self._conn, self._tenant)

    @cached_property
    def requests(self) -> RequestRowsSql:
        return RequestRowsSql(self._conn, self._tenant)

    @cached_property
    def grants(self) -> GrantRowsSql:
        return GrantRowsSql(self._conn, self._tenant)

    @cached_property
    def actions(self) -> ActionRowsSql:
        return ActionRowsSql(self._conn, self._tenant)

    @cached_property
    def approvals(self) -> ApprovalRowsSql:
        return ApprovalRowsSql(self._conn, self._tenant)

    @cached_property
    def sessions(self) -> SessionRowsSql:
        return SessionRowsSql(self._conn, self._tenant)

    @cached_property
    def credentials(self) -> CredentialRowsSql:
        return CredentialRowsSql(self._conn, self._tenant)

    @cached_property
    def policies(self) -> PolicyRowsSql:
        return PolicyRowsSql(self._conn, self._tenant)

    @cached_property
    def freezes(self) -> FreezeRowsSql:
        return FreezeRowsSql(self._conn, self._tenant)

    @cached_property
    def idempotency(self) -> IdempotencyRowsSql:
        return IdempotencyRowsSql(self._conn, self._tenant)

    @cached_property
    def seen(self) -> SeenRowsSql:
        return SeenRowsSql(self._conn, self._tenant)

    @cached_property
    def outbox(self) -> OutboxRowsSql:
        return OutboxRowsSql(self._conn, self._tenant)

    @cached_property
    def audit(self) -> AuditRows:
        return self._source.audit(self._conn, self._tenant)

    @cached_property
    def secrets(self) -> SecretRowsSql:
        return SecretRowsSql(self._conn, self._tenant)

    @cached_property
    def glasses(self) -> GlassRowsSql:
        return GlassRowsSql(self._conn, self._tenant)

    @cached_property
    def keys(self) -> KeyRows:
        return self._source.keys(self._conn, self._tenant)
