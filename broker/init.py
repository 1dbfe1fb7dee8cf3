"""`grantd init`: a working single-node configuration from nothing: keys, database, tenant, and the first Owner.

Never overwrites anything; what it made half is in a directory that was empty before, to be removed and tried again.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from broker.adapters.root_key import make_root_key
from broker.adapters.store.migrations import migrate
from broker.app import House
from broker.config import Settings
from broker.core import ids
from broker.core.cert import SKEW, X509_LIFE, X509Spec, client_uri
from broker.core.errors import invalid
from broker.core.events import AuditEvent
from broker.core.identity import Identity, IdentityKind, IdentityStatus
from broker.core.ids import SYSTEM_TENANT, IdentityId, TenantId, is_name
from broker.core.roles import Role
from broker.core.sshwire import parse_line
from broker.service.ports import Tx
from broker.signer.keys import make_keys
from grantd import keys as client_keys
from grantd.profile import Description, Profile, replace_file

_APPROVAL_KEY = "approval_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What init leaves behind for a person to use."""

    config: Path
    profile: Path
    approval_key: Path


def write_config(path: Path, settings: Settings) -> None:
    """The settings that differ from the defaults, as TOML, 0600. Refuses to overwrite."""
    if path.exists():
        raise invalid("already_there", f"{path} is already there", "remove it, or use it as it is")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    lines = [
        "# grantd: see docs/configuration.md for every key",
        f'data = "{settings.data}"',
        f'tenant = "{settings.tenant}"',
    ]
    for name in ("grpc", "join", "ssh", "metrics"):
        address = getattr(settings, name)
        lines += ["", f"[{name}]", f'host = "{address.host}"', f"port = {address.port}"]
        lines += [f'advertise = "{address.advertise}"'] if address.advertise else []
    if settings.store.url:
        lines += ["", "[store]", f'url = "{settings.store.url}"']
    replace_file(path, ("\n".join(lines) + "\n").encode())


async def initialise(settings: Settings, *, owner: str, approval_key: str, profile: Path, now: datetime) -> Identity:
    """Makes keys, tables, tenant and the first Owner with a client certificate in `profile`.

    `approval_key` is an OpenSSH public key line, or empty to make a key file in the profile. A PostgreSQL database
    must have been migrated by its owner before (`grantd migrate`).

    Raises:
        Refusal: `already_there`, `bad_name`, `bad_public_key`.
    """
    if not is_name(owner):
        raise invalid("bad_name", "a person's name is lower case letters, digits, '.', '_', '-'")
    if settings.data.exists() and any(settings.data.iterdir()):
        raise invalid("already_there", f"{settings.data} is not empty", "choose an empty data directory")
    for folder in (settings.data, settings.recordings_directory, settings.data / "checkpoints", settings.data / "run"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_root_key(settings.root_key_file)
    make_keys(settings.signer_directory, now)
    if not settings.store.url:
        migrate(settings.store_url)
    async with AsyncExitStack() as stack:
        house = House(settings, stack)
        await house.build_foundation()
        tenant = TenantId(settings.tenant)
        await house.store.create_tenant(SYSTEM_TENANT, now)
        await house.store.create_tenant(tenant, now)
        return await _first_owner(house, tenant, owner=owner, line=approval_key, profile=profile, now=now)


async def _first_owner(
    house: House, tenant: TenantId, *, owner: str, line: str, profile: Path, now: datetime
) -> Identity:
    profile.mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240  init is alone on its loop
    public = parse_line(line or make_approval_key(profile / _APPROVAL_KEY)).line()
    key = client_keys.new_key()
    person = Identity(
        tenant=tenant,
        id=IdentityId(ids.render("person", house.entropy.token(16))),
        kind=IdentityKind.PERSON,
        name=owner,
        role=Role.OWNER,
        owner=None,
        teams=frozenset(),
        status=IdentityStatus.ACTIVE,
        key=client_keys.spki_sha256(key),
        approval_keys=(public,),
        created_at=now,
    )
    await house.store.run(tenant, lambda tx: _put_owner(tx, person, now))
    certificate = await house.signer.sign_x509(_owner_spec(house, person, now), client_keys.csr_of(key))
    Profile.create(
        profile,
        description=_description(house, person, approval_key="" if line else _APPROVAL_KEY),
        key=key,
        certificate=_pem(certificate),
        ca=_pem(await house.signer.x509_ca()),
    )
    return person


def _put_owner(tx: Tx, person: Identity, now: datetime) -> None:
    tx.identities.put(person)
    facts = {"identity": person.id, "role": person.role, "kind": person.kind}
    tx.audit.append(AuditEvent(tenant=person.tenant, name="person.added", facts=facts), now)
    tx.audit.append(AuditEvent(tenant=person.tenant, name="identity.enrolled", actor=person.id, facts=facts), now)


def _owner_spec(house: House, person: Identity, now: datetime) -> X509Spec:
    return X509Spec(
        uri=client_uri(person.tenant, person.id),
        hosts=(),
        not_before=now - SKEW,
        not_after=now + X509_LIFE,
        server=False,
        serial=int.from_bytes(house.entropy.token(16), "big") >> 1 or 1,
    )


def _description(house: House, person: Identity, *, approval_key: str) -> Description:
    settings = house.settings
    return Description(
        address=settings.grpc.told(settings.grpc.port),
        join_address=settings.join.told(settings.join.port),
        tenant=person.tenant,
        identity_id=person.id,
        name=person.name,
        approval_key=approval_key,
    )


def make_approval_key(path: Path) -> str:
    """Writes an Ed25519 private key (OpenSSH, 0600) and its `.pub`; returns the public key line."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    replace_file(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    replace_file(path.with_suffix(".pub"), public + b"\n")
    return public.decode()


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
