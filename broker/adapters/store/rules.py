"""The tenant's policy versions and its kill switch, as rows. Never reads a policy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, func, insert, select

from broker.adapters.store.hot import Hot
from broker.adapters.store.schema import freeze, policy_version
from broker.adapters.store.statements import TenantRows, put
from broker.adapters.store.values import from_json, to_json
from broker.core.clock import from_micros, micros
from broker.service.ports import Freeze, PolicyVersion

_SETS_KEPT: Final = 16
"""Texts of policies that are kept as they are read: the set in force is looked at with every decision."""
_CURRENT: Final = Hot(
    select(policy_version)
    .where(policy_version.c.tenant == bindparam("tenant"))
    .order_by(policy_version.c.n.desc())
    .limit(1)
)
_BY_VERSION: Final = (
    select(policy_version)
    .where(policy_version.c.tenant == bindparam("tenant"), policy_version.c.version == bindparam("version"))
    .order_by(policy_version.c.n.desc())
    .limit(1)
)
_HIGHEST: Final = select(func.coalesce(func.max(policy_version.c.n), 0)).where(
    policy_version.c.tenant == bindparam("tenant")
)
_FREEZE: Final = Hot(select(freeze).where(freeze.c.tenant == bindparam("tenant")))


class PolicyRowsSql(TenantRows):
    """PolicyRows over SQL. Every put is kept: what decided an old action can be read again."""

    __slots__ = ()

    def current(self) -> PolicyVersion | None:
        row = _CURRENT.one(self._conn, {"tenant": self._tenant})
        return None if row is None else _version(row)

    def by_version(self, version: str) -> PolicyVersion | None:
        among = {"tenant": self._tenant, "version": version}
        row = self._conn.execute(_BY_VERSION, among).one_or_none()
        return None if row is None else _version(row)

    def put(self, version: PolicyVersion) -> None:
        tenant = self._own(version.tenant)
        row = {
            "tenant": tenant,
            "n": self._conn.execute(_HIGHEST, {"tenant": tenant}).scalar_one() + 1,
            "version": version.version,
            "sources": to_json(dict(version.sources)),
            "put_by": version.put_by,
            "put_at": micros(version.put_at),
        }
        self._conn.execute(insert(policy_version), row)


def _version(row: Row[Any]) -> PolicyVersion:
    return PolicyVersion(
        tenant=row.tenant,
        version=row.version,
        sources=_sources(row.sources),
        put_by=row.put_by,
        put_at=from_micros(row.put_at),
    )


@lru_cache(maxsize=_SETS_KEPT)
def _sources(text: str) -> Mapping[str, str]:
    return MappingProxyType(from_json(text))


class FreezeRowsSql(TenantRows):
    """FreezeRows over SQL: at most one row a tenant (I-61)."""

    __slots__ = ()

    def active(self) -> Freeze | None:
        row = _FREEZE.one(self._conn, {"tenant": self._tenant})
        if row is None:
            return None
        return Freeze(tenant=row.tenant, frozen_by=row.frozen_by, reason=row.reason, at=from_micros(row.at))

    def put(self, value: Freeze) -> None:
        row = {
            "tenant": self._own(value.tenant),
            "frozen_by": value.frozen_by,
            "reason": value.reason,
            "at": micros(value.at),
        }
        put(self._conn, freeze, row)

    def lift(self) -> None:
        self._conn.execute(delete(freeze).where(freeze.c.tenant == self._tenant))
