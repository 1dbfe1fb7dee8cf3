"""Secrets that people put and check out, without their values: versions, and who holds which one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, func, select, update

from broker.adapters.store.schema import access_grant, secret, secret_checkout, secret_version
from broker.adapters.store.statements import TenantRows, add
from broker.core.clock import from_micros, micros
from broker.core.ids import CredentialId, GrantId, IdentityId, TargetId
from broker.service.ports import SecretCheckout, SecretVersion

_NEWEST: Final = select(func.max(secret_version.c.version)).where(
    secret_version.c.tenant == bindparam("tenant"), secret_version.c.name == bindparam("name")
)


class SecretRowsSql(TenantRows):
    """ports.SecretRows over SQL."""

    def newest(self, name: str) -> int:
        return self._conn.execute(_NEWEST, {"tenant": self._tenant, "name": name}).scalar_one() or 0

    def add_version(self, version: SecretVersion) -> None:
        row = {
            "tenant": self._own(version.tenant), "name": version.name, "version": version.version,
            "put_by": version.put_by, "put_at": micros(version.put_at),
        }  # fmt: skip
        add(self._conn, secret_version, row)

    def all(self) -> Sequence[SecretVersion]:
        newest = (
            select(secret_version.c.name, func.max(secret_version.c.version).label("version"))
            .where(secret_version.c.tenant == self._tenant)
            .group_by(secret_version.c.name)
            .subquery()
        )
        rows = select(secret_version).join(
            newest, (secret_version.c.name == newest.c.name) & (secret_version.c.version == newest.c.version)
        )
        found = self._conn.execute(rows.where(secret_version.c.tenant == self._tenant).order_by(secret_version.c.name))
        return [
            SecretVersion(
                tenant=self._tenant, name=row.name, version=row.version, put_by=IdentityId(row.put_by),
                put_at=from_micros(row.put_at),
            )
            for row in found
        ]  # fmt: skip

    def kept(self) -> frozenset[str]:
        rows = select(secret.c.name).where(secret.c.tenant == self._tenant)
        return frozenset(self._conn.execute(rows).scalars())

    def check_out(self, checkout: SecretCheckout) -> bool:
        return add(self._conn, secret_checkout, self._row(checkout))

    def checkouts(self, name: str, version: int) -> Sequence[SecretCheckout]:
        return self._found(secret_checkout.c.name == name, secret_checkout.c.version == version)

    def checkout(self, credential: CredentialId) -> SecretCheckout | None:
        found = self._found(secret_checkout.c.credential_id == credential)
        return found[0] if found else None

    def open_on(self, target: TargetId) -> Sequence[SecretCheckout]:
        grants = select(access_grant.c.id).where(
            access_grant.c.tenant == self._tenant, access_grant.c.target_id == target
        )
        return self._found(secret_checkout.c.ended_at.is_(None), secret_checkout.c.grant_id.in_(grants))

    def end_checkout(self, checkout: SecretCheckout) -> None:
        row = self._row(checkout)
        one = (secret_checkout.c.tenant == self._tenant) & (secret_checkout.c.credential_id == checkout.credential)
        self._conn.execute(update(secret_checkout).where(one).values(ended_at=row["ended_at"]))

    def _found(self, *where: object) -> Sequence[SecretCheckout]:
        rows = select(secret_checkout).where(secret_checkout.c.tenant == self._tenant, *where)  # type: ignore[arg-type]
        return [
            SecretCheckout(
                tenant=self._tenant, credential=CredentialId(row.credential_id), grant=GrantId(row.grant_id),
                name=row.name, version=row.version, at=from_micros(row.at),
                ended_at=None if row.ended_at is None else from_micros(row.ended_at),
            )
            for row in self._conn.execute(rows.order_by(secret_checkout.c.at))
        ]  # fmt: skip

    def _row(self, checkout: SecretCheckout) -> dict[str, object]:
        return {
            "tenant": self._own(checkout.tenant), "credential_id": checkout.credential, "grant_id": checkout.grant,
            "name": checkout.name, "version": checkout.version, "at": micros(checkout.at),
            "ended_at": None if checkout.ended_at is None else micros(checkout.ended_at),
        }  # fmt: skip
