"""The gate before every RPC: certificate -> row -> role -> permission. Bound to the handler, never to path text (F31).

A stream passes it again at least every RECHECK_S: it ends within a second of a lost role, a suspension or the
certificate's own end (I-41).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from broker.core.clock import Clock
from broker.core.errors import exhausted, forbidden
from broker.core.identity import Caller
from broker.core.ids import IdentityId
from broker.core.roles import Permission, holds
from broker.rpc.declared import Rpc
from broker.rpc.peer import Peer, Peers, must_be_valid

RECHECK_S = 0.4
"""Between two looks at a stream's caller; a row may be remembered as long again."""


class Identify(Protocol):
    """broker.service.identify."""

    async def identify(self, tenant: str, identity: str, key: bytes) -> Caller: ...
    async def again(self, tenant: str, identity: str, key: bytes, *, max_age: float) -> Caller:
        """As `identify`, from a row read at most `max_age` seconds ago."""
        ...


class Tell(Protocol):
    """broker.service.refused: tells the audit log that a caller may not do this."""

    async def not_permitted(self, caller: Caller, *, permission: Permission, method: str) -> None: ...


class Gate:
    """Admits callers, one call at a time.

    Args:
        authorities: identifiers of the CA keys whose certificates count now.
        per_identity: calls and streams that one identity may have open (I-60).
    """

    def __init__(
        self, *, identify: Identify, tell: Tell, clock: Clock, authorities: Callable[[], Collection[bytes]],
        per_identity: int,
    ) -> None:  # fmt: skip
        self._identify, self._tell, self._clock = identify, tell, clock
        self._authorities = authorities
        self._per_identity = per_identity
        self._peers = Peers()
        self._open: Counter[IdentityId] = Counter()

    async def admit(self, rpc: Rpc, auth_context: Mapping[str, Iterable[bytes]]) -> tuple[Caller, Peer]:
        """The caller, if its role holds the RPC's permission.

        Raises:
            Refusal: `certificate_required`, `certificate_expired`, `unknown_identity`, `not_permitted` (audited).
        """
        peer = self._peers.of(auth_context)
        must_be_valid(peer, self._clock.now(), self._authorities())
        caller = await self._identify.identify(peer.tenant, peer.identity, peer.key)
        if not holds(caller.role, rpc.permission):
            await self._tell.not_permitted(caller, permission=rpc.permission, method=rpc.method)
            raise _not_permitted()
        return caller, peer

    async def watch(self, rpc: Rpc, peer: Peer) -> None:
        """Never returns: raises Refusal as soon as a stream's caller would no longer be admitted."""
        while True:
            await asyncio.sleep(RECHECK_S)
            must_be_valid(peer, self._clock.now(), self._authorities())
            caller = await self._identify.again(peer.tenant, peer.identity, peer.key, max_age=RECHECK_S)
            if not holds(caller.role, rpc.permission):
                raise _not_permitted()

    @contextmanager
    def room(self, caller: Caller) -> Iterator[None]:
        """One of the caller's open calls. Raises Refusal `too_many_calls`."""
        if self._open[caller.identity] >= self._per_identity:
            raise exhausted("too_many_calls", "too many calls of yours are open", "wait for one to end")
        self._open[caller.identity] += 1
        try:
            yield
        finally:
            self._open[caller.identity] -= 1
            if not self._open[caller.identity]:
                del self._open[caller.identity]


def _not_permitted() -> Exception:
    return forbidden("not_permitted", "your role does not allow this call", "ask an owner for a role that does")
