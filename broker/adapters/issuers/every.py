"""Every issuer there is, by the kind of target that it is for."""

from __future__ import annotations

from collections.abc import Mapping

from broker.adapters.issuers.postgres import PostgresIssuer
from broker.adapters.issuers.secret import SecretIssuer
from broker.core.clock import Clock
from broker.core.kinds import TargetKind
from broker.service.ports import CredentialIssuer, Store


def every_issuer(store: Store, *, issuer: str, sessions: int, clock: Clock) -> Mapping[TargetKind, CredentialIssuer]:
    """`issuer` is this broker's name among all that may use the same target; `sessions`: see PostgresIssuer."""
    return {
        TargetKind.POSTGRES: PostgresIssuer(store, issuer=issuer, sessions=sessions),
        TargetKind.SECRET: SecretIssuer(store=store, clock=clock),
    }
