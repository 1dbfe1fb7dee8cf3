"""A signer's directory in which somebody is believed: an owner, a second one, a manager, a viewer and a few targets.

Records are made as the broker makes them, signatures as people's keys make them; a test then changes one thing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.cert import Ca, CertSpec, egress_spec, principal_of
from broker.core.generation import Step
from broker.core.identity import Identity, IdentityKind, Login, Target
from broker.core.ids import GrantId, TargetId, TenantId, render
from broker.core.kinds import TargetKind
from broker.core.records import APPROVAL_NAMESPACE, AccessRecord, ActionRecord, timed_nonce
from broker.core.roles import Role
from broker.core.signing import Learn, RotateCa, SignSsh
from broker.core.sshsig import MAGIC
from broker.core.sshwire import ed25519_blob, parse_blob, string
from broker.core.statement import (
    TRUST_NAMESPACE,
    Content,
    Machine,
    Person,
    Rotation,
    Statement,
    read_statement,
    subject_of,
)
from broker.core.wrapper import force_command
from broker.service.trust import machine_of, person_of
from broker.signer.authority import Authority
from broker.signer.hours import Hours
from broker.signer.journal import Journal
from broker.signer.keys import CaKeys, load_keys, make_keys
from broker.signer.proof import Prover
from broker.signer.rotation import must_be_due, rotated
from broker.signer.trust import TrustFile
from policy.classes import Tier
from policy.shell import Classified, classify
from tests.broker.ssh_keys import GRANT, NOW, new_public_key

TENANT = TenantId("t1")
HOST_KEY = hashlib.sha256(b"a host key").digest()
READ, WRITE, EXECUTE, INSTALL = b"uname -a", b"touch /tmp/x", b"systemctl restart app", b"apt-get install -y jq"
REBOOT, OPAQUE = b"reboot", b"./deploy.sh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatory:
    """Somebody with an approval key."""

    name: str
    key: Ed25519PrivateKey

    @classmethod
    def named(cls, name: str) -> Signatory:
        return cls(name=name, key=Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))

    @property
    def id(self) -> str:
        return render("person", hashlib.md5(self.name.encode()).digest())  # noqa: S324

    @property
    def line(self) -> str:
        return parse_blob(ed25519_blob(self.key.public_key().public_bytes_raw())).line()

    def sign(self, message: bytes, namespace: str = APPROVAL_NAMESPACE) -> bytes:
        """The binary SSHSIG over a message."""
        envelope = string(namespace.encode()) + string(b"") + string(b"sha512")
        signed = MAGIC + envelope + string(hashlib.sha512(message).digest())
        made = string(b"ssh-ed25519") + string(self.key.sign(signed))
        blob = string(ed25519_blob(self.key.public_key().public_bytes_raw()))
        return MAGIC + (1).to_bytes(4, "big") + blob + envelope + string(made)

    def person(self, role: Role, *, active: bool = True) -> Person:
        return Person(name=self.name, role=role, active=active, keys=(self.line,))


OWNER, SECOND, MANAGER, VIEWER = (Signatory.named(name) for name in ("olga", "sam", "mona", "vera"))
STRANGER = Signatory.named("stranger")
PEOPLE = ((OWNER, Role.OWNER), (SECOND, Role.OWNER), (MANAGER, Role.MANAGER), (VIEWER, Role.VIEWER))


def target_id(name: str) -> TargetId:
    """Of the target of this name."""
    return TargetId(render("target", hashlib.md5(name.encode()).digest()))  # noqa: S324


def machine(name: str, tier: Tier = Tier.APPROVAL) -> Machine:
    """A target with a privileged login whose reads are another's, and a login of its own."""
    logins = (Login(name="deploy", read_login="reader"), Login(name="app", read_login=""))
    return Machine(name=name, tier=tier, host_key=HOST_KEY, logins=logins, seal_reads=False, quorum={})


def statement(subject: str, content: Content, *, before: Statement | None = None, at: datetime = NOW) -> Statement:
    """The next statement about a subject."""
    return Statement(
        tenant=TENANT, subject=subject, revision=before.revision + 1 if before else 1,
        previous=before.sha256() if before else b"", content=content, at=at,
    )  # fmt: skip


def signed(said: Statement, *signers: Signatory) -> tuple[bytes, ...]:
    """Everybody's signature over a statement."""
    return tuple(who.sign(said.encoded(), TRUST_NAMESPACE) for who in signers)


def rotation(
    ca: Ca, step: Step, number: int, *, forced: bool = False, before: Statement | None = None, at: datetime = NOW
) -> Statement:
    """The next statement about a CA: one step, of the key of that number."""
    said = Rotation(ca=ca, step=step, number=number, forced=forced)
    return statement(subject_of(ca), said, before=before, at=at)


def rotate(said: Statement, *signers: Signatory) -> RotateCa:
    """The question that takes the step of a statement."""
    return RotateCa(statement=said.encoded(), signatures=signed(said, *signers))


def stepped(keys: CaKeys, said: bytes, now: datetime) -> CaKeys:
    """The keys after the step of a statement, if it is due; whoever signed it."""
    content = read_statement(said).content
    assert isinstance(content, Rotation)
    must_be_due(keys.generations[content.ca], content, now)
    return rotated(keys, content.ca, content.step, now)


def believing(row: Identity | Target | None, at: datetime = NOW) -> bytes:
    """What a signer holds about a person or a target that it was told of as the broker has it."""
    match row:
        case Identity(kind=IdentityKind.PERSON):
            content: Content = person_of(row)
        case Target(kind=TargetKind.SSH):
            content = machine_of(row)
        case _:
            return b""
    return Statement(tenant=row.tenant, subject=row.id, revision=1, previous=b"", content=content, at=at).encoded()


def learn(said: Statement, *signers: Signatory) -> Learn:
    """The question that hands a statement over."""
    return Learn(statement=said.encoded(), signatures=signed(said, *signers))


@dataclass(slots=True)
class Asker:
    """What a broker would ask of the signer."""

    now: datetime = NOW

    def record(self, command: bytes = INSTALL, target: str = "web1", **changes: object) -> ActionRecord:
        """What the broker would propose for a command, its class as the classifier sees it."""
        seen = classify(command)
        assert isinstance(seen, Classified)
        reads = seen.command_class.word == "read"
        made = ActionRecord(
            tenant=TENANT, request_id=render("request", bytes(16)), action_id=render("action", os.urandom(16)),
            requester=render("agent", bytes(16)), agent_id=render("agent", bytes(16)), agent_key=bytes(32),
            target_id=target_id(target), host_key=HOST_KEY, login="reader" if reads else "deploy", command=command,
            cwd="", env={}, stdin_mode="none", stdin_sha256=b"", pty=False, command_class=seen.command_class.word,
            opaque=seen.opaque, egress=seen.egress, tier=Tier.APPROVAL, verification=None, rollback=(),
            not_after=self.now + timedelta(hours=1), policy_version="p1",
            nonce=timed_nonce(self.now, os.urandom(12)),
        )  # fmt: skip
        return replace(made, **changes)  # type: ignore[arg-type]

    def access(self, record: ActionRecord, *flags: str, **changes: object) -> AccessRecord:
        """The access request under which an action runs."""
        made = AccessRecord(
            tenant=record.tenant, request_id=record.request_id, requester=record.requester, agent_id=record.agent_id,
            agent_key=record.agent_key, target_id=record.target_id, host_key=record.host_key, login="deploy",
            ceiling="install", flags=frozenset(flags), ttl=timedelta(hours=1), policy_version="p1",
            nonce=timed_nonce(self.now, bytes(12)),
        )  # fmt: skip
        return replace(made, **changes)  # type: ignore[arg-type]

    def spec(self, record: ActionRecord, *, sealed: bool = True, **changes: object) -> CertSpec:
        """What the broker would ask to be signed for a record."""
        forced = force_command(record.command, cwd=record.cwd, env=record.env, seconds=60) if sealed else ""
        made = egress_spec(
            grant=GrantId(GRANT), serial=int.from_bytes(os.urandom(8), "big") | 1,
            principal=principal_of(TENANT, TargetId(record.target_id), record.login), source_address="192.0.2.7",
            force_command=forced, permit_pty=record.pty, now=self.now, not_after=record.not_after,
        )  # fmt: skip
        return replace(made, **changes)  # type: ignore[arg-type]

    def ask(
        self, record: ActionRecord, *signers: Signatory, sealed: bool = True, spec: CertSpec | None = None,
        access: AccessRecord | None = None, granted_by: Sequence[Signatory] = (),
    ) -> SignSsh:  # fmt: skip
        """The question for one certificate, with everybody's yes over the record."""
        message, grant = record.encoded(), access.encoded() if access else b""
        return SignSsh(
            spec=spec or self.spec(record, sealed=sealed), public_key=new_public_key(), record=message,
            signatures=tuple(who.sign(message) for who in signers), access=grant,
            access_signatures=tuple(who.sign(grant) for who in granted_by),
        )  # fmt: skip


def open_authority(
    directory: Path, now: Callable[[], datetime] = lambda: NOW, monotonic: Callable[[], float] = lambda: 0.0
) -> Authority:  # fmt: skip
    """A signer over the keys and files of a directory, in this process."""
    journal = Journal(directory, now)
    prover = Prover(
        TrustFile(directory), journal.used, journal.opened, Hours(monotonic, journal.since_opened)
    )  # fmt: skip
    return Authority(load_keys(directory, owner=os.geteuid()), journal, prover, now)


def furnish(directory: Path, *machines: Machine, at: datetime = NOW) -> None:
    """Keys, and a trust file in which PEOPLE and some targets are believed. Nobody serves it yet."""
    make_keys(directory, at)
    trust = TrustFile(directory)
    try:
        first = statement(OWNER.id, OWNER.person(Role.OWNER), at=at)
        trust.begin(first, signed(first, OWNER), now=at)
        for who, role in PEOPLE[1:]:
            said = statement(who.id, who.person(role), at=at)
            _learn(trust, said, at, OWNER)
        for one in machines:
            _learn(trust, statement(target_id(one.name), one, at=at), at, OWNER, SECOND)
    finally:
        trust.close()


def _learn(trust: TrustFile, said: Statement, at: datetime, *signers: Signatory) -> None:
    trust.must_admit(said, signed(said, *signers), now=at)
    trust.learn(said, signed(said, *signers), now=at)
