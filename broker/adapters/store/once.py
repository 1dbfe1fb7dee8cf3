"""What happens once: idempotency keys, nonces, and effects that leave after commit. Never performs an effect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, func, insert, select, update

from broker.adapters.store.hot import Hot
from broker.adapters.store.schema import idempotency, outbox, seen_nonce
from broker.adapters.store.statements import MAX_PAGE, TenantRows, add
from broker.adapters.store.values import to_time
from broker.core.clock import from_micros, micros
from broker.core.ids import IdentityId
from broker.service.ports import Effect

_PUT: Final = Hot(insert(outbox).inline(), columns=("tenant", "kind", "subject", "attempts", "due_at"))
_FIND: Final = Hot(
    select(idempotency.c.request_sha256, idempotency.c.made).where(
        idempotency.c.tenant == bindparam("tenant"),
        idempotency.c.identity == bindparam("identity"),
        idempotency.c.method == bindparam("method"),
        idempotency.c.key == bindparam("key"),
    )
)
_REMEMBER: Final = Hot(insert(idempotency), columns=[column.name for column in idempotency.c])
_DUE: Final = (
    select(outbox)
    .where(outbox.c.tenant == bindparam("tenant"), outbox.c.due_at <= bindparam("now"))
    .order_by(outbox.c.due_at, outbox.c.id)
    .limit(bindparam("limit"))
)
_OF: Final = Hot(
    select(outbox).where(
        outbox.c.tenant == bindparam("tenant"),
        outbox.c.kind == bindparam("kind"),
        outbox.c.subject == bindparam("subject"),
    )
)

_DONE: Final = Hot(
    delete(outbox).where(
        outbox.c.tenant == bindparam("tenant"),
        outbox.c.id == bindparam("id"),
        outbox.c.kind == bindparam("kind"),
        outbox.c.subject == bindparam("subject"),
        outbox.c.attempts == bindparam("attempts"),
        outbox.c.due_at == bindparam("due_at"),
    )
)


class IdempotencyRowsSql(TenantRows):
    """IdempotencyRows over SQL."""

    __slots__ = ()

    def find(self, identity: IdentityId, method: str, key: str) -> tuple[bytes, str] | None:
        of = {"tenant": self._tenant, "identity": identity, "method": method, "key": key}
        row = _FIND.one(self._conn, of)
        return None if row is None else (row.request_sha256, row.made)

    def put(self, identity: IdentityId, method: str, key: str, request_sha256: bytes, made: str, now: datetime) -> None:
        row = {
            "tenant": self._tenant,
            "identity": identity,
            "method": method,
            "key": key,
            "request_sha256": request_sha256,
            "made": made,
            "at": micros(now),
        }
        _REMEMBER.run(self._conn, row)

    def forget(self, before: datetime) -> int:
        old = delete(idempotency).where(idempotency.c.tenant == self._tenant, idempotency.c.at < micros(before))
        return self._conn.execute(old).rowcount


class SeenRowsSql(TenantRows):
    """SeenRows over SQL."""

    __slots__ = ()

    def first_time(self, purpose: str, nonce: bytes, expires_at: datetime) -> bool:
        row = {"tenant": self._tenant, "purpose": purpose, "nonce": nonce, "expires_at": micros(expires_at)}
        return add(self._conn, seen_nonce, row)

    def forget(self, now: datetime) -> int:
        old = delete(seen_nonce).where(seen_nonce.c.tenant == self._tenant, seen_nonce.c.expires_at < micros(now))
        return self._conn.execute(old).rowcount


class OutboxRowsSql(TenantRows):
    """OutboxRows over SQL. An effect is done or retried as the exact row that was read: SQLite gives numbers again."""

    __slots__ = ()

    def put(self, effect: Effect) -> None:
        row = {
            "tenant": self._own(effect.tenant),
            "kind": effect.kind,
            "subject": effect.subject,
            "attempts": effect.attempts,
            "due_at": micros(effect.due_at),
        }
        _PUT.run(self._conn, row)

    def due(self, now: datetime, limit: int) -> Sequence[Effect]:
        of = {"tenant": self._tenant, "now": micros(now), "limit": max(0, min(limit, MAX_PAGE))}
        return [_effect(row) for row in self._conn.execute(_DUE, of)]

    def of(self, kind: str, subject: str) -> Sequence[Effect]:
        return [
            _effect(row) for row in _OF.named(self._conn, {"tenant": self._tenant, "kind": kind, "subject": subject})
        ]

    def done(self, effect: Effect) -> None:
        exactly = {
            "tenant": self._own(effect.tenant),
            "id": effect.id,
            "kind": effect.kind,
            "subject": effect.subject,
            "attempts": effect.attempts,
            "due_at": micros(effect.due_at),
        }
        _DONE.run(self._conn, exactly)

    def retry(self, effect: Effect, due_at: datetime, *, why: str, now: datetime) -> None:
        since = func.coalesce(outbox.c.failing_since, micros(now))
        later = update(outbox).where(self._exactly(effect))
        failed = {"attempts": outbox.c.attempts + 1, "why": why, "failing_since": since}
        self._conn.execute(later.values(due_at=micros(due_at), **failed))

    def hasten(self, effect: Effect, due_at: datetime) -> None:
        self._conn.execute(update(outbox).where(self._exactly(effect)).values(due_at=micros(due_at)))

    def _exactly(self, effect: Effect) -> ColumnElement[bool]:
        return and_(
            outbox.c.tenant == self._own(effect.tenant),
            outbox.c.id == effect.id,
            outbox.c.kind == effect.kind,
            outbox.c.subject == effect.subject,
            outbox.c.attempts == effect.attempts,
            outbox.c.due_at == micros(effect.due_at),
        )


def _effect(row: Row[Any]) -> Effect:
    return Effect(
        tenant=row.tenant,
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        attempts=row.attempts,
        due_at=from_micros(row.due_at),
        why=row.why or "",
        failing_since=to_time(row.failing_since),
    )
