"""Grant tokens, as services see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from broker.core.ids import (
    GrantId,
    TenantId,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaims:
    """What a grant token says (RFC 7519, RFC 7800). Every claim is required.

    None is trusted without its row (I-08, I-09).
    """

    jti: str
    tenant: TenantId
    grant: GrantId
    key: bytes
    """`cnf.jkt`: SHA-256 of the client key's SPKI, 32 bytes."""
    issued_at: datetime
    not_before: datetime
    expires_at: datetime


class Tokens(Protocol):
    """Signs and verifies grant tokens. One algorithm, one key id; anything unusual is refused."""

    def sign(self, claims: TokenClaims) -> str:
        """A compact JWT (EdDSA)."""
        ...

    def verify(self, token: str, *, now: datetime) -> TokenClaims:
        """The claims of a token whose signature, header, names, audience and times all hold at `now`.

        Raises:
            Refusal: `bad_token`, whatever was wrong.
        """
        ...
