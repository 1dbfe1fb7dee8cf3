"""Actions as rows. Never runs or decides one. The command is bytes from end to end: no encoding touches it (I-10)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Row, bindparam, func, select, true

from broker.adapters.store.schema import action, approval
from broker.adapters.store.statements import TenantRows, hot_by_id, page, put
from broker.adapters.store.values import from_json, from_span, from_words, to_json, to_span, to_words
from broker.core.action import Action, ActionState, Outcome, StdinMode
from broker.core.approval import Subject, Verdict
from broker.core.clock import from_micros, micros
from broker.core.ids import ActionId, GrantId, IdentityId
from broker.core.records import Verification
from policy.classes import CommandClass, Tier

_OF_TENANT: Final = action.c.tenant == bindparam("tenant")
_IN_STATES: Final = (
    select(action)
    .where(_OF_TENANT, action.c.state.in_(bindparam("states", expanding=True)))
    .order_by(action.c.proposed_at, action.c.id)
)
_IN_STATES_OF_GRANT: Final = _IN_STATES.where(action.c.grant_id == bindparam("grant"))
_IS_AWAITING: Final = _OF_TENANT & (action.c.state == ActionState.AWAITING.value)
_COUNT: Final = select(func.count()).select_from(action).where(_IS_AWAITING)
_COUNT_OF_ONE: Final = _COUNT.where(action.c.identity == bindparam("identity"))
_AWAITING_WITH_KEY: Final = (
    select(action)
    .where(_IS_AWAITING, action.c.action_key == bindparam("key"), action.c.grant_id == bindparam("grant"))
    .order_by(action.c.proposed_at.desc(), action.c.id.desc())
    .limit(1)
)
# A denial's time is its approval row's: what policy denied at once has no such row, and cools nothing down.
_DENIED_SINCE: Final = (
    select(action)
    .join(approval, (approval.c.tenant == action.c.tenant) & (approval.c.subject_id == action.c.id))
    .where(_OF_TENANT, action.c.action_key == bindparam("key"), action.c.state == ActionState.DENIED.value)
    .where(approval.c.subject == Subject.ACTION.value, approval.c.verdict == Verdict.DENY.value)
    .where(approval.c.at >= bindparam("since"), action.c.identity == bindparam("identity"))
    .order_by(approval.c.at.desc(), action.c.id.desc())
    .limit(1)
)


class ActionRowsSql(TenantRows):
    """ActionRows over SQL."""

    __slots__ = ()

    def get(self, action_id: ActionId) -> Action | None:
        row = hot_by_id(action).one(self._conn, {"tenant": self._tenant, "id": action_id})
        return None if row is None else _value(row)

    def put(self, value: Action) -> None:
        self._own(value.tenant)
        put(self._conn, action, _row(value))

    def in_states(self, states: Iterable[ActionState], *, grant: GrantId | None) -> Sequence[Action]:
        among: dict[str, object] = {"tenant": self._tenant, "states": [state.value for state in states]}
        if grant is None:
            return [_value(row) for row in self._conn.execute(_IN_STATES, among)]
        return [_value(row) for row in self._conn.execute(_IN_STATES_OF_GRANT, {**among, "grant": grant})]

    def count_awaiting(self, identity: IdentityId | None) -> int:
        if identity is None:
            return self._conn.execute(_COUNT, {"tenant": self._tenant}).scalar_one()
        return self._conn.execute(_COUNT_OF_ONE, {"tenant": self._tenant, "identity": identity}).scalar_one()

    def awaiting_with_key(self, key: bytes, grant: GrantId) -> Action | None:
        of = {"tenant": self._tenant, "key": key, "grant": grant}
        row = self._conn.execute(_AWAITING_WITH_KEY, of).one_or_none()
        return None if row is None else _value(row)

    def denied_since(self, key: bytes, identity: IdentityId, since: datetime) -> Action | None:
        of = {"tenant": self._tenant, "key": key, "identity": identity, "since": micros(since)}
        row = self._conn.execute(_DENIED_SINCE, of).one_or_none()
        return None if row is None else _value(row)

    def page(
        self, *, grant: GrantId | None, identity: IdentityId | None, after: ActionId | None, limit: int
    ) -> Sequence[Action]:
        under = true() if grant is None else action.c.grant_id == grant
        whose = true() if identity is None else action.c.identity == identity
        rows = page(self._conn, action, "proposed_at", under & whose, tenant=self._tenant, after=after, limit=limit)
        return [_value(row) for row in rows]


def _row(value: Action) -> dict[str, object]:
    return {
        "tenant": value.tenant,
        "id": value.id,
        "grant_id": value.grant_id,
        "request_id": value.request_id,
        "requester": value.requester,
        "identity": value.identity,
        "identity_key": value.identity_key,
        "target_id": value.target_id,
        "host_key": value.host_key,
        "login": value.login,
        "command": value.command,
        "cwd": value.cwd,
        "env": to_json(dict(value.env)),
        "stdin_mode": value.stdin_mode.value,
        "stdin_sha256": value.stdin_sha256,
        "pty": value.pty,
        "command_class": value.command_class.word,
        "opaque": value.opaque,
        "egress": value.egress,
        "outlives": value.outlives,
        "tier": value.tier.value,
        "verification": _verification_text(value.verification),
        "rollback": to_json([_text(command) for command in value.rollback]),
        "not_after": micros(value.not_after),
        "policy_version": value.policy_version,
        "nonce": value.nonce,
        "reason": value.reason,
        "quorum": value.quorum,
        "approver_roles": from_words(value.approver_roles),
        "state": value.state.value,
        "proposed_at": micros(value.proposed_at),
        "expires_at": micros(value.expires_at),
        "session_id": value.session_id,
        "exit_status": None if value.outcome is None else value.outcome.exit_status,
        "exit_signal": None if value.outcome is None else value.outcome.signal,
        "exit_reason": None if value.outcome is None else value.outcome.reason,
        "note": value.note,
        "action_key": value.key(),
    }


def _value(row: Row[Any]) -> Action:
    return Action(
        tenant=row.tenant,
        id=row.id,
        grant_id=row.grant_id,
        request_id=row.request_id,
        requester=row.requester,
        identity=row.identity,
        identity_key=row.identity_key,
        target_id=row.target_id,
        host_key=row.host_key,
        login=row.login,
        command=row.command,
        cwd=row.cwd,
        env=MappingProxyType(from_json(row.env)),
        stdin_mode=StdinMode(row.stdin_mode),
        stdin_sha256=row.stdin_sha256,
        pty=row.pty,
        command_class=CommandClass.from_word(row.command_class),
        opaque=row.opaque,
        egress=row.egress,
        outlives=row.outlives,
        tier=Tier(row.tier),
        verification=_verification(row.verification),
        rollback=tuple(b64decode(command) for command in from_json(row.rollback)),
        not_after=from_micros(row.not_after),
        policy_version=row.policy_version,
        nonce=row.nonce,
        reason=row.reason,
        quorum=row.quorum,
        approver_roles=to_words(row.approver_roles),
        state=ActionState(row.state),
        proposed_at=from_micros(row.proposed_at),
        expires_at=from_micros(row.expires_at),
        session_id=row.session_id,
        outcome=_outcome(row),
        note=row.note,
    )


def _outcome(row: Row[Any]) -> Outcome | None:
    if row.exit_signal is None:
        return None
    return Outcome(exit_status=row.exit_status, signal=row.exit_signal, reason=row.exit_reason)


def _verification_text(value: Verification | None) -> str | None:
    if value is None:
        return None
    return to_json([_text(value.command), _text(value.expectation), value.attempts, from_span(value.deadline)])


def _verification(text: str | None) -> Verification | None:
    if text is None:
        return None
    command, expectation, attempts, deadline = from_json(text)
    return Verification(
        command=b64decode(command), expectation=b64decode(expectation), attempts=attempts, deadline=to_span(deadline)
    )


def _text(data: bytes) -> str:
    return b64encode(data).decode()
