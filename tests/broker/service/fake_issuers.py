"""An issuer without another side: a set of what would be there. Passes the same contract suite as the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.core.errors import TargetFault, invalid
from broker.core.identity import Target
from broker.core.ids import CredentialId
from broker.service.ports import (
    Access,
    CredentialWish,
    DatabaseAccess,
    DatabaseWish,
    Finding,
    Found,
    Lease,
    Plan,
)


@dataclass(slots=True)
class FakeIssuer:
    """A database that only counts. `fails` and `stalls` are for what happens when it does not answer."""

    there: dict[CredentialId, tuple[str, str]] = field(default_factory=dict)
    """What exists, and the tenant and target it was made for."""
    fails: set[str] = field(default_factory=set)
    """Of `create`, `create after`, `end`, `leftovers`: what raises TargetFault; `create after` once it is made."""
    stalls: asyncio.Event | None = None
    """A `create` waits for it before it makes anything, and tells `begun`."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    hangs: bool = False
    """`end` and `leftovers` never answer."""
    journal: list[str] = field(default_factory=list)

    def plan(self, lease: Lease, wish: CredentialWish) -> Plan:
        if not isinstance(wish, DatabaseWish):
            raise invalid("bad_wish", "not for a database")
        return Plan(name=f"role-{lease.credential}", key=b"k" * 32, facts={"profile_class": lease.ceiling.word})

    async def create(self, lease: Lease, wish: CredentialWish) -> Access:
        self.plan(lease, wish)
        self.journal.append(f"create {lease.credential}")
        self._may("create")
        if self.stalls is not None:
            self.begun.set()
            await self.stalls.wait()
        self.there[lease.credential] = (lease.target.tenant, lease.target.id)
        self._may("create after")
        return DatabaseAccess(
            host=lease.target.host, port=lease.target.port, database="app", user=f"role-{lease.credential}", ca=""
        )

    async def end(self, target: Target, credential: CredentialId) -> Found:
        self.journal.append(f"end {credential}")
        await self._answers("end")
        return Found.NOTHING if self.there.pop(credential, None) is None else Found.SOMETHING

    async def leftovers(self, target: Target) -> Sequence[CredentialId]:
        await self._answers("leftovers")
        return [made for made, where in self.there.items() if where == (target.tenant, target.id)]

    async def check(self, target: Target, login: str) -> Sequence[Finding]:
        return [Finding(ok=True, what=f"{target.name} as {login}", advice="")]

    async def _answers(self, what: str) -> None:
        self._may(what)
        if self.hangs:
            await asyncio.Event().wait()

    def _may(self, what: str) -> None:
        if what in self.fails:
            raise TargetFault("the target could not be reached", code="unreachable")
