"""Targets and teams as rows. Never looks at a host: what stands here is what an administrator pinned."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Row, Table, bindparam, delete, func, insert, select

from broker.adapters.store.hot import Hot
from broker.adapters.store.kinds import settings_of, settings_to_text
from broker.adapters.store.schema import target, target_team, team
from broker.adapters.store.statements import TenantRows, hot_by_id, put
from broker.adapters.store.values import KEPT, LONGEST, from_json, to_json
from broker.core.clock import from_micros, micros
from broker.core.errors import conflict
from broker.core.identity import Login, Target, Team
from broker.core.ids import TargetId, TeamId
from broker.core.kinds import TargetKind
from policy.classes import Tier

_TEAMS: Final = (
    select(func.aggregate_strings(target_team.c.team, ","))
    .where(target_team.c.tenant == target.c.tenant, target_team.c.target == target.c.id)
    .scalar_subquery()
)
_TARGETS: Final = select(target, _TEAMS.label("teams")).where(target.c.tenant == bindparam("tenant"))
_TARGET_BY_ID: Final = Hot(_TARGETS.where(target.c.id == bindparam("id")))
_TARGET_BY_NAME: Final = Hot(_TARGETS.where(target.c.name == bindparam("name")))
_TEAMS_OF_TENANT: Final = select(team).where(team.c.tenant == bindparam("tenant"))
_TEAM_BY_NAME: Final = Hot(_TEAMS_OF_TENANT.where(team.c.name == bindparam("name")))
_ALL_TEAMS: Final = Hot(_TEAMS_OF_TENANT.order_by(team.c.name))


class _NamedRows(TenantRows):
    """Rows whose name is theirs alone in the tenant."""

    __slots__ = ()

    def _name_must_be_free(self, table: Table, own_id: str, name: str) -> None:
        """Refused before the database would: the unit stays usable on every back end."""
        other = select(table.c.id).where(table.c.tenant == self._tenant, table.c.name == name, table.c.id != own_id)
        if self._conn.execute(other).first() is not None:
            raise conflict("name_taken", "the name is taken", "choose another name")


class TeamRowsSql(_NamedRows):
    """TeamRows over SQL."""

    __slots__ = ()

    def get(self, team_id: TeamId) -> Team | None:
        return self._one(hot_by_id(team), id=team_id)

    def by_name(self, name: str) -> Team | None:
        return self._one(_TEAM_BY_NAME, name=name)

    def all(self) -> Sequence[Team]:
        return [_team(row) for row in _ALL_TEAMS.named(self._conn, {"tenant": self._tenant})]

    def put(self, value: Team) -> None:
        row = {"tenant": self._own(value.tenant), "id": value.id, "name": value.name}
        self._name_must_be_free(team, value.id, value.name)
        put(self._conn, team, row)

    def _one(self, statement: Hot, **of: object) -> Team | None:
        row = statement.one(self._conn, {"tenant": self._tenant, **of})
        return None if row is None else _team(row)


class TargetRowsSql(_NamedRows):
    """TargetRows over SQL."""

    __slots__ = ()

    def get(self, target_id: TargetId) -> Target | None:
        return self._one(_TARGET_BY_ID, id=target_id)

    def by_name(self, name: str) -> Target | None:
        return self._one(_TARGET_BY_NAME, name=name)

    def all(self) -> Sequence[Target]:
        found = self._conn.execute(_TARGETS.order_by(target.c.name), {"tenant": self._tenant})
        return [_target(row) for row in found]

    def put(self, value: Target) -> None:
        tenant = self._own(value.tenant)
        self._name_must_be_free(target, value.id, value.name)
        put(self._conn, target, _target_row(value))
        of_it = (target_team.c.tenant == tenant) & (target_team.c.target == value.id)
        self._conn.execute(delete(target_team).where(of_it))
        if value.teams:
            teams = [{"tenant": tenant, "target": value.id, "team": team_id} for team_id in sorted(value.teams)]
            self._conn.execute(insert(target_team), teams)

    def _one(self, statement: Hot, **of: object) -> Target | None:
        row = statement.one(self._conn, {"tenant": self._tenant, **of})
        return None if row is None else _target(row)


def _team(row: Row[Any]) -> Team:
    return Team(tenant=row.tenant, id=row.id, name=row.name)


def _target_row(value: Target) -> dict[str, object]:
    return {
        "tenant": value.tenant,
        "id": value.id,
        "name": value.name,
        "host": value.host,
        "port": value.port,
        "host_key": value.host_key,
        "tier": value.tier.value,
        "labels": to_json(dict(value.labels)),
        "logins": to_json([[login.name, login.read_login] for login in value.logins]),
        "seal_reads": value.seal_reads,
        "source_address": value.source_address,
        "kind": value.kind.value,
        "settings": settings_to_text(value.settings),
        "created_at": micros(value.created_at),
    }


def _target(row: Row[Any]) -> Target:
    # the settings of a database may be of 300 KiB, and what is made of them of 1.7 MiB
    return _kept(row) if len(row.settings) + len(row.teams or "") <= LONGEST else _made(row)


@lru_cache(maxsize=KEPT)
def _kept(row: Row[Any]) -> Target:
    return _made(row)


def _made(row: Row[Any]) -> Target:
    return Target(
        tenant=row.tenant,
        id=row.id,
        name=row.name,
        host=row.host,
        port=row.port,
        host_key=row.host_key,
        tier=Tier(row.tier),
        teams=frozenset(TeamId(team_id) for team_id in row.teams.split(",")) if row.teams else frozenset(),
        labels=MappingProxyType(from_json(row.labels)),
        logins=tuple(Login(name=name, read_login=read_login) for name, read_login in from_json(row.logins)),
        seal_reads=row.seal_reads,
        source_address=row.source_address,
        settings=settings_of(TargetKind(row.kind), row.settings),
        created_at=from_micros(row.created_at),
    )
