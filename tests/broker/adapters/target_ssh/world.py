"""A real sshd that trusts a real CA, and the adapter before it: what the tests of this folder share.

The signer here is in-process, but makes and checks certificates with the signer's own code: only the socket is missing.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from broker.adapters.target_ssh import SshTargets
from broker.core.action import Outcome
from broker.core.cert import Ca, CertSpec, X509Spec, check, must_match, principal_of
from broker.core.clock import EPOCH
from broker.core.generation import Generation, Stage
from broker.core.identity import Login, Target
from broker.core.ids import ActionId, AuditId, GrantId, TargetId, TenantId, render
from broker.core.kinds import SshSettings
from broker.core.revoking import pushing
from broker.core.sshwire import ed25519_blob
from broker.service.ports import Chunk, ExecPlan, Proof, Stream, TargetProcess
from broker.signer.probes import must_be_a_check
from broker.signer.sign import sign_ssh
from policy.classes import Tier

if TYPE_CHECKING:
    from tests.peers_sshd import Sshd, StartSshd

TENANT = TenantId("acme")


class MachineClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        raise NotImplementedError


class MachineEntropy:
    def token(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def uuid7(self, now: datetime) -> AuditId:
        raise NotImplementedError


@dataclass(slots=True)
class InProcessSigner:
    """Signs as the signer does, and remembers what it was asked and in which order."""

    keys: dict[Ca, Ed25519PrivateKey] = field(
        default_factory=lambda: {ca: Ed25519PrivateKey.generate() for ca in (Ca.INGRESS, Ca.EGRESS, Ca.HOST)}
    )
    asked: list[CertSpec] = field(default_factory=list)
    next_egress: Ed25519PrivateKey | None = None

    def start_rotation(self) -> str:
        """From here on the egress CA has a next key: its line."""
        self.next_egress = Ed25519PrivateKey.generate()
        return self.next_egress.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    async def sign_ssh(self, spec: CertSpec, public_key: bytes, proof: Proof) -> bytes:
        check(spec, datetime.now(UTC))
        blob = sign_ssh(spec, public_key, self.keys[spec.ca])
        must_match(spec, blob, public_key=public_key, ca_key=await self.ssh_ca(spec.ca))
        self.asked.append(spec)
        return blob

    async def sign_x509(self, spec: X509Spec, csr_der: bytes) -> bytes:
        raise NotImplementedError

    async def sign_probe(self, spec: CertSpec, public_key: bytes, generation: int) -> bytes:
        must_be_a_check(spec)
        if generation == 2 and self.next_egress is not None:
            self.asked.append(spec)
            return sign_ssh(spec, public_key, self.next_egress)
        return await self.sign_ssh(spec, public_key, Proof(record=b"", signatures=()))

    async def sign_krl(self, spec: CertSpec, public_key: bytes, grants: tuple[str, ...]) -> bytes:
        whole = pushing(spec, grants, [each.public for each in await self.generations(Ca.EGRESS)])
        return await self.sign_ssh(whole, public_key, Proof(record=b"", signatures=()))

    async def generations(self, ca: Ca) -> tuple[Generation, ...]:
        one = Generation(
            number=1, public=await self.ssh_ca(ca), stage=Stage.SIGNING, since=EPOCH, voucher=b""
        )  # fmt: skip
        if ca is not Ca.EGRESS or self.next_egress is None:
            return (one,)
        public = ed25519_blob(self.next_egress.public_key().public_bytes_raw())
        return (one, Generation(number=2, public=public, stage=Stage.NEXT, since=EPOCH, voucher=b""))

    async def rotate(self, ca: Ca, statement: bytes, signatures: tuple[bytes, ...]) -> tuple[Generation, ...]:
        raise NotImplementedError

    async def learn(self, statement: bytes, signatures: tuple[bytes, ...]) -> None:
        raise NotImplementedError

    async def open_glass(self, use: bytes, signature: bytes) -> None:
        raise NotImplementedError

    async def believed(self, tenant: str, subject: str) -> bytes:
        return b""

    async def ssh_ca(self, name: str) -> bytes:
        return base64.b64decode(self.line(Ca(name)).split()[1])

    async def x509_ca(self) -> bytes:
        raise NotImplementedError

    def line(self, ca: Ca) -> str:
        return self.keys[ca].public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def private_line(self, ca: Ca) -> bytes:
        """A CA's private key as OpenSSH keeps one in a file: somebody stole it."""
        return self.keys[ca].private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())

    def private(self) -> bytes:
        """The egress CA's private key, for a second broker in a process of its own."""
        return self.keys[Ca.EGRESS].private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def new_id(kind: str) -> str:
    """A fresh id of a kind of object."""
    return render(kind, secrets.token_bytes(16))


@dataclass(slots=True)
class World:
    """One sshd as one target, and the adapter."""

    sshd: Sshd
    login: str
    signer: InProcessSigner
    targets: SshTargets
    target: Target
    announced: list[int] = field(default_factory=list)
    grant: GrantId = field(default_factory=lambda: GrantId(new_id("grant")))

    async def announce(self, serial: int) -> None:
        assert len(self.signer.asked) <= len(self.announced), "signed before it was announced"
        self.announced.append(serial)

    def plan(self, command: bytes | str, *, sealed: bool, **changes: object) -> ExecPlan:
        plan = ExecPlan(
            tenant=TENANT,
            grant_id=self.grant,
            action_id=ActionId(new_id("action")),
            target=self.target,
            login=self.login,
            command=command.encode() if isinstance(command, str) else command,
            cwd="",
            env={},
            sealed=sealed,
            wants_stdin=False,
            serial=secrets.randbits(63) + 1,
            not_after=datetime.now(UTC) + timedelta(minutes=10),
            seconds_left=60.0,
            proof=Proof(record=b"", signatures=()),
            announce=self.announce,
        )
        return replace(plan, **changes)  # type: ignore[arg-type]  # a test names fields of ExecPlan

    async def run(self, command: bytes | str, *, sealed: bool, stdin: bytes | None = None, **changes: object) -> Ran:
        """Runs a command to its end."""
        plan = self.plan(command, sealed=sealed, wants_stdin=stdin is not None, **changes)
        process = await self.targets.start(plan)
        if stdin is not None:
            await process.write(stdin)
            await process.write_eof()
        return await drained(process)


@dataclass(frozen=True, slots=True)
class Ran:
    out: bytes
    err: bytes
    outcome: Outcome


async def drained(process: TargetProcess) -> Ran:
    """Everything a process writes, and how it ended."""
    streams = {Stream.OUT: bytearray(), Stream.ERR: bytearray()}
    while isinstance(got := await process.read(), Chunk):
        assert 0 < len(got.data) <= 64 * 1024
        streams[got.stream] += got.data
    return Ran(out=bytes(streams[Stream.OUT]), err=bytes(streams[Stream.ERR]), outcome=got)


def target_for(**changes: object) -> Target:
    """A target row; tests name what matters to them."""
    target = Target(
        tenant=TENANT,
        id=TargetId(new_id("target")),
        name="web1",
        host="127.0.0.1",
        port=22,
        host_key="",
        tier=Tier.APPROVAL,
        teams=frozenset(),
        labels={},
        logins=(),
        seal_reads=False,
        source_address="",
        settings=SshSettings(krl_login=""),
        created_at=datetime.now(UTC),
    )
    return replace(target, **changes)  # type: ignore[arg-type]  # a test names fields of Target


@asynccontextmanager
async def world(start: StartSshd, *, config: str = "", fast_path: bool = True) -> AsyncIterator[World]:
    """An sshd that trusts the egress CA of a new signer, with the adapter before it."""
    signer = InProcessSigner()
    target_id = TargetId(new_id("target"))
    login = _login()
    sshd = start(
        user_cas=[signer.line(Ca.EGRESS)],
        principals={login: [principal_of(TENANT, target_id, login)]},
        config=config,
    )
    target = target_for(
        id=target_id,
        host=sshd.host,
        port=sshd.port,
        host_key=sshd.host_key,
        logins=(Login(name=login, read_login=""),),
    )
    targets = SshTargets(signer=signer, clock=MachineClock(), entropy=MachineEntropy(), fast_path=fast_path)
    try:
        yield World(sshd=sshd, login=login, signer=signer, targets=targets, target=target)
    finally:
        await targets.close()


def second_broker(*, port: int, host_key: str, target_id: str, key: bytes) -> World:
    """The adapter of another process before a running sshd; it trusts and signs like the first."""
    signer = InProcessSigner(keys={Ca.EGRESS: Ed25519PrivateKey.from_private_bytes(key)})
    login = _login()
    target = target_for(id=TargetId(target_id), port=port, host_key=host_key)
    targets = SshTargets(signer=signer, clock=MachineClock(), entropy=MachineEntropy())
    return World(sshd=None, login=login, signer=signer, targets=targets, target=target)  # type: ignore[arg-type]  # not its own


def _login() -> str:
    return Path(f"/proc/{os.getpid()}").owner()


def alive(pid: int) -> bool:
    """Whether the process still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
