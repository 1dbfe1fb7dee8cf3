"""Access requests as rows. Never moves one along: that is broker.core.request's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, bindparam, func, select

from broker.adapters.store.hot import Hot
from broker.adapters.store.schema import access_request
from broker.adapters.store.statements import TenantRows, hot_by_id, put
from broker.adapters.store.values import from_span, from_words, to_span, to_words
from broker.core.clock import from_micros, micros
from broker.core.ids import IdentityId, RequestId
from broker.core.request import AccessRequest, RequestState
from policy.classes import CommandClass

_IS_PENDING: Final = (access_request.c.tenant == bindparam("tenant")) & (
    access_request.c.state == RequestState.PENDING.value
)
_PENDING: Final = select(access_request).where(_IS_PENDING).order_by(access_request.c.created_at, access_request.c.id)
_COUNT: Final = select(func.count()).select_from(access_request).where(_IS_PENDING)
_COUNT_OF_ONE: Final = _COUNT.where(access_request.c.identity == bindparam("identity"))

_CLAIMED: Final = Hot(
    select(access_request.c.ticket, access_request.c.reason, access_request.c.evidence).where(
        access_request.c.tenant == bindparam("tenant"), access_request.c.id == bindparam("id")
    )
)


class RequestRowsSql(TenantRows):
    """RequestRows over SQL."""

    __slots__ = ()

    def get(self, request: RequestId) -> AccessRequest | None:
        row = hot_by_id(access_request).one(self._conn, {"tenant": self._tenant, "id": request})
        return None if row is None else _value(row)

    def claimed(self, request: RequestId) -> tuple[str, str, str] | None:
        row = _CLAIMED.one(self._conn, {"tenant": self._tenant, "id": request})
        return None if row is None else (row.ticket, row.reason, row.evidence)

    def put(self, request: AccessRequest) -> None:
        self._own(request.tenant)
        put(self._conn, access_request, _row(request))

    def pending(self) -> Sequence[AccessRequest]:
        return [_value(row) for row in self._conn.execute(_PENDING, {"tenant": self._tenant})]

    def count_pending(self, identity: IdentityId | None) -> int:
        if identity is None:
            return self._conn.execute(_COUNT, {"tenant": self._tenant}).scalar_one()
        return self._conn.execute(_COUNT_OF_ONE, {"tenant": self._tenant, "identity": identity}).scalar_one()


def _row(value: AccessRequest) -> dict[str, object]:
    return {
        "tenant": value.tenant,
        "id": value.id,
        "requester": value.requester,
        "identity": value.identity,
        "identity_key": value.identity_key,
        "target_id": value.target_id,
        "host_key": value.host_key,
        "login": value.login,
        "ceiling": value.ceiling.word,
        "flags": from_words(value.flags),
        "ttl_us": from_span(value.ttl),
        "reason": value.reason,
        "ticket": value.ticket,
        "evidence": value.evidence,
        "policy_version": value.policy_version,
        "nonce": value.nonce,
        "quorum": value.quorum,
        "approver_roles": from_words(value.approver_roles),
        "state": value.state.value,
        "created_at": micros(value.created_at),
        "expires_at": micros(value.expires_at),
        "grant_id": value.grant_id,
        "note": value.note,
    }


def _value(row: Row[Any]) -> AccessRequest:
    return AccessRequest(
        tenant=row.tenant,
        id=row.id,
        requester=row.requester,
        identity=row.identity,
        identity_key=row.identity_key,
        target_id=row.target_id,
        host_key=row.host_key,
        login=row.login,
        ceiling=CommandClass.from_word(row.ceiling),
        flags=to_words(row.flags),
        ttl=to_span(row.ttl_us),
        reason=row.reason,
        ticket=row.ticket,
        evidence=row.evidence,
        policy_version=row.policy_version,
        nonce=row.nonce,
        quorum=row.quorum,
        approver_roles=to_words(row.approver_roles),
        state=RequestState(row.state),
        created_at=from_micros(row.created_at),
        expires_at=from_micros(row.expires_at),
        grant_id=row.grant_id,
        note=row.note,
    )
