"""Signed decisions, and the one use of them. Never counts a quorum: that is broker.core.approval's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, bindparam, select

from broker.adapters.store.hot import Hot
from broker.adapters.store.schema import approval, approval_spent
from broker.adapters.store.statements import TenantRows, add
from broker.core.approval import Approval, Subject, Verdict
from broker.core.clock import from_micros, micros
from broker.core.errors import conflict

_OF_SUBJECT: Final = Hot(
    select(approval)
    .where(approval.c.tenant == bindparam("tenant"), approval.c.subject == bindparam("subject"))
    .where(approval.c.subject_id == bindparam("subject_id"))
    .order_by(approval.c.at, approval.c.id)
)


class ApprovalRowsSql(TenantRows):
    """ApprovalRows over SQL."""

    __slots__ = ()

    def add(self, value: Approval) -> None:
        row = {
            "tenant": self._own(value.tenant),
            "id": value.id,
            "subject": value.subject.value,
            "subject_id": value.subject_id,
            "digest": value.digest,
            "person": value.person,
            "role": value.role,
            "verdict": value.verdict.value,
            "signature": value.signature,
            "key_fingerprint": value.key_fingerprint,
            "at": micros(value.at),
            "note": value.note,
        }
        if not add(self._conn, approval, row):
            raise conflict("already_decided", "you have already decided this", "one person has one voice")

    def of(self, subject: Subject, subject_id: str) -> Sequence[Approval]:
        of = {"tenant": self._tenant, "subject": subject.value, "subject_id": subject_id}
        return [_value(row) for row in _OF_SUBJECT.named(self._conn, of)]

    def spend(self, subject: Subject, subject_id: str) -> bool:
        return add(
            self._conn,
            approval_spent,
            {"tenant": self._tenant, "subject": subject.value, "subject_id": subject_id},
        )


def _value(row: Row[Any]) -> Approval:
    return Approval(
        tenant=row.tenant,
        id=row.id,
        subject=Subject(row.subject),
        subject_id=row.subject_id,
        digest=row.digest,
        person=row.person,
        role=row.role,
        verdict=Verdict(row.verdict),
        signature=row.signature,
        key_fingerprint=row.key_fingerprint,
        at=from_micros(row.at),
        note=row.note,
    )
