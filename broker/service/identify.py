"""Who is calling over gRPC: the key that completed the TLS handshake, turned into a caller by its row (I-08, I-24).

Names in the certificate carry no authority: they say where to look, the row decides.
"""

from __future__ import annotations

from collections import OrderedDict

from broker.core.errors import Blame, Refusal
from broker.core.identity import Caller, Identity, IdentityStatus
from broker.core.ids import IdentityId, TenantId, is_id, is_tenant
from broker.service.world import World

FRESH_FOR = 1.0
"""Seconds that a row may be remembered: nothing is decided from anything older (I-64)."""
_KEPT = 10_000


class IdentifyService:
    """Turns (tenant, identity, key) of a verified certificate into a caller."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._recent: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def identify(self, tenant: str, identity: str, key: bytes) -> Caller:
        """The caller whose ACTIVE row has exactly this key.

        Raises:
            Refusal: `unknown_identity`, the same for every reason.
        """
        return await self.again(tenant, identity, key, max_age=FRESH_FOR)

    async def again(self, tenant: str, identity: str, key: bytes, *, max_age: float) -> Caller:
        """As `identify`, from a row read at most `max_age` seconds ago: what a stream asks while it lasts (I-41)."""
        if not is_tenant(tenant) or not is_id(identity):
            raise _unknown("not an identity's name")
        now = self._world.clock.monotonic()
        at, caller = self._recent.get(key, (now - max_age, None))
        if caller is not None and now - at < max_age and (caller.tenant, caller.identity) == (tenant, identity):
            return caller
        row = await self._world.store.read(TenantId(tenant), lambda tx: tx.identities.get(IdentityId(identity)))
        if row is None or row.status is not IdentityStatus.ACTIVE or row.key != key:
            self._recent.pop(key, None)
            raise _unknown(_why(row))
        caller = caller_of(row)
        self._recent[key] = (now, caller)
        while len(self._recent) > _KEPT:
            self._recent.popitem(last=False)
        return caller

    def forget(self, key: bytes) -> None:
        """Drops what is remembered of a key, and whoever watches with it.

        After a suspension or a role change on this node it counts at once.
        """
        self._recent.pop(key, None)
        self._world.roster.forget(key)
        self._world.live.dismiss(key)


def caller_of(row: Identity) -> Caller:
    """A row as a caller."""
    return Caller(
        tenant=row.tenant,
        identity=row.id,
        kind=row.kind,
        name=row.name,
        role=row.role,
        teams=row.teams,
        owner=row.owner,
        key=row.key,
    )


def _why(row: Identity | None) -> str:
    if row is None:
        return "no row of that identity"
    return "its row is for another key" if row.status is IdentityStatus.ACTIVE else "its row is not active"


def _unknown(rule: str) -> Refusal:
    return Refusal(
        "unknown_identity",
        "this certificate is not known here",
        blame=Blame.UNAUTHENTICATED,
        way_out="enrol again, or sign in with grantctl login",
        rule=rule,
    )
