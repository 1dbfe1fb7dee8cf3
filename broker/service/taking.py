"""Taking away what a grant opened outside this process: connections to hosts, and what issuers made on other targets.

Every step may be repeated. A row is ENDED only after its issuer said that nothing is there any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from broker.core.credential import OUTSIDE, CredentialEvent
from broker.core.errors import Fault
from broker.core.identity import Target
from broker.core.ids import CredentialId, GrantId, TenantId
from broker.service import story
from broker.service.ports import Credential, Found, Tx
from broker.service.world import World

log = structlog.get_logger()
_AT_ONCE: Final = 8
"""Credentials of one grant that are ended side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """A credential that may be on a target."""

    credential: Credential
    target: Target


async def take_away(world: World, tenant: TenantId, grant: GrantId) -> None:
    """Ends what a grant opened, everywhere; idempotent.

    Raises:
        Fault: something of it may still be there; everything that could be ended is.
    """
    await world.targets.end_grant(tenant, grant)
    places = asyncio.Semaphore(_AT_ONCE)

    async def end(one: Outside) -> Fault | None:
        async with places:
            return await _tried(world, one)

    found = await world.store.read(tenant, lambda tx: outside(tx, grant))
    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(end(one)) for one in found]
    failed = [fault for fault in (task.result() for task in tries) if fault is not None]
    if failed:
        raise failed[0]


def outside(tx: Tx, grant: GrantId | None) -> Sequence[Outside]:
    """What may be on targets; of one grant, or of the tenant where None. Oldest first."""
    found: list[Outside] = []
    for credential in tx.credentials.outside(grant):
        row = tx.grants.get(credential.grant_id)
        target = None if row is None else tx.targets.get(row.target_id)
        if target is None:  # rows of a grant and a target are never deleted while a credential refers to them
            raise Fault("a credential without its target")
        found.append(Outside(credential=credential, target=target))
    return found


async def end_credential(world: World, target: Target, credential: CredentialId) -> None:
    """Ends one on its target, then in its row, if it has one.

    Raises:
        Fault: something of it may still be there, or the row could not be written; either is tried again.
    """
    issuer = world.issuers.get(target.kind)
    if issuer is None:
        raise Fault(f"nothing here ends credentials of the kind {target.kind}")
    found = await issuer.end(target, credential)
    await world.store.run(target.tenant, lambda tx: _written(world, tx, credential, found))


def _written(world: World, tx: Tx, credential_id: CredentialId, found: Found) -> None:
    row = tx.credentials.get(credential_id)
    if row is None or row.state not in OUTSIDE:
        return
    now = world.clock.now()
    ended = row.advanced(CredentialEvent.END, now)
    tx.credentials.put(ended)
    event = story.of_credential(ended, actor="", action="", name="credential.ended")
    tx.audit.append(story.with_facts(event, {"found": found}), now)


async def _tried(world: World, one: Outside) -> Fault | None:
    try:
        await end_credential(world, one.target, one.credential.id)
    except Fault as fault:
        log.warning("credential.not_ended", credential=one.credential.id, target=one.target.id, cause=fault.what)
        return fault
    return None
