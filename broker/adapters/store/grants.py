"""Grants and the credentials they issued, as rows. Never ends one: that is broker.core.grant's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Final

from sqlalchemy import Row, bindparam, false, func, insert, or_, select, true, update

from broker.adapters.store.hot import Hot
from broker.adapters.store.schema import access_grant, access_request, credential
from broker.adapters.store.statements import TenantRows, by_id, hot_by_id, page, put
from broker.adapters.store.values import KEPT, from_span, from_time, from_words, to_span, to_time, to_words
from broker.core.clock import from_micros, micros
from broker.core.credential import OUTSIDE, CredentialState
from broker.core.grant import LIVE, EndReason, Grant, GrantState
from broker.core.ids import CredentialId, GrantId, IdentityId, TargetId
from broker.service.ports import Choice, Credential
from policy.classes import CommandClass, Tier

_IN_STATES: Final = (
    select(access_grant)
    .where(access_grant.c.tenant == bindparam("tenant"))
    .where(access_grant.c.state.in_(bindparam("states", expanding=True)))
    .order_by(access_grant.c.approved_at, access_grant.c.id)
)
_LIVE_IDS: Final = (
    select(access_grant.c.id)
    .where(access_grant.c.tenant == bindparam("tenant"))
    .where(access_grant.c.state.in_(bindparam("states", expanding=True)))
    .order_by(access_grant.c.approved_at, access_grant.c.id)
)
_OF_TICKET: Final = select(access_request.c.id).where(
    access_request.c.tenant == bindparam("tenant"), access_request.c.ticket == bindparam("ticket")
)
_AMONG: Final = (access_grant.c.tenant == bindparam("tenant")) & access_grant.c.state.in_(
    bindparam("states", expanding=True)
)
_COUNT: Final = select(func.count()).select_from(access_grant).where(_AMONG)
_DEADLINES: Final = (
    select(access_grant.c.id, access_grant.c.ends_at)
    .where(access_grant.c.tenant == bindparam("tenant"), access_grant.c.ends_at.is_not(None))
    .order_by(access_grant.c.ends_at, access_grant.c.id)
)
_DUE: Final = Hot(_DEADLINES.where(access_grant.c.ends_at <= bindparam("now")).limit(bindparam("limit")))
_EVERY_DEADLINE: Final = Hot(_DEADLINES)
_REVOKED: Final = Hot(
    select(access_grant.c.id, access_grant.c.target_id)
    .where(access_grant.c.tenant == bindparam("tenant"), access_grant.c.ended_at >= bindparam("since"))
    .where(access_grant.c.end_reason != EndReason.EXPIRED.value)
    .where(access_grant.c.end_reason != EndReason.NEVER_STARTED.value)
    .order_by(access_grant.c.ended_at.desc(), access_grant.c.id)
)
_BY_SERIAL: Final = select(credential).where(
    credential.c.tenant == bindparam("tenant"),
    credential.c.kind == bindparam("kind"),
    credential.c.serial == bindparam("serial"),
)


_ADD: Final = Hot(insert(credential), columns=[column.name for column in credential.c])
_OUTSIDE: Final = (
    select(credential)
    .where(credential.c.tenant == bindparam("tenant"))
    .where(credential.c.state.in_(sorted(state.value for state in OUTSIDE)))
    .order_by(credential.c.issued_at, credential.c.id)
)
_OUTSIDE_OF_GRANT: Final = Hot(
    select(credential)
    .where(credential.c.tenant == bindparam("tenant"), credential.c.grant_id == bindparam("grant"))
    .where(or_(*(credential.c.state == state.value for state in sorted(OUTSIDE))))
    .order_by(credential.c.issued_at, credential.c.id)
)


class GrantRowsSql(TenantRows):
    """GrantRows over SQL."""

    __slots__ = ()

    def get(self, grant: GrantId) -> Grant | None:
        row = hot_by_id(access_grant).one(self._conn, {"tenant": self._tenant, "id": grant})
        return None if row is None else _value(row)

    def put(self, grant: Grant) -> None:
        self._own(grant.tenant)
        put(self._conn, access_grant, _row(grant))

    def in_states(self, states: Iterable[GrantState]) -> Sequence[Grant]:
        among = {"tenant": self._tenant, "states": [state.value for state in states]}
        return [_value(row) for row in self._conn.execute(_IN_STATES, among)]

    def live_ids(self, choice: Choice) -> Sequence[GrantId]:
        wanted = _LIVE_IDS
        if choice.identities is not None:
            wanted = wanted.where(access_grant.c.identity.in_(sorted(choice.identities)))
        if choice.targets is not None:
            wanted = wanted.where(access_grant.c.target_id.in_(sorted(choice.targets)))
        if choice.ticket is not None:
            wanted = wanted.where(access_grant.c.request_id.in_(_OF_TICKET))
        among = {"tenant": self._tenant, "states": [state.value for state in LIVE], "ticket": choice.ticket}
        return [GrantId(name) for name in self._conn.execute(wanted, among).scalars()]

    def count(self, states: Iterable[GrantState]) -> int:
        among = {"tenant": self._tenant, "states": [state.value for state in states]}
        counted: int = self._conn.execute(_COUNT, among).scalar_one()
        return counted

    def due(self, now: datetime, limit: int) -> Sequence[GrantId]:
        of = {"tenant": self._tenant, "now": micros(now), "limit": max(0, limit)}
        return [GrantId(found[0]) for found in _DUE.rows(self._conn, of)]

    def deadlines(self) -> Sequence[tuple[GrantId, datetime]]:
        return [(GrantId(of), from_micros(at)) for of, at in _EVERY_DEADLINE.rows(self._conn, {"tenant": self._tenant})]

    def revoked_since(self, since: datetime) -> Sequence[tuple[GrantId, TargetId]]:
        rows = _REVOKED.rows(self._conn, {"tenant": self._tenant, "since": micros(since)})
        return [(GrantId(of), TargetId(target)) for of, target in rows]

    def page(self, *, identity: IdentityId | None, after: GrantId | None, limit: int) -> Sequence[Grant]:
        whose = true() if identity is None else access_grant.c.identity == identity
        rows = page(self._conn, access_grant, "approved_at", whose, tenant=self._tenant, after=after, limit=limit)
        return [_value(row) for row in rows]


class CredentialRowsSql(TenantRows):
    """CredentialRows over SQL."""

    __slots__ = ()

    def add(self, value: Credential) -> None:
        row = {
            "tenant": self._own(value.tenant),
            "id": value.id,
            "grant_id": value.grant_id,
            "kind": value.kind,
            "serial": value.serial,
            "key": value.key,
            "state": value.state.value,
            "issued_at": micros(value.issued_at),
            "not_after": micros(value.not_after),
            "ended_at": from_time(value.ended_at),
        }
        _ADD.run(self._conn, row)

    def put(self, value: Credential) -> None:
        self._own(value.tenant)
        row = {"state": value.state.value, "ended_at": from_time(value.ended_at)}
        own = (credential.c.tenant == self._tenant) & (credential.c.id == value.id)
        self._conn.execute(update(credential).where(own).values(row))

    def get(self, credential_id: CredentialId) -> Credential | None:
        row = self._conn.execute(by_id(credential), {"tenant": self._tenant, "id": credential_id}).one_or_none()
        return None if row is None else _credential(row)

    def outside(self, grant: GrantId | None) -> Sequence[Credential]:
        if grant is None:
            rows = self._conn.execute(_OUTSIDE, {"tenant": self._tenant}).all()
        else:
            rows = _OUTSIDE_OF_GRANT.named(self._conn, {"tenant": self._tenant, "grant": grant})
        return [_credential(row) for row in rows]

    def count(self, grant: GrantId, kinds: Iterable[str]) -> int:
        counted: int = _count_of(frozenset(kinds)).rows(self._conn, {"tenant": self._tenant, "grant": grant})[0][0]
        return counted

    def by_serial(self, kind: str, serial: str) -> Credential | None:
        of = {"tenant": self._tenant, "kind": kind, "serial": serial}
        row = self._conn.execute(_BY_SERIAL, of).one_or_none()
        return None if row is None else _credential(row)


@cache
def _count_of(kinds: frozenset[str]) -> Hot:
    """How many credentials of these kinds one grant has; there are as many statements as callers have lists."""
    of_grant = (credential.c.tenant == bindparam("tenant")) & (credential.c.grant_id == bindparam("grant"))
    of_kinds = or_(false(), *(credential.c.kind == kind for kind in sorted(kinds)))
    return Hot(select(func.count()).where(of_grant, of_kinds))


def _row(value: Grant) -> dict[str, object]:
    return {
        "tenant": value.tenant,
        "id": value.id,
        "request_id": value.request_id,
        "requester": value.requester,
        "identity": value.identity,
        "identity_key": value.identity_key,
        "target_id": value.target_id,
        "host_key": value.host_key,
        "login": value.login,
        "ceiling": value.ceiling.word,
        "flags": from_words(value.flags),
        "ttl_us": from_span(value.ttl),
        "tier": value.tier.value,
        "state": value.state.value,
        "approved_at": micros(value.approved_at),
        "must_start_by": micros(value.must_start_by),
        "not_after": from_time(value.not_after),
        "ended_at": from_time(value.ended_at),
        "end_reason": None if value.end_reason is None else value.end_reason.value,
        "ended_by": value.ended_by,
        "ends_at": micros(value.deadline()) if value.state in LIVE else None,
    }


@lru_cache(maxsize=KEPT)
def _value(row: Row[Any]) -> Grant:
    return Grant(
        tenant=row.tenant,
        id=row.id,
        request_id=row.request_id,
        requester=row.requester,
        identity=row.identity,
        identity_key=row.identity_key,
        target_id=row.target_id,
        host_key=row.host_key,
        login=row.login,
        ceiling=CommandClass.from_word(row.ceiling),
        flags=to_words(row.flags),
        ttl=to_span(row.ttl_us),
        tier=Tier(row.tier),
        state=GrantState(row.state),
        approved_at=from_micros(row.approved_at),
        must_start_by=from_micros(row.must_start_by),
        not_after=to_time(row.not_after),
        ended_at=to_time(row.ended_at),
        end_reason=None if row.end_reason is None else EndReason(row.end_reason),
        ended_by=row.ended_by,
    )


def _credential(row: Row[Any]) -> Credential:
    return Credential(
        tenant=row.tenant,
        id=row.id,
        grant_id=row.grant_id,
        kind=row.kind,
        serial=row.serial,
        key=row.key,
        state=CredentialState(row.state),
        issued_at=from_micros(row.issued_at),
        not_after=from_micros(row.not_after),
        ended_at=to_time(row.ended_at),
    )
