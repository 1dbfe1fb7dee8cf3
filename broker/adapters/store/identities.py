"""Agents and people, and the tokens they join with. Never holds a token: only its hash (I-53)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, bindparam, delete, func, insert, select

from broker.adapters.store.hot import Hot
from broker.adapters.store.schema import identity, identity_team, join_token
from broker.adapters.store.statements import TenantRows, put
from broker.adapters.store.values import KEPT, LONGEST, from_json, to_json
from broker.core.clock import from_micros, micros
from broker.core.errors import conflict
from broker.core.identity import Identity, IdentityKind, IdentityStatus
from broker.core.ids import IdentityId, TeamId
from broker.core.roles import Role
from broker.service.ports import JoinToken

_TEAMS: Final = (
    select(func.aggregate_strings(identity_team.c.team, ","))
    .where(identity_team.c.tenant == identity.c.tenant, identity_team.c.identity == identity.c.id)
    .scalar_subquery()
)
_OF_TENANT: Final = select(identity, _TEAMS.label("teams")).where(identity.c.tenant == bindparam("tenant"))
_BY_ID: Final = Hot(_OF_TENANT.where(identity.c.id == bindparam("id")))
_BY_NAME: Final = Hot(_OF_TENANT.where(identity.c.kind == bindparam("kind"), identity.c.name == bindparam("name")))
_BY_KEY: Final = Hot(
    _OF_TENANT.where(identity.c.key == bindparam("key"), identity.c.status == IdentityStatus.ACTIVE.value)
)


class IdentityRowsSql(TenantRows):
    """IdentityRows over SQL."""

    __slots__ = ()

    def get(self, identity_id: IdentityId) -> Identity | None:
        return self._one(_BY_ID, id=identity_id)

    def by_name(self, kind: IdentityKind, name: str) -> Identity | None:
        return self._one(_BY_NAME, kind=kind.value, name=name)

    def by_key(self, key: bytes) -> Identity | None:
        return self._one(_BY_KEY, key=key)

    def all(self) -> Sequence[Identity]:
        found = self._conn.execute(_OF_TENANT.order_by(identity.c.created_at, identity.c.id), {"tenant": self._tenant})
        return [_value(row) for row in found]

    def people(self) -> Sequence[Identity]:
        wanted = _OF_TENANT.where(identity.c.kind == IdentityKind.PERSON.value).order_by(identity.c.id)
        return [_value(row) for row in self._conn.execute(wanted, {"tenant": self._tenant})]

    def put(self, value: Identity) -> None:
        tenant = self._own(value.tenant)
        self._must_be_free(value, (identity.c.kind == value.kind.value) & (identity.c.name == value.name), "name")
        self._must_be_free(value, identity.c.key == value.key, "key")
        put(self._conn, identity, _row(value))
        of_it = (identity_team.c.tenant == tenant) & (identity_team.c.identity == value.id)
        self._conn.execute(delete(identity_team).where(of_it))
        if value.teams:
            teams = [{"tenant": tenant, "identity": value.id, "team": team} for team in sorted(value.teams)]
            self._conn.execute(insert(identity_team), teams)

    def put_join(self, token: JoinToken) -> None:
        row = {
            "tenant": self._own(token.tenant),
            "secret_sha256": token.secret_sha256,
            "identity": token.identity,
            "expires_at": micros(token.expires_at),
        }
        self._conn.execute(insert(join_token), row)

    def forget_joins(self, now: datetime) -> int:
        old = delete(join_token).where(join_token.c.tenant == self._tenant, join_token.c.expires_at < micros(now))
        return self._conn.execute(old).rowcount

    def take_join(self, secret_sha256: bytes, now: datetime) -> IdentityId | None:
        taken = (
            delete(join_token)
            .where(join_token.c.tenant == self._tenant, join_token.c.secret_sha256 == secret_sha256)
            .where(join_token.c.expires_at > micros(now))
            .returning(join_token.c.identity)
        )
        return self._conn.execute(taken).scalar_one_or_none()

    def _one(self, statement: Hot, **of: object) -> Identity | None:
        row = statement.one(self._conn, {"tenant": self._tenant, **of})
        return None if row is None else _value(row)

    def _must_be_free(self, value: Identity, taken: ColumnElement[bool], what: str) -> None:
        """A second row with it is refused before the database would: the unit stays usable on every back end."""
        other = select(identity.c.id).where(identity.c.tenant == self._tenant, identity.c.id != value.id, taken)
        if self._conn.execute(other).first() is not None:
            raise conflict(f"{what}_taken", f"the {what} is taken", f"choose another {what}")


def _row(value: Identity) -> dict[str, object]:
    return {
        "tenant": value.tenant,
        "id": value.id,
        "kind": value.kind.value,
        "name": value.name,
        "role": value.role.value,
        "owner": value.owner,
        "status": value.status.value,
        "key": value.key or None,
        "approval_keys": to_json(value.approval_keys),
        "created_at": micros(value.created_at),
    }


def _value(row: Row[Any]) -> Identity:
    return _kept(row) if len(row.teams or "") <= LONGEST else _made(row)


@lru_cache(maxsize=KEPT)
def _kept(row: Row[Any]) -> Identity:
    return _made(row)


def _made(row: Row[Any]) -> Identity:
    return Identity(
        tenant=row.tenant,
        id=row.id,
        kind=IdentityKind(row.kind),
        name=row.name,
        role=Role(row.role),
        owner=row.owner,
        teams=frozenset(TeamId(team) for team in row.teams.split(",")) if row.teams else frozenset(),
        status=IdentityStatus(row.status),
        key=row.key or b"",
        approval_keys=tuple(from_json(row.approval_keys)),
        created_at=from_micros(row.created_at),
    )
