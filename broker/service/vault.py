"""Changing keys while everything goes on: a person asks for it, the broker moves what was sealed, batch by batch.

Never opens a value itself: the rows do. What is moved is audited where it is a secret, whose blob the log pins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.core.errors import conflict, invalid
from broker.core.identity import Caller
from broker.core.ids import TenantId
from broker.core.roles import Permission
from broker.service import story
from broker.service.ports import ROTATED, KeyStanding, Purpose, Resealed, Tx
from broker.service.root_keys import rewrap
from broker.service.stepup import Change, signed_by
from broker.service.world import World

BATCH = 100
"""Rows of one unit: a few milliseconds, so that nobody else's unit waits for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultStanding:
    """The keys of a tenant, and what is under way."""

    keys: Sequence[KeyStanding]
    behind: Sequence[Purpose]
    """Purposes whose rows are being moved."""


class VaultService:
    """RotateKey, GetVaultStatus, and the moving that follows."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def status(self, caller: Caller) -> VaultStanding:
        """Versions, root keys and what each version still seals."""

        def unit(tx: Tx) -> VaultStanding:
            rows = tx.keys.rekeying
            return VaultStanding(keys=rows.standing(), behind=rows.behind())

        return await self._world.store.read(caller.tenant, unit)

    async def rotate(self, caller: Caller, purpose: Purpose, change: Change) -> int:
        """The next version of a tenant key: seals everything from now on. What is older follows in the background.

        Raises:
            Refusal: `purpose_not_rotated`, `rotation_under_way`, or a signature that is missing.
        """
        if purpose not in ROTATED:
            raise invalid(
                "purpose_not_rotated", f"the key for {purpose} cannot be changed", f"one of: {', '.join(ROTATED)}"
            )
        now = self._world.instant().wall

        def unit(tx: Tx) -> int:
            signed_by(tx, caller, change, permission=Permission.VAULT_WRITE, second=False, now=now)
            if purpose in tx.keys.rekeying.behind():
                raise conflict(
                    "rotation_under_way", "the change before this one is not finished", "see grantctl vault status"
                )
            version = tx.keys.rekeying.rotate(purpose)
            facts: dict[str, str | int] = {"purpose": purpose, "version": version}
            tx.audit.append(story.of_key("key.rotated", caller.tenant, actor=caller.identity, facts=facts), now)
            return version

        return await self._world.store.run(caller.tenant, unit)

    async def tend(self, tenant: TenantId) -> int:
        """Moves everything that older keys of a tenant seal, then deletes those keys. Nothing to do is cheap.

        Returns:
            Purposes that still have an older key: something was sealed under it meanwhile.
        """
        store = self._world.store
        stale, behind = await store.read(tenant, lambda tx: (tx.keys.rekeying.is_stale(), tx.keys.rekeying.behind()))
        if stale:
            await rewrap(store, tenant, self._world.clock.now())
        for purpose in behind:
            await self._move(tenant, purpose)
            await self._drop(tenant, purpose)
        return len(await store.read(tenant, lambda tx: tx.keys.rekeying.behind())) if behind else 0

    async def _move(self, tenant: TenantId, purpose: Purpose) -> None:
        after: str | None = ""
        while after is not None:
            batch = await self._batch(tenant, purpose, after)
            for _ in range(batch.moved):
                self._world.meter.count("vault_rows_moved", purpose=purpose)
            after = batch.last

    async def _batch(self, tenant: TenantId, purpose: Purpose, after: str) -> Resealed:
        now = self._world.clock.now()

        def unit(tx: Tx) -> Resealed:
            batch = tx.keys.rekeying.reseal(purpose, after=after, limit=BATCH)
            for sealed in batch.secrets:
                tx.audit.append(story.of_secret(tenant, sealed, actor=""), now)
            return batch

        return await self._world.store.run(tenant, unit)

    async def _drop(self, tenant: TenantId, purpose: Purpose) -> None:
        now = self._world.clock.now()

        def unit(tx: Tx) -> None:
            for version in tx.keys.rekeying.drop_unused(purpose):
                facts: dict[str, str | int] = {"purpose": purpose, "version": version}
                tx.audit.append(story.of_key("key.destroyed", tenant, actor="", facts=facts), now)

        await self._world.store.run(tenant, unit)
