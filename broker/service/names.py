"""Names of identities and targets, for people who look at ids. Carries no authority, and decides nobody's sight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from broker.core.ids import IdentityId, TargetId, TenantId
from broker.service.ports import Tx
from broker.service.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Id -> name. What has no row any more has no name."""

    identities: Mapping[IdentityId, str]
    targets: Mapping[TargetId, str]

    def identity(self, identity: IdentityId) -> str:
        """Its name, or nothing."""
        return self.identities.get(identity, "")

    def target(self, target: TargetId) -> str:
        """Its name, or nothing."""
        return self.targets.get(target, "")


class NamesService:
    """Looks names up, in one read."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def of(self, tenant: TenantId, pairs: Iterable[tuple[IdentityId, TargetId]]) -> Names:
        """The names behind (identity, target) pairs that the caller was already shown."""
        listed = list(pairs)
        identities, targets = {one for one, _ in listed}, {one for _, one in listed}

        def unit(tx: Tx) -> Names:
            people = {one: tx.identities.get(one) for one in identities}
            hosts = {one: tx.targets.get(one) for one in targets}
            return Names(
                identities={one: row.name for one, row in people.items() if row},
                targets={one: row.name for one, row in hosts.items() if row},
            )

        return await self._world.store.read(tenant, unit)
