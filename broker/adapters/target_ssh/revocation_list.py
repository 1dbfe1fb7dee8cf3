"""Has a target keep its revocation list: one login, one command, which the signer itself makes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import asyncssh

from broker.adapters.target_ssh.connection import Connection
from broker.adapters.target_ssh.credential import connect
from broker.adapters.target_ssh.faults import fault, fault_of
from broker.adapters.target_ssh.pool import opened
from broker.core.action import Outcome
from broker.core.cert import CertSpec, egress_spec, principal_of
from broker.core.identity import Target
from broker.core.ids import GrantId
from broker.core.revoking import SECONDS
from broker.service.ports import Entropy, ListSigner

_LIFE: Final = timedelta(seconds=60)
_WITHIN: Final = SECONDS + 10.0
# asked for where sshd runs the certificate's command anyway; a server that ignores force-command fails
_NOT_FORCED: Final = "exit 126"


class SshRevocationLists:
    """RevocationLists over SSH."""

    def __init__(self, *, signer: ListSigner, entropy: Entropy, now: Callable[[], datetime]) -> None:
        self._signer, self._entropy, self._now = signer, entropy, now

    async def push(
        self, target: Target, login: str, grants: tuple[str, ...], announce: Callable[[int], Awaitable[None]]
    ) -> None:
        """See RevocationLists."""
        connection = await connect(
            sign=lambda spec, key: self._signer.sign_krl(spec, key, grants),
            target=target,
            login=login,
            spec=lambda source: self._spec(target, login, source),
            announce=announce,
        )
        try:
            async with asyncio.timeout(_WITHIN):
                status = await _status(connection)
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise fault_of(error) from None
        finally:
            connection.abort()
        if status != 0:
            raise fault("list_not_kept")

    def _spec(self, target: Target, login: str, source: str) -> CertSpec:
        now = self._now()
        return egress_spec(
            # it belongs to no grant: the target's own id stands in it
            grant=GrantId(target.id),
            serial=int.from_bytes(self._entropy.token(8), "big") >> 1 | 2,
            principal=principal_of(target.tenant, target.id, login),
            source_address=source,
            force_command="",
            permit_pty=False,
            now=now,
            not_after=now + _LIFE,
        )


async def _status(connection: Connection) -> int | None:
    process = await opened(connection)
    await process.run(_NOT_FORCED, nonce="", stdin=False)
    while True:
        match await process.read():
            case Outcome(exit_status=status):
                return status
            case _:
                pass  # it has nothing to say
