"""The lists of revoked certificates that targets keep, as services see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from broker.core.cert import CertSpec
from broker.core.identity import Target


class ListSigner(Protocol):
    """The part of the signer that has lists written."""

    async def sign_krl(self, spec: CertSpec, public_key: bytes, grants: tuple[str, ...]) -> bytes:
        """A certificate that writes the list of one target, and nothing else; `spec` names no command.

        Raises SignerFault, and SignerRefused where it would not.
        """
        ...


class RevocationLists(Protocol):
    """Has targets keep their lists."""

    async def push(
        self, target: Target, login: str, grants: tuple[str, ...], announce: Callable[[int], Awaitable[None]]
    ) -> None:
        """Replaces the target's list, whole or not at all: certificates of these grants (in order) are refused there.

        Args:
            target: an SSH host.
            login: keeps the list.
            grants: their ids, at most core.revoking.MAX_GRANTS.
            announce: is told the serial before anything is signed.

        Raises:
            TargetFault: as Targets, and `list_not_kept`: the one before is still there.
            SignerFault: nothing was signed.
        """
        ...
