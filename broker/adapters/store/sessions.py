"""Sessions as rows. Never holds a recorded byte: only the root that commits to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, bindparam, select, true

from broker.adapters.store.schema import session
from broker.adapters.store.statements import TenantRows, hot_by_id, page, put
from broker.adapters.store.values import from_time, to_time
from broker.core.clock import from_micros, micros
from broker.core.ids import GrantId, IdentityId, SessionId
from broker.service.ports import Session, SessionState

_OPEN: Final = (
    select(session)
    .where(session.c.tenant == bindparam("tenant"), session.c.state == SessionState.OPEN.value)
    .order_by(session.c.opened_at, session.c.id)
)
_OPEN_OF_GRANT: Final = _OPEN.where(session.c.grant_id == bindparam("grant"))


class SessionRowsSql(TenantRows):
    """SessionRows over SQL."""

    __slots__ = ()

    def get(self, session_id: SessionId) -> Session | None:
        row = hot_by_id(session).one(self._conn, {"tenant": self._tenant, "id": session_id})
        return None if row is None else _value(row)

    def put(self, value: Session) -> None:
        self._own(value.tenant)
        put(self._conn, session, _row(value))

    def open(self, grant: GrantId | None) -> Sequence[Session]:
        if grant is None:
            return [_value(row) for row in self._conn.execute(_OPEN, {"tenant": self._tenant})]
        of = {"tenant": self._tenant, "grant": grant}
        return [_value(row) for row in self._conn.execute(_OPEN_OF_GRANT, of)]

    def page(self, *, identity: IdentityId | None, after: SessionId | None, limit: int) -> Sequence[Session]:
        whose = true() if identity is None else session.c.identity == identity
        rows = page(self._conn, session, "opened_at", whose, tenant=self._tenant, after=after, limit=limit)
        return [_value(row) for row in rows]


def _row(value: Session) -> dict[str, object]:
    return {
        "tenant": value.tenant,
        "id": value.id,
        "grant_id": value.grant_id,
        "action_id": value.action_id,
        "identity": value.identity,
        "target_id": value.target_id,
        "login": value.login,
        "kind": value.kind,
        "door": value.door,
        "recording": value.recording,
        "state": value.state.value,
        "opened_at": micros(value.opened_at),
        "closed_at": from_time(value.closed_at),
        "end_reason": value.end_reason,
        "recording_leaves": value.recording_leaves,
        "recording_root": value.recording_root,
        "recording_state": value.recording_state,
    }


def _value(row: Row[Any]) -> Session:
    return Session(
        tenant=row.tenant,
        id=row.id,
        grant_id=row.grant_id,
        action_id=row.action_id,
        identity=row.identity,
        target_id=row.target_id,
        login=row.login,
        kind=row.kind,
        door=row.door,
        recording=row.recording,
        state=SessionState(row.state),
        opened_at=from_micros(row.opened_at),
        closed_at=to_time(row.closed_at),
        end_reason=row.end_reason,
        recording_leaves=row.recording_leaves,
        recording_root=row.recording_root,
        recording_state=row.recording_state,
    )
