"""What grantd asks the signer for: certificate specifications without a single default (threats.md M1, M3; style.md rule 11).

Only describes and checks; never signs. `must_match` is run by the signer over what it actually signed and by the broker again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from broker.core.errors import Fault
from broker.core.ids import GrantId, TargetId, TenantId

EGRESS_LIFE = timedelta(seconds=60)
"""The most an egress certificate lives (I-06)."""
SKEW = timedelta(seconds=30)
"""How far valid_after lies before now, for targets whose clock runs behind."""
INGRESS_MAX_LIFE = timedelta(hours=24)
X509_LIFE = timedelta(hours=24)
"""Client certificates of agents and people."""


class Ca(StrEnum):
    """The four keys that the signer alone holds."""

    INGRESS = "ingress"
    """Certificates that an agent shows to the gateway."""
    EGRESS = "egress"
    """Certificates that the gateway shows to targets."""
    HOST = "host"
    """The gateway's own host certificate."""
    X509 = "x509"
    """Client certificates and the broker's TLS server certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertSpec:
    """An OpenSSH user or host certificate, whole. Extensions: only `permit_pty`; nothing else is ever granted."""

    ca: Ca
    key_id: str
    serial: int
    """Random 64-bit, never 0."""
    principals: tuple[str, ...]
    valid_after: datetime
    valid_before: datetime
    source_address: str
    """CIDR list; empty = no restriction (never for EGRESS)."""
    force_command: str
    """Empty = none (EGRESS reads, INGRESS)."""
    permit_pty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Spec:
    """A client or server certificate. `uri` is the identity (SAN URI) for clients; hosts are SAN DNS/IP names for servers."""

    uri: str
    hosts: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    server: bool
    serial: int


class CertMismatch(Fault):
    """What was signed is not what was asked for."""


def principal_of(tenant: TenantId, target: TargetId, login: str) -> str:
    """The egress principal that a target lists for one login in AuthorizedPrincipalsFile."""
    return f"grantd:{tenant}:{target}:{login}"


def gateway_user(login: str, target_name: str) -> str:
    """The SSH user name at the gateway, and the ingress certificate's one principal: `deploy+web1`."""
    return f"{login}+{target_name}"


def client_uri(tenant: TenantId, identity: str) -> str:
    """The SAN URI of a client certificate."""
    return f"grantd://{tenant}/{identity}"


def ingress_spec(
    *, grant: GrantId, serial: int, login: str, target_name: str, now: datetime, not_after: datetime
) -> CertSpec:
    """What an agent may show to the gateway until the grant's end."""
    return CertSpec(
        ca=Ca.INGRESS,
        key_id=grant,
        serial=serial,
        principals=(gateway_user(login, target_name),),
        valid_after=now - SKEW,
        valid_before=min(not_after, now + INGRESS_MAX_LIFE),
        source_address="",
        force_command="",
        permit_pty=True,
    )


def egress_spec(
    *,
    grant: GrantId,
    serial: int,
    principal: str,
    source_address: str,
    force_command: str,
    permit_pty: bool,
    now: datetime,
    not_after: datetime,
) -> CertSpec:
    """What the gateway shows to one target for one connection: at most EGRESS_LIFE, never past the grant's end."""
    return CertSpec(
        ca=Ca.EGRESS,
        key_id=grant,
        serial=serial,
        principals=(principal,),
        valid_after=now - SKEW,
        valid_before=min(not_after, now + EGRESS_LIFE),
        source_address=source_address,
        force_command=force_command,
        permit_pty=permit_pty,
    )


def check(spec: CertSpec, now: datetime) -> None:
    """Refuses a specification that must never be signed (I-06, I-07). Raises CertMismatch naming the rule."""
    # (1) one principal, exactly: an empty list logs in as anybody (threats.md M1)
    _require(len(spec.principals) == 1 and bool(spec.principals[0]), "exactly one principal")
    # (2) a serial that can be revoked, an id that can be found
    _require(0 < spec.serial < 2**64, "random 64-bit serial")
    _require(spec.key_id.isascii() and spec.key_id.isprintable() and 0 < len(spec.key_id) <= 64, "plain key id")
    # (3) explicit, short validity around now
    life = spec.valid_before - now
    limit = {Ca.EGRESS: EGRESS_LIFE, Ca.INGRESS: INGRESS_MAX_LIFE, Ca.HOST: timedelta(days=90)}.get(
        spec.ca, timedelta(0)
    )
    _require(timedelta(0) < life <= limit, "validity within the limit of its CA")
    _require(timedelta(0) <= now - spec.valid_after <= SKEW + timedelta(seconds=10), "valid_after just before now")
    # (4) an egress certificate works from the gateway only; a host or ingress one never carries a command
    _require(spec.ca is not Ca.EGRESS or bool(spec.source_address), "egress needs a source address")
    _require(spec.ca is Ca.EGRESS or not spec.force_command, "force-command is for egress only")
    _require(spec.ca is not Ca.HOST or not spec.permit_pty, "a host certificate permits nothing")


def _require(holds: bool, rule: str) -> None:  # noqa: FBT001  reads as a sentence at its call sites
    if not holds:
        raise CertMismatch(f"certificate refused: {rule}")
