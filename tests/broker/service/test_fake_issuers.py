"""The fake issuer keeps what every issuer promises."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.database import PostgresSettings, Privilege, Profile, Thing
from broker.core.ids import CredentialId, TargetId, render
from broker.service.ports import CredentialWish, DatabaseWish, Lease, SecretWish
from policy.classes import CommandClass
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.fake_issuers import FakeIssuer
from tests.contract.issuers import IssuersContract

READ = Profile(
    name="report",
    level=CommandClass.READ,
    privileges=(Privilege(on=Thing.TABLES, schema="app", name="", privileges=frozenset({"SELECT"})),),
    member_of=(),
    owner="",
    sessions=2,
    statement_timeout=timedelta(seconds=30),
)
SETTINGS = PostgresSettings(database="app", admin="broker", ca="", profiles=(READ,))


class TestFakeIssuer(IssuersContract):
    """By the common suite."""

    @pytest.fixture
    def issuer(self) -> FakeIssuer:
        self.made = FakeIssuer()
        return self.made

    def lease(self, number: int = 1) -> Lease:
        credential = samples.credential(number)
        target = replace(
            samples.target(), id=TargetId(render("target", hashlib.md5(b"db").digest())), settings=SETTINGS,  # noqa: S324
        )  # fmt: skip
        return Lease(
            tenant=TENANT, credential=CredentialId(credential.id), grant=credential.grant_id,
            identity=samples.agent().id, target=target, login="report", ceiling=CommandClass.READ,
            not_after=credential.not_after,
        )  # fmt: skip

    def wish(self) -> CredentialWish:
        return DatabaseWish(verifier="SCRAM-SHA-256$4096:c2FsdA==$a:b")

    def foreign_wish(self) -> CredentialWish:
        return SecretWish(public_key=bytes(32))

    async def there(self, lease: Lease) -> bool:
        return lease.credential in self.made.there
