"""What every CredentialIssuer promises its callers. A test class inherits it and gives `issuer` and the leases."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import pytest

from broker.core.errors import Refusal
from broker.core.ids import CredentialId, TenantId
from broker.service.ports import CredentialIssuer, CredentialWish, Found, Lease


class IssuersContract:
    """Inherit, and give the fixture `issuer` and the methods below."""

    @abstractmethod
    def lease(self, number: int = 1) -> Lease:
        """A lease that the issuer takes; another number is another credential of the same target."""

    @abstractmethod
    def wish(self) -> CredentialWish:
        """What a caller brings."""

    @abstractmethod
    def foreign_wish(self) -> CredentialWish:
        """What a caller brings for another kind of target."""

    @abstractmethod
    async def there(self, lease: Lease) -> bool:
        """Whether something of it is on the other side, as that side itself says."""

    async def test_what_is_made_is_there_until_it_is_ended(self, issuer: CredentialIssuer) -> None:
        """Made, found by its id, ended, gone."""
        lease = self.lease()
        assert not await self.there(lease)
        await issuer.create(lease, self.wish())
        assert await self.there(lease)
        assert list(await issuer.leftovers(lease.target)) == [lease.credential]
        assert await issuer.end(lease.target, lease.credential) is Found.SOMETHING
        assert not await self.there(lease)
        assert list(await issuer.leftovers(lease.target)) == []

    async def test_both_may_be_repeated(self, issuer: CredentialIssuer) -> None:
        """Whoever died in between does it again: the same answer, and one end is as good as two."""
        lease = self.lease()
        assert await issuer.create(lease, self.wish()) == await issuer.create(lease, self.wish())
        await issuer.end(lease.target, lease.credential)
        assert await issuer.end(lease.target, lease.credential) is Found.NOTHING
        assert not await self.there(lease)

    async def test_an_end_takes_its_own_alone(self, issuer: CredentialIssuer) -> None:
        """The other credentials of a target go on; the end of one that never was is none."""
        one, other = self.lease(1), self.lease(2)
        await issuer.create(one, self.wish())
        await issuer.create(other, self.wish())
        await issuer.end(one.target, one.credential)
        assert await issuer.end(one.target, CredentialId("cr_" + "a" * 26)) is Found.NOTHING
        assert (await self.there(one), await self.there(other)) == (False, True)
        await issuer.end(other.target, other.credential)

    async def test_a_plan_makes_nothing(self, issuer: CredentialIssuer) -> None:
        """Planning is for the row: names differ from credential to credential, and nothing is there yet."""
        one, other = self.lease(1), self.lease(2)
        assert issuer.plan(one, self.wish()) == issuer.plan(one, self.wish())
        assert issuer.plan(one, self.wish()).name != issuer.plan(other, self.wish()).name
        assert not await self.there(one)

    async def test_a_wish_of_another_kind_is_refused(self, issuer: CredentialIssuer) -> None:
        """A value of the vault is no role in a database."""
        with pytest.raises(Refusal):
            issuer.plan(self.lease(), self.foreign_wish())

    async def test_another_tenant_finds_nothing(self, issuer: CredentialIssuer) -> None:
        """I-40: what a tenant has on a server is no other tenant's leftover, on the same server too."""
        lease = self.lease()
        await issuer.create(lease, self.wish())
        theirs = replace(lease.target, tenant=TenantId("elsewhere"))
        assert list(await issuer.leftovers(theirs)) == []
        await issuer.end(lease.target, lease.credential)
