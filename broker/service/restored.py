"""After a restore from backup: an Owner acknowledges that rows are gone, and the logs go on under a new epoch.

Until then nothing is granted, decided or run; what lived in the older database was ended at its first start. Identities
that were suspended since the backup are active in it again: suspend them first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from broker.core.errors import conflict, forbidden
from broker.core.grant import LIVE
from broker.core.identity import Caller
from broker.core.ids import SYSTEM_TENANT, IdentityId, TenantId
from broker.core.roles import Permission, holds
from broker.service import lookup
from broker.service.identify import caller_of
from broker.service.ports import Store, Tx
from broker.service.stepup import Change, signed_by

METHOD: Final = "grantd/AcknowledgeRestore"
"""What an Owner signs stands for this and nothing else."""


class Epochs(Protocol):
    """The logs, and the name that each is signed under."""

    async def begin_epoch(self, tenant: TenantId, now: datetime, *, by: str) -> None:
        """Lays what was signed of a broken log aside; its next start signs it under another name."""
        ...


async def acknowledge(
    store: Store, epochs: Epochs, broken: Sequence[TenantId], *, owner: tuple[TenantId, IdentityId], change: Change,
    now: datetime, operators: TenantId,
) -> None:  # fmt: skip
    """Begins a new epoch of each broken log. The broker is started anew afterwards.

    `operators`: the tenant whose Owners decide over what all tenants share, and so over the logs of others.

    Raises:
        Refusal: nothing is broken; live grants are left, which the first start would have ended; the signature is not
            a fresh one of somebody who may lift a freeze; or logs are broken that are not their tenant's.
    """
    if not broken:
        raise conflict("nothing_to_acknowledge", "every log continues what was signed", "start the broker")
    for tenant in await store.tenants():
        forked = tenant in broken or SYSTEM_TENANT in broken
        if forked and await store.read(tenant, _any_live):
            raise conflict(
                "not_ended_yet", "the older database still holds live grants", "start the broker once: it ends them"
            )
    tenant, person = owner
    if tenant != operators and set(broken) != {tenant}:
        raise forbidden("not_permitted", "logs of other tenants are broken too", f"ask an owner of {operators}")
    caller = await store.run(tenant, lambda tx: _signed(tx, person, change, now))
    for log in broken:
        await epochs.begin_epoch(log, now, by=caller.identity)


def _any_live(tx: Tx) -> bool:
    return tx.grants.count(LIVE) > 0


def _signed(tx: Tx, person: IdentityId, change: Change, now: datetime) -> Caller:
    caller = caller_of(lookup.active(tx, person))
    if not holds(caller.role, Permission.UNFREEZE):
        raise forbidden("not_permitted", "this needs somebody who may lift a freeze", "ask an owner")
    signed_by(tx, caller, change, permission=Permission.UNFREEZE, second=False, now=now)
    return caller
