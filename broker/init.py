"""`grantd init`: a working single-node configuration from nothing: keys, database, tenant, and the first Owner.

Never overwrites anything; what it made half is in a directory that was empty before, to be removed and tried again.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import asyncssh
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from broker.adapters.root_key import make_root_key
from broker.adapters.store.migrations import migrate
from broker.adapters.system import SystemClock, SystemEntropy
from broker.app import House
from broker.config import Settings
from broker.core import ids
from broker.core.cert import SKEW, X509_LIFE, X509Spec, client_uri
from broker.core.errors import Fault, Refusal, invalid
from broker.core.events import AuditEvent
from broker.core.identity import Identity, IdentityKind, IdentityStatus
from broker.core.ids import SYSTEM_TENANT, IdentityId, TenantId, is_name
from broker.core.roles import Role
from broker.core.sshwire import parse_line
from broker.core.statement import TRUST_NAMESPACE
from broker.service.ports import Tx
from broker.service.trust import first_statement
from broker.signer.keys import make_keys
from broker.signer.trust import TrustFile
from grantd import keys as client_keys
from grantd.cli.signing import FileSigner, signer_of
from grantd.errors import Invalid
from grantd.profile import Description, Profile, replace_file

_APPROVAL_KEY = "approval_key"


def single_node(*, data: Path, tenant: str, host: str, base_port: int, database: str) -> Settings:
    """Settings of one broker: gRPC at the base port, then join, SSH, metrics (on loopback) and the kill switch.

    Raises:
        Refusal: `bad_config`: names the key.
    """
    ports = iter(range(base_port, base_port + 5))
    return Settings.made(
        data=str(data),
        tenant=tenant,
        grpc={"host": host, "port": next(ports)},
        join={"host": host, "port": next(ports)},
        ssh={"host": host, "port": next(ports)},
        metrics={"port": next(ports)},
        freeze={"host": host, "port": next(ports)},
        store={"url": database},
    )


def public_key_line(path: Path) -> str:
    """The one OpenSSH public key in a `.pub` file.

    Raises:
        Refusal: `bad_public_key`.
    """
    try:
        line = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise invalid("bad_public_key", f"{path} is not an OpenSSH public key", "give the .pub file") from None
    parse_line(line)
    return line


def own_key(path: Path) -> ApprovalKey:
    """The Owner's key of a `.pub` file, to sign with: its private half beside it, else from ssh-agent.

    Raises:
        Refusal: `bad_public_key`, `key_cannot_sign`.
    """
    line = public_key_line(path)
    private = path.with_suffix("")
    try:
        return ApprovalKey(line=line, sign=signer_of(private if private.exists() else path).sign)
    except Invalid as wrong:
        raise invalid("key_cannot_sign", str(wrong), "keep its private half beside it, or ssh-add it") from wrong


def must_be_new(config: Path, settings: Settings, *, owner: str, profile: Path) -> None:
    """What init would have to overwrite, or could only find out half-way: asked before anything is made.

    Raises:
        Refusal: `already_there`, `bad_name`, `bad_config`.
    """
    if not is_name(owner):
        raise invalid("bad_name", "a person's name is lower case letters, digits, '.', '_', '-'")
    if os.path.lexists(config):
        raise invalid("already_there", f"{config} is already there", "remove it, or use it as it is")
    for folder, what in ((settings.data, "data directory"), (profile, "profile")):
        if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
            raise invalid("already_there", f"{folder} is not empty", f"choose another {what}")
    config_text(settings)


def write_config(path: Path, settings: Settings) -> None:
    """The settings that differ from the defaults, as TOML, 0600."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    replace_file(path, config_text(settings).encode())


def config_text(settings: Settings) -> str:
    """The settings that differ from the defaults, as TOML. Raises Refusal `bad_config`."""
    lines = [
        "# grantd: see docs/configuration.md for every key",
        f"data = {_quoted(str(settings.data))}",
        f"tenant = {_quoted(settings.tenant)}",
    ]
    for name in ("grpc", "join", "ssh", "metrics", "freeze"):
        address = getattr(settings, name)
        lines += ["", f"[{name}]", f"host = {_quoted(address.host)}", f"port = {address.port}"]
        lines += [f"advertise = {_quoted(address.advertise)}"] if address.advertise else []
    if settings.store.url:
        lines += ["", "[store]", f"url = {_quoted(settings.store.url)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string; a JSON string of printable characters is one."""
    if not text.isprintable():
        raise invalid("bad_config", "a setting holds characters that cannot be shown", "use another path or name")
    return json.dumps(text, ensure_ascii=False)


async def initialise(
    settings: Settings, *, owner: str, approval_key: ApprovalKey | None, profile: Path, now: datetime
) -> Identity:
    """Makes keys, tables, tenant and the first Owner with a client certificate in `profile`; see `must_be_new`.

    `approval_key` is the Owner's, which signs the first line of what the signer believes; None makes a key file in the
    profile. A PostgreSQL database
    must have been migrated by its owner before (`grantd migrate`).

    Raises:
        Refusal: `init_failed`: what failed, and what to remove before another try.
    """
    try:
        _make_folders(settings)
        make_root_key(settings.root_key_file)
        make_keys(settings.signer_directory, now)
        if not settings.store.url:
            migrate(settings.store_url)
        key = approval_key or _made_key(profile)
        person = _owner(settings, owner, key, now)
        await asyncio.to_thread(_begin, settings, person, key, now)  # before a signer has the file
        return await _furnish(settings, person, made=approval_key is None, profile=profile, now=now)
    except (Refusal, Fault, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise invalid(
            "init_failed", f"init did not finish: {why}", f"remove {settings.data}, then try again"
        ) from error


def _make_folders(settings: Settings) -> None:
    for folder in (settings.data, settings.recordings_directory, settings.data / "checkpoints", settings.data / "run"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.data.chmod(0o700)  # it may have been there, empty and open


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalKey:
    """The first Owner's: an OpenSSH public key line, and who signs with it."""

    line: str
    sign: Callable[[str, bytes], bytes]
    """(SSHSIG namespace, message) -> SSHSIG blob; may ask an agent, and so wait for a touch."""


def _made_key(profile: Path) -> ApprovalKey:
    profile.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = profile / _APPROVAL_KEY
    line = make_approval_key(path)
    return ApprovalKey(line=line, sign=FileSigner(asyncssh.read_private_key(str(path))).sign)


def _owner(settings: Settings, name: str, key: ApprovalKey, now: datetime) -> Identity:
    return Identity(
        tenant=TenantId(settings.tenant),
        id=IdentityId(ids.render("person", SystemEntropy().token(16))),
        kind=IdentityKind.PERSON,
        name=name,
        role=Role.OWNER,
        owner=None,
        teams=frozenset(),
        status=IdentityStatus.ACTIVE,
        key=b"",
        approval_keys=(parse_line(key.line).line(),),
        created_at=now,
    )


async def begin_trust(settings: Settings, *, owner: str, key: ApprovalKey, now: datetime) -> Identity:
    """For an installation from before there was a trust file: its first line, an Owner whom the store knows.

    Raises:
        Refusal: `init_failed`: no such Owner with this key, or the file has a first line already.
    """
    tenant = TenantId(settings.tenant)
    try:
        async with AsyncExitStack() as stack:
            house = House(settings, stack)
            await house.build_foundation()
            person = await house.store.read(tenant, lambda tx: tx.identities.by_name(IdentityKind.PERSON, owner))
        line = parse_line(key.line).line()
        if person is None or person.role is not Role.OWNER or line not in person.approval_keys:
            raise invalid("init_failed", "the store knows no such Owner with this key", "name an Owner and their key")
        await asyncio.to_thread(_begin, settings, person, key, now)  # the signer that the house had is gone
    except Fault as fault:
        raise invalid("init_failed", f"it was not begun: {fault}", "stop the broker and its signer first") from fault
    return person


def _begin(settings: Settings, person: Identity, key: ApprovalKey, now: datetime) -> None:
    """The first line of what the signer believes, signed by the Owner whom it names."""
    said = first_statement(person, now)
    trust = TrustFile(settings.signer_directory)
    try:
        trust.begin(said, (key.sign(TRUST_NAMESPACE, said.encoded()),), now=now)
    finally:
        trust.close()


async def _furnish(settings: Settings, person: Identity, *, made: bool, profile: Path, now: datetime) -> Identity:
    async with AsyncExitStack() as stack:
        house = House(settings, stack)
        await house.build_foundation()
        tenant = TenantId(settings.tenant)
        await house.store.create_tenant(SYSTEM_TENANT, now)
        await house.store.create_tenant(tenant, now)
        return await _first_owner(house, person, made=made, profile=profile, now=now)


async def _first_owner(house: House, owner: Identity, *, made: bool, profile: Path, now: datetime) -> Identity:
    key = client_keys.new_key()
    person = replace(owner, key=client_keys.spki_sha256(key))
    await house.store.run(person.tenant, lambda tx: _put_owner(tx, person, now))
    # read anew: tables and the signer's start may have taken longer than a specification is good for
    spec = _owner_spec(house, person, SystemClock().now())
    certificate = await house.signer.sign_x509(spec, client_keys.csr_of(key))
    Profile.create(
        profile,
        description=_description(house, person, approval_key=_APPROVAL_KEY if made else ""),
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
        address=settings.grpc.told(),
        join_address=settings.join.told(),
        tenant=person.tenant,
        identity_id=person.id,
        name=person.name,
        approval_key=approval_key,
        freeze_address=settings.freeze.told(),
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
