"""What grantd asks the signer for: certificate specifications without a single default (threats.md M1, M3).

Only describes and checks; never signs. `must_match` is run by the signer over what it actually signed and by the
broker again.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from broker.core.clock import micros
from broker.core.errors import Fault, Refusal
from broker.core.ids import PREFIXES, SYSTEM_TENANT, GrantId, TargetId, TenantId, is_id, is_login, is_name, is_tenant
from broker.core.sshcert import FORCE_COMMAND, HOST, PERMIT_PTY, SOURCE_ADDRESS, USER, SshCertificate, parse

EGRESS_LIFE = timedelta(seconds=60)
"""The most an egress certificate lives (I-06)."""
SKEW = timedelta(seconds=30)
"""How far valid_after lies before now, for targets whose clock runs behind."""
INGRESS_MAX_LIFE = timedelta(hours=24)
X509_LIFE = timedelta(hours=24)
"""Client certificates of agents and people."""
SERVER_LIFE = timedelta(days=90)
"""The broker's own host certificate and TLS server certificate."""
MAX_FORCE_COMMAND_BYTES = 100_000
"""sshd drops a connection whose certificate carries 131,000 (libraries.md section 5)."""
MAX_HOSTS = 16
_MAX_PRINCIPAL = 256
# A gateway has an address or a few. Room for all of one's own private networks (10/8, 172.16/12, 192.168/16; an
# IPv6 site has a /48), and not for a list from nearly all of which a stolen certificate would work.
_TOO_MANY_V4 = 2 ** (32 - 7)
_TOO_MANY_V6 = 2 ** (128 - 15)
_MAX_X509_SERIAL = 2**159  # RFC 5280 section 4.1.2.2: at most 20 octets, positive
_LATE = timedelta(seconds=10)  # between making a specification and signing it
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


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
    """A client or server certificate.

    `uri` is the identity of a client (SAN URI), empty for a server; `hosts` are the SAN DNS and IP names of a server,
    empty for a client. `serial` is random, positive, at most 20 octets.
    """

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
    _require(len(spec.principals) == 1, "exactly one principal")
    _require(_is_principal(spec.ca, spec.principals[0]), "a principal in the shape of its CA")
    # (2) a serial that can be revoked, an id that can be found
    _require(0 < spec.serial < 2**64, "random 64-bit serial")
    _require(_is_key_id(spec.ca, spec.key_id), "the id of a grant as key id")
    # (3) explicit, short validity around now
    limit = {Ca.EGRESS: EGRESS_LIFE, Ca.INGRESS: INGRESS_MAX_LIFE, Ca.HOST: SERVER_LIFE}.get(spec.ca, timedelta(0))
    _check_validity(spec.valid_after, spec.valid_before, limit, now)
    # (4) an egress certificate works from the gateway only; a host or ingress one never carries a command
    _require(spec.ca is Ca.EGRESS or not spec.source_address, "source-address is for egress only")
    _require(spec.ca is not Ca.EGRESS or is_address_list(spec.source_address), "egress from named addresses only")
    _require(spec.ca is Ca.EGRESS or not spec.force_command, "force-command is for egress only")
    _require(_is_command(spec.force_command), "a force-command that sshd can carry")
    _require(spec.ca is not Ca.HOST or not spec.permit_pty, "a host certificate permits nothing")


def check_x509(spec: X509Spec, now: datetime) -> None:
    """Refuses an X.509 specification that must never be signed. Raises CertMismatch naming the rule."""
    # (1) a client is one identity and no host; a server is hosts and no identity
    _require(spec.server or (_is_identity(spec.uri) and not spec.hosts), "a client is one identity")
    _require(not spec.server or (not spec.uri and _are_hosts(spec.hosts)), "a server is named hosts")
    # (2) a serial that can be found
    _require(0 < spec.serial < _MAX_X509_SERIAL, "positive serial of at most 20 octets")
    # (3) explicit, short validity around now
    _check_validity(spec.not_before, spec.not_after, SERVER_LIFE if spec.server else X509_LIFE, now)


def must_match(spec: CertSpec, certificate: bytes, *, public_key: bytes, ca_key: bytes) -> None:
    """Raises CertMismatch unless `certificate` is what `spec` says for `public_key`, signed by `ca_key`: wire blobs.

    Parses with the strict parser of sshcert, not with the code that built it.
    """
    try:
        made = parse(certificate)
    except Refusal as refusal:
        raise CertMismatch("certificate differs: not a certificate") from refusal
    if made != _expected(spec, public_key, ca_key):
        raise CertMismatch("certificate differs from its specification")


def whole_seconds(moment: datetime) -> int:
    """Seconds since the epoch, rounded down: a certificate never lives longer than its specification."""
    return micros(moment) // 1_000_000


def critical_options(spec: CertSpec) -> dict[str, str]:
    """Name -> value of the options that a server must understand or refuse."""
    wanted = {FORCE_COMMAND: spec.force_command, SOURCE_ADDRESS: spec.source_address}
    return {name: value for name, value in wanted.items() if value}


def _expected(spec: CertSpec, public_key: bytes, ca_key: bytes) -> SshCertificate:
    return SshCertificate(
        public_key=public_key,
        serial=spec.serial,
        kind=HOST if spec.ca is Ca.HOST else USER,
        key_id=spec.key_id,
        principals=spec.principals,
        valid_after=whole_seconds(spec.valid_after),
        valid_before=whole_seconds(spec.valid_before),
        critical=critical_options(spec),
        extensions={PERMIT_PTY: ""} if spec.permit_pty else {},
        ca_key=ca_key,
    )


def _check_validity(start: datetime, end: datetime, limit: timedelta, now: datetime) -> None:
    _require(start.tzinfo is not None and end.tzinfo is not None, "times with a zone")
    _require(timedelta(0) < end - now <= limit, "validity within the limit of its CA")
    _require(timedelta(0) <= now - start <= SKEW + _LATE, "validity from just before now")


def _is_principal(ca: Ca, principal: str) -> bool:
    if len(principal) > _MAX_PRINCIPAL:
        return False
    if ca is Ca.HOST:
        return _are_hosts((principal,))
    if ca is Ca.INGRESS:
        login, plus, target = principal.partition("+")
        return bool(plus) and is_login(login) and is_name(target)
    parts = principal.split(":")
    return (
        len(parts) == 4  # noqa: PLR2004  principal_of has four parts
        and parts[0] == "grantd"
        and is_tenant(parts[1])
        and _is_id_of("target", parts[2])
        and is_login(parts[3])
    )


def _is_key_id(ca: Ca, key_id: str) -> bool:
    if ca is Ca.HOST:
        return _are_hosts((key_id,))
    # the check of a target from outside belongs to no grant, it carries the target's own id
    return _is_id_of("grant", key_id) or (ca is Ca.EGRESS and _is_id_of("target", key_id))


def _is_id_of(kind: str, text: str) -> bool:
    return is_id(text) and text.startswith(PREFIXES[kind] + "_")


def is_address_list(addresses: str) -> bool:
    """As sshd reads it: addresses or networks without host bits, joined by commas, together of a bounded size."""
    try:
        networks = [ipaddress.ip_network(one, strict=True) for one in addresses.split(",")]
    except ValueError:
        return False
    v4 = sum(n.num_addresses for n in ipaddress.collapse_addresses(n for n in networks if n.version == 4))  # noqa: PLR2004  IPv4
    v6 = sum(n.num_addresses for n in ipaddress.collapse_addresses(n for n in networks if n.version == 6))  # noqa: PLR2004  IPv6
    # the sum and not each prefix: two halves of the Internet are the Internet, and so are 256 small pieces of it
    small = v4 < _TOO_MANY_V4 and v6 < _TOO_MANY_V6
    return small and not set(addresses) & set("% ")


def _is_command(command: str) -> bool:
    try:
        return "\0" not in command and len(command.encode()) <= MAX_FORCE_COMMAND_BYTES
    except UnicodeEncodeError:
        return False


def _is_identity(uri: str) -> bool:
    scheme, _, rest = uri.partition("://")
    tenant, _, identity = rest.partition("/")
    return scheme == "grantd" and (is_tenant(tenant) or tenant == SYSTEM_TENANT) and is_id(identity)


def _are_hosts(hosts: tuple[str, ...]) -> bool:
    return 0 < len(hosts) <= MAX_HOSTS and all(is_address(host) or _HOST_NAME.fullmatch(host) for host in hosts)


def is_address(host: str) -> bool:
    """Whether `host` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _require(holds: bool, rule: str) -> None:  # noqa: FBT001  reads as a sentence at its call sites
    if not holds:
        raise CertMismatch(f"certificate refused: {rule}")
