"""Who may pull the kill switch, in memory: it must work while the store does not answer (I-61).

The one thing that is decided from rows read a while ago. A pull only ever takes access away, so whoever held the right
when the store was last heard may still do it. Every method from any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broker.core.errors import Blame, Refusal
from broker.core.identity import Caller
from broker.core.ids import TenantId


class Roster:
    """People by the SHA-256 of their client key, a tenant at a time."""

    def __init__(self) -> None:
        self._of: dict[TenantId, Mapping[bytes, Caller]] = {}

    def put(self, tenant: TenantId, able: Iterable[Caller]) -> None:
        """Everybody of a tenant who may, in place of those before."""
        self._of[tenant] = {caller.key: caller for caller in able if caller.key}

    def keep_only(self, tenants: Iterable[TenantId]) -> None:
        """Forgets tenants that are no more."""
        for gone in set(self._of) - set(tenants):
            self._of.pop(gone, None)

    def forget(self, key: bytes) -> None:
        """Whoever has this key may not any more, as far as this node was told."""
        for tenant, able in list(self._of.items()):
            if key in able:
                self._of[tenant] = {other: caller for other, caller in able.items() if other != key}

    def tenants(self) -> Sequence[TenantId]:
        return tuple(self._of)

    def caller(self, tenant: str, identity: str, key: bytes) -> Caller:
        """Who it is. Raises Refusal `may_not_freeze`: unknown, another key, or a role without the right."""
        found = self._of.get(TenantId(tenant), {}).get(key)
        if found is None or found.identity != identity:
            raise Refusal(
                "may_not_freeze", "this certificate may not freeze access", blame=Blame.FORBIDDEN,
                way_out="ask a manager, an admin or an owner",
            )  # fmt: skip
        return found
