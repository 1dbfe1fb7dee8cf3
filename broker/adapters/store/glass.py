"""Sealed credentials as rows. Never says which may be used: that is broker.service.glass's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, bindparam, select

from broker.adapters.store.schema import break_glass
from broker.adapters.store.statements import TenantRows, by_id, put
from broker.adapters.store.values import from_time, to_time
from broker.core.clock import from_micros, micros
from broker.core.glass import BreakGlass, GlassId
from broker.core.ids import IdentityId, RequestId, TargetId
from policy.classes import CommandClass

_ALL: Final = (
    select(break_glass)
    .where(break_glass.c.tenant == bindparam("tenant"))
    .order_by(break_glass.c.made_at, break_glass.c.id)
)
_OF_REQUEST: Final = select(break_glass).where(
    break_glass.c.tenant == bindparam("tenant"), break_glass.c.request_id == bindparam("request")
)
_OWES: Final = _ALL.where(break_glass.c.used_at.is_not(None), break_glass.c.reviewed_at.is_(None))


class GlassRowsSql(TenantRows):
    """ports.GlassRows over SQL."""

    __slots__ = ()

    def get(self, glass: GlassId) -> BreakGlass | None:
        row = self._conn.execute(by_id(break_glass), {"tenant": self._tenant, "id": glass}).one_or_none()
        return None if row is None else self._glass(row)

    def put(self, glass: BreakGlass) -> None:
        put(self._conn, break_glass, self._row(glass))

    def all(self) -> Sequence[BreakGlass]:
        return [self._glass(row) for row in self._conn.execute(_ALL, {"tenant": self._tenant})]

    def owing_review(self) -> Sequence[BreakGlass]:
        return [self._glass(row) for row in self._conn.execute(_OWES, {"tenant": self._tenant})]

    def of_request(self, request: RequestId) -> BreakGlass | None:
        row = self._conn.execute(_OF_REQUEST, {"tenant": self._tenant, "request": request}).one_or_none()
        return None if row is None else self._glass(row)

    def _row(self, value: BreakGlass) -> dict[str, object]:
        return {
            "tenant": self._own(value.tenant),
            "id": value.id,
            "person": value.person,
            "target_id": value.target_id,
            "login": value.login,
            "ceiling": value.ceiling.word,
            "key": value.key,
            "until": micros(value.until),
            "made_by": value.made_by,
            "made_at": micros(value.made_at),
            "used_at": from_time(value.used_at),
            "request_id": value.request_id,
            "use": value.use,
            "signature": value.signature,
            "reviewed_by": value.reviewed_by,
            "reviewed_at": from_time(value.reviewed_at),
        }

    def _glass(self, row: Row[Any]) -> BreakGlass:
        return BreakGlass(
            tenant=self._tenant,
            id=GlassId(row.id),
            person=IdentityId(row.person),
            target_id=TargetId(row.target_id),
            login=row.login,
            ceiling=CommandClass.from_word(row.ceiling),
            key=row.key,
            until=from_micros(row.until),
            made_by=IdentityId(row.made_by),
            made_at=from_micros(row.made_at),
            used_at=to_time(row.used_at),
            request_id=None if row.request_id is None else RequestId(row.request_id),
            use=bytes(row.use),
            signature=bytes(row.signature),
            reviewed_by=None if row.reviewed_by is None else IdentityId(row.reviewed_by),
            reviewed_at=to_time(row.reviewed_at),
        )
