"""A whole broker behind its gRPC door, in one process: real store, services, recorder, TLS. Two ports have stand-ins.

The signer signs with the signer's own code, without its process. Targets run commands as local processes of bash.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import Connection

from broker.adapters.audit_log.health import LogHealth
from broker.adapters.audit_log.keeper import SqlAuditKeeper
from broker.adapters.audit_log.pins import Pins
from broker.adapters.audit_log.reading import SqlAuditLog
from broker.adapters.audit_log.signing import Keyring, LogNames
from broker.adapters.freeze_spool import FreezeFiles
from broker.adapters.store.audit import AuditRowsSql
from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.store import SqlStore
from broker.adapters.store.tx import RowSource
from broker.adapters.system import SystemClock, SystemEntropy
from broker.adapters.tokens import JwtTokens
from broker.adapters.uploads import UploadKey
from broker.adapters.vault import SealingKey, Vault
from broker.adapters.xaes import Key
from broker.core.cert import SKEW, X509_LIFE, X509Spec, client_uri
from broker.core.identity import Identity, IdentityKind, IdentityStatus, Login, Target, Team
from broker.core.ids import SYSTEM_TENANT, IdentityId, TargetId, TeamId, TenantId, render
from broker.core.kinds import SshSettings
from broker.core.roles import Role
from broker.core.secret import Secret
from broker.core.sshsig import MAGIC
from broker.core.sshwire import ed25519_blob, parse_blob, string
from broker.rpc.server import Listen, RpcServers
from broker.rpc.services import servicers
from broker.rpc.tls import ServerIdentity
from broker.service.ends import Ends
from broker.service.leases import Leases
from broker.service.live import LiveRegistry
from broker.service.policies import Policies
from broker.service.ports import Tx
from broker.service.use_cases import UseCases
from broker.service.wake import Bell
from broker.service.world import Limits, Places, World
from broker.signer.keys import load_keys, make_keys
from policy.classes import Tier
from recorder.store.files import FileRecordingStore
from recorder.writer import RecorderThread
from tests.broker.adapters.store.fixtures import NOW, sqlite_database
from tests.broker.rpc.code_signer import CodeSigner
from tests.broker.rpc.local_targets import LocalTargets

TENANT: Final = TenantId("t1")
OTHER_TENANT: Final = TenantId("t2")
VERSION: Final = "9.9.9"


@dataclass(slots=True)
class Counts:
    """ports.Meter that remembers."""

    counted: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    observed: list[tuple[str, float]] = field(default_factory=list)

    def count(self, name: str, **labels: str) -> None:
        self.counted.append((name, labels))

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.observed.append((name, value))

    def gauge(self, name: str, value: float, **labels: str) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Somebody:
    """One who calls: a row, a TLS key with its certificate, and for people an approval key."""

    row: Identity
    key: ec.EllipticCurvePrivateKey
    certificate: bytes
    """PEM."""
    approval: Ed25519PrivateKey

    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def csr(self) -> bytes:
        """A CSR of the TLS key, DER."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def sign(self, namespace: str, message: bytes) -> bytes:
        """An SSHSIG by the approval key. Source: OpenSSH's PROTOCOL.sshsig."""
        envelope = string(namespace.encode()) + string(b"") + string(b"sha512")
        raw = self.approval.sign(MAGIC + envelope + string(hashlib.sha512(message).digest()))
        signature = string(b"ssh-ed25519") + string(raw)
        blob = ed25519_blob(self.approval.public_key().public_bytes_raw())
        return MAGIC + (1).to_bytes(4, "big") + string(blob) + envelope + string(signature)


class House:
    """The broker and those who know it."""

    def __init__(self, *, world: World, cases: UseCases, signer: CodeSigner, keeper: SqlAuditKeeper) -> None:
        self.world, self.cases, self.signer, self.keeper = world, cases, signer, keeper
        self.meter, self.targets = Counts(), LocalTargets()
        self.people: dict[str, Somebody] = {}
        self.team = TeamId(render("team", secrets.token_bytes(16)))
        self.shown = self.identity()
        self.rpc: RpcServers | None = None

    def identity(self) -> ServerIdentity:
        """A new server certificate for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        spec = X509Spec(
            uri="", hosts=("127.0.0.1",), not_before=now - SKEW, not_after=now + timedelta(days=1), server=True,
            serial=secrets.randbits(64) | 1,
        )  # fmt: skip
        return ServerIdentity(
            key=Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
            chain=pem(self.signer.signed(spec, key.public_key())),
            client_ca=self.ca_pem(),
        )

    def ca_pem(self) -> bytes:
        return self.signer.keys.x509_certificate.public_bytes(Encoding.PEM)

    def certificate(
        self, row: Identity, key: ec.EllipticCurvePrivateKey, *, life: timedelta = X509_LIFE, uri: str = ""
    ) -> bytes:
        """A client certificate, PEM; `life` may be over already."""
        now = datetime.now(UTC)
        spec = X509Spec(
            uri=uri or client_uri(row.tenant, row.id), hosts=(), not_before=min(now, now + life) - SKEW,
            not_after=now + life, server=False, serial=secrets.randbits(64) | 1,
        )  # fmt: skip
        return pem(self.signer.signed(spec, key.public_key()))

    async def add(self, name: str, role: Role, **fields: object) -> Somebody:
        """An ACTIVE identity with a certificate; fields of Identity may be given."""
        kind = IdentityKind.AGENT if role is Role.AGENT else IdentityKind.PERSON
        key, approval = ec.generate_private_key(ec.SECP256R1()), Ed25519PrivateKey.generate()
        line = parse_blob(ed25519_blob(approval.public_key().public_bytes_raw())).line()
        given: dict[str, object] = {
            "tenant": TENANT,
            "id": IdentityId(render(kind, secrets.token_bytes(16))),
            "kind": kind,
            "name": name,
            "role": role,
            "owner": None,
            "teams": frozenset({self.team}),
            "status": IdentityStatus.ACTIVE,
            "key": spki_sha256(key),
            "approval_keys": (line,) if kind is IdentityKind.PERSON else (),
            "created_at": datetime.now(UTC),
        }
        row = Identity(**given | fields)  # type: ignore[arg-type]
        await self.world.store.run(row.tenant, lambda tx: tx.identities.put(row))
        made = Somebody(row=row, key=key, certificate=self.certificate(row, key), approval=approval)
        self.people[name] = made
        return made

    async def change(self, who: Somebody, **fields: object) -> None:
        """Rewrites a row behind the services' back, as another broker would."""
        row = replace(who.row, **fields)  # type: ignore[arg-type]
        await self.world.store.run(row.tenant, lambda tx: tx.identities.put(row))

    def channel(self, who: Somebody | None, *, certificate: bytes | None = None, port: int = 0) -> grpc.aio.Channel:
        """A channel to the main listener, or to `port`; without anybody, one that shows no certificate."""
        assert self.rpc is not None
        credentials = grpc.ssl_channel_credentials(
            self.ca_pem(), who.key_pem() if who else None, (certificate or who.certificate) if who else None
        )
        options = [("grpc.max_receive_message_length", 1 << 20), ("grpc.enable_http_proxy", 0)]
        return grpc.aio.secure_channel(f"127.0.0.1:{port or self.rpc.main_port}", credentials, options=options)

    async def events(self) -> list[str]:
        """Names of the audit events of the tenant so far, in order."""
        while await self.keeper.sequence(TENANT):
            pass
        await self.keeper.sign_head(TENANT, datetime.now(UTC))
        assert self.cases.audit is not None
        records = await self.cases.audit._log.entries(TENANT, from_seq=0, limit=1000)  # noqa: SLF001  not a read by a person
        return [record.name for record in records]


def pem(der: bytes) -> bytes:
    """A certificate as text."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def spki_sha256(key: ec.EllipticCurvePrivateKey) -> bytes:
    """How a client key is known to the broker."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


@asynccontextmanager
async def opened(folder: Path, *, calls_per_identity: int = 250) -> AsyncIterator[House]:
    """A house whose doors are open, with somebody for each role and one target `web1`."""
    async with AsyncExitStack() as stack:
        house = await _built(folder, stack)
        await _inhabit(house)
        house.rpc = RpcServers(
            listen=Listen(main="127.0.0.1:0", join="127.0.0.1:0"),
            identity=lambda: house.shown,
            servicers=servicers(house.cases, places=house.world.places, clock=house.world.clock, version=VERSION),
            identify=house.cases.identify,
            tell=house.cases.refused,
            meter=house.meter,
            clock=house.world.clock,
            calls_per_identity=calls_per_identity,
        )
        await house.rpc.start()
        stack.push_async_callback(house.rpc.stop, 0.5)
        await house.rpc.serving(True)  # noqa: FBT003  reads as a sentence
        yield house


async def _built(folder: Path, stack: AsyncExitStack) -> House:
    clock, entropy, meter = SystemClock(), SystemEntropy(), Counts()
    health, keyring = LogHealth(clock=clock, meter=meter), Keyring()
    vault = Vault(SealingKey("rk_test", Key(bytearray(os.urandom(32)))))

    def keys(conn: Connection, tenant: TenantId) -> KeyRowsSql:
        return KeyRowsSql(conn, tenant, vault)

    def audit(conn: Connection, tenant: TenantId) -> AuditRowsSql:
        return AuditRowsSql(
            connection=conn, tenant=tenant, broker="b1", entropy=entropy, sealer=keys(conn, tenant), noted=health.noted
        )

    store = await _store(folder, stack, RowSource(keys=keys, audit=audit))
    pins = Pins(folder / "checkpoints")
    keeper = SqlAuditKeeper(
        store=store, names=LogNames(domain="grantd.example", cluster="c1"), pins=pins, keyring=keyring, health=health,
        entropy=entropy, meter=meter,
    )  # fmt: skip
    await keeper.start(clock.now())
    recordings = folder / "recordings"
    make_keys(folder / "signer", clock.now())
    signer = CodeSigner(load_keys(folder / "signer", owner=os.geteuid()), store)
    targets = LocalTargets()
    world = World(
        store=store, clock=clock, entropy=entropy, signer=signer, targets=targets, issuers={}, uploads=UploadKey(),
        recordings=_recordings(recordings, stack),
        tokens=JwtTokens(Secret(os.urandom(32)), issuer="grantd.example/c1", kid="t1"), meter=meter,
        audit_health=health, freezes=FreezeFiles(folder / "freezes"),
        live=LiveRegistry(), leases=Leases(), ends=Ends(), policies=Policies(), bell=Bell(),
        limits=Limits(),
        operators=TENANT,
        places=Places(
            grpc="broker.example:7443", join="broker.example:7444", freeze="broker.example:7445",
            gateway="broker.example:2222",
            gateway_names=("broker.example",),
        ),
    )  # fmt: skip
    log = SqlAuditLog(store=store, openers=keys, keyring=keyring, recordings=recordings)
    house = House(world=world, cases=UseCases.over(world, log), signer=signer, keeper=keeper)
    house.meter, house.targets = meter, targets
    return house


async def _store(folder: Path, stack: AsyncExitStack, source: RowSource) -> SqlStore:
    store = await SqlStore.open(sqlite_database(folder).broker, source=source)
    stack.push_async_callback(store.close)
    for tenant in (TENANT, OTHER_TENANT, SYSTEM_TENANT):
        await store.create_tenant(tenant, NOW)
    return store


def _recordings(folder: Path, stack: AsyncExitStack) -> FileRecordingStore:
    folder.mkdir(mode=0o700)
    recorder = RecorderThread()
    recorder.start()
    stack.callback(recorder.close)
    return FileRecordingStore(folder, recorder, floor_bytes=0)


async def _inhabit(house: House) -> None:
    def unit(tx: Tx) -> None:
        tx.teams.put(Team(tenant=TENANT, id=house.team, name="web"))
        tx.targets.put(web1(house.team))

    await house.world.store.run(TENANT, unit)
    for role in Role:
        await house.add(role.value, role)


def web1(team: TeamId) -> Target:
    """A target of the team, in the tier that lets reads run."""
    return Target(
        tenant=TENANT, id=TargetId(render("target", secrets.token_bytes(16))), name="web1", host="127.0.0.1", port=22,
        host_key=parse_blob(ed25519_blob(bytes(range(32)))).line(), tier=Tier.APPROVAL, teams=frozenset({team}),
        labels={}, logins=(Login(name="deploy", read_login=""),), seal_reads=False, source_address="",
        settings=SshSettings(krl_login=""), created_at=NOW,
    )  # fmt: skip
