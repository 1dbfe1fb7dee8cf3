"""A broker that was taken over: the real one, built by its own code over its own data, with somebody else at the wheel.

`python -m tests.e2e.evil CONFIG LOGIN` has what arbitrary code in the broker has: the signer's client, the
store, the vault, every row. It tries each way to a certificate that nobody allowed, and prints what came of it, one
JSON object a line: `name`, `told` (the rule that refused it, or "" where it got what it wanted). Only for tests.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import asyncssh

from broker.app import House
from broker.config import Settings
from broker.core import ids
from broker.core.approval import Subject
from broker.core.cert import Ca, CertSpec, egress_spec, principal_of
from broker.core.errors import Fault
from broker.core.generation import Step
from broker.core.identity import Identity, IdentityKind, IdentityStatus, Target
from broker.core.ids import ActionId, GrantId, IdentityId, TargetId, TenantId
from broker.core.records import APPROVAL_NAMESPACE, ActionRecord, timed_nonce
from broker.core.roles import Role
from broker.core.sshwire import parse_blob
from broker.core.statement import (
    TRUST_NAMESPACE,
    Glass,
    Machine,
    Person,
    Rotation,
    Statement,
    read_statement,
    subject_of,
)
from broker.core.wrapper import force_command
from broker.service.ports import Proof, Tx
from policy.classes import Tier
from tests.e2e.evil_glass import EvilGlass
from tests.e2e.stage import ASKS, FREE

INSTALL, READ = b"apt-get install -y jq", b"uname -a"
WRITE = f"touch {os.environ.get('EVIL_FOLDER', '/tmp')}/forced".encode()  # noqa: S108  a name, never made
SECONDS = 50.0
Try: TypeAlias = Callable[[], Awaitable[str]]


@dataclass(slots=True)
class Evil:
    """Everything that the broker has, and a key of its own."""

    house: House
    login: str
    tenant: TenantId
    asks: Target
    free: Target
    seen: ActionRecord
    """A record that a person approved, and that was used."""
    yes: tuple[bytes, ...]
    fresh: ActionRecord
    """A record that a person approved for a command, and that was never used."""
    fresh_yes: tuple[bytes, ...]
    old: ActionRecord
    """A record that a person approved half an hour ago, and that was never used."""
    old_yes: tuple[bytes, ...]
    key: asyncssh.SSHKey
    """An approval key that it made itself."""

    # ---- what it can make
    def record(self, command: bytes, target: Target, level: str, **changes: object) -> ActionRecord:
        """A record of its own, as good as it can make one."""
        made = replace(
            self.seen, action_id=ids.render("action", os.urandom(16)), target_id=target.id, command=command, cwd="",
            env={}, pty=False, stdin_mode="none", stdin_sha256=b"", command_class=level, opaque=False, tier=target.tier,
            login=self.login, not_after=self.house.clock.now() + timedelta(minutes=30),
            nonce=timed_nonce(self.house.clock.now(), os.urandom(12)),
        )  # fmt: skip
        return replace(made, **changes)  # type: ignore[arg-type]

    def spec(self, record: ActionRecord, *, forced: str | None = None, key_id: str = "") -> CertSpec:
        text = force_command(record.command, cwd=record.cwd, env=record.env, seconds=SECONDS)
        return egress_spec(
            grant=GrantId(key_id or ids.render("grant", os.urandom(16))),
            serial=int.from_bytes(os.urandom(8), "big") | 1,
            principal=principal_of(TenantId(record.tenant), TargetId(record.target_id), record.login),
            source_address="127.0.0.1", force_command=text if forced is None else forced, permit_pty=record.pty,
            now=self.house.clock.now(), not_after=record.not_after,
        )  # fmt: skip

    def own(self, message: bytes, namespace: str = APPROVAL_NAMESPACE) -> bytes:
        """Its own key's signature."""
        return _sign(self.key, message, namespace)

    async def asked(
        self, record: ActionRecord, *signatures: bytes, spec: CertSpec | None = None, raw: bytes | None = None
    ) -> str:
        """What the signer says to it: the rule that refuses, or nothing where it signed."""
        try:
            await self.certificate(record, *signatures, spec=spec, raw=raw)
        except Fault as fault:
            return fault.what
        return ""

    async def certificate(
        self, record: ActionRecord, *signatures: bytes, spec: CertSpec | None = None, raw: bytes | None = None
    ) -> tuple[asyncssh.SSHKey, bytes]:
        """A key and the certificate over it."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        message = record.encoded() if raw is None else raw
        proof = Proof(record=message, signatures=signatures)
        return key, await self.house.signer.sign_ssh(spec or self.spec(record), key.public_data, proof)

    # ---- what it tries
    async def enrols_itself(self) -> str:
        """A person of its own in the broker's store, an owner, who then approves."""
        mine = parse_blob(self.key.public_data).line()
        row = Identity(
            tenant=self.tenant, id=IdentityId(ids.render("person", os.urandom(16))), kind=IdentityKind.PERSON,
            name="mallory", role=Role.OWNER, owner=None, teams=frozenset(), status=IdentityStatus.ACTIVE, key=b"k" * 32,
            approval_keys=(mine,), created_at=self.house.clock.now(),
        )  # fmt: skip
        await self.house.store.run(self.tenant, lambda tx: tx.identities.put(row))
        record = self.record(INSTALL, self.asks, "install")
        return await self.asked(record, self.own(record.encoded()))

    async def learns(self, subject: str, content: Person | Machine | Glass, *, fresh: bool, tenant: str = "") -> str:
        """A statement signed by itself."""
        now, known = self.house.clock.now(), b""
        if not fresh:
            known = await self.house.signer.believed(self.tenant, subject)
        before = read_statement(known) if known else None
        said = Statement(
            tenant=TenantId(tenant or self.tenant), subject=subject, revision=before.revision + 1 if before else 1,
            previous=before.sha256() if before else b"", content=content, at=now,
        )  # fmt: skip
        try:
            await self.house.signer.learn(said.encoded(), (self.own(said.encoded(), TRUST_NAMESPACE),))
        except Fault as fault:
            return fault.what
        return ""

    async def rotates(self, *, signed: bool) -> str:
        """The next key of the CA that every target believes."""
        known = await self.house.signer.believed(self.tenant, subject_of(Ca.EGRESS))
        before, told = read_statement(known) if known else None, await self.house.signer.generations(Ca.EGRESS)
        said = Statement(
            tenant=self.tenant, subject=subject_of(Ca.EGRESS), revision=before.revision + 1 if before else 1,
            previous=before.sha256() if before else b"", at=self.house.clock.now(),
            content=Rotation(ca=Ca.EGRESS, step=Step.START, number=told[-1].number + 1, forced=True),
        )  # fmt: skip
        mine = (self.own(said.encoded(), TRUST_NAMESPACE),) if signed else ()
        try:
            await self.house.signer.rotate(Ca.EGRESS, said.encoded(), mine)
        except Fault as fault:
            return fault.what
        return ""

    async def replays_a_statement(self) -> str:
        """What an owner really signed of another target, as it stands: nothing changes by it."""
        known = await self.house.signer.believed(self.tenant, self.free.id)
        moved = replace(read_statement(known), subject=self.asks.id)
        try:
            await self.house.signer.learn(moved.encoded(), ())
        except Fault as fault:
            return fault.what
        return ""

    def machine(self, target: Target, tier: Tier) -> Machine:
        return Machine(
            name=target.name, tier=tier, host_key=self.seen.host_key, logins=target.logins, seal_reads=False, quorum={}
        )

    def install(self, **changes: object) -> ActionRecord:
        """What the tier asks people about, in a record of its own."""
        return self.record(INSTALL, self.asks, "install", **changes)

    def tries(self) -> dict[str, Try]:
        """Every way to what nobody allowed."""
        return self._unsigned() | self._stretched() | self._misnamed() | self._stated()

    def _unsigned(self) -> dict[str, Try]:
        """With no approval, or with one of something else."""
        return {
            "install, no signature": lambda: self.asked(self.install()),
            "install, no record": lambda: self.asked(self.install(), raw=b""),
            "install, signed by a key of its own": lambda: _with(self, self.install()),
            "install, a key that it enrolled itself": self.enrols_itself,
            "install, the yes to another record": lambda: self.asked(self.install(), *self.yes),
            "install, the record of an approval that was used": lambda: self.asked(self.seen, *self.yes),
            "install, tier claimed looser": lambda: self.asked(self.install(tier=Tier.CLOSED_LOOP)),
            "install, class claimed lower": lambda: self.asked(self.install(command_class="read")),
            "install forced under the record of a read": lambda: self.asked(
                self.record(READ, self.asks, "read"), spec=self.spec(self.install())
            ),
        }  # fmt: skip

    def _stretched(self) -> dict[str, Try]:
        """With an approval, for more than it was given."""
        return {
            "install forced under an approved record": lambda: self.asked(
                self.fresh, *self.fresh_yes, spec=self.spec(replace(self.fresh, command=INSTALL))
            ),
            "an approved record, no force-command": lambda: self.asked(
                self.fresh, *self.fresh_yes, spec=self.spec(self.fresh, forced="")
            ),
            "an approved record, another target": lambda: self.asked(
                self.fresh, *self.fresh_yes, spec=self.spec(replace(self.fresh, target_id=self.free.id))
            ),
            "an approved record, moved to another target": lambda: self.asked(
                replace(self.fresh, target_id=self.free.id), *self.fresh_yes
            ),
            "an approved record, another login": lambda: self.asked(
                replace(self.fresh, login="root2"), *self.fresh_yes
            ),
            "an approved record, with a terminal": lambda: self.asked(
                self.fresh, *self.fresh_yes, spec=replace(self.spec(self.fresh), permit_pty=True)
            ),
            "an approval from half an hour ago": lambda: self.asked(self.old, *self.old_yes),
        }  # fmt: skip

    def _misnamed(self) -> dict[str, Try]:
        """With claims under which no approval would be needed."""
        write, unnamed = self.record(WRITE, self.free, "write"), ids.render("target", os.urandom(16))
        return {
            "a tenant of its own": lambda: self.asked(self.install(tenant="evil")),
            "a target that nobody named": lambda: self.asked(self.install(target_id=unnamed)),
            "a write where the tier asks": lambda: self.asked(self.record(WRITE, self.asks, "write")),
            "an opaque script, called clear": lambda: self.asked(self.record(b"./x.sh", self.free, "execute")),
            "no force-command for a write": lambda: self.asked(write, spec=self.spec(write, forced="")),
            "a check's certificate with a command": lambda: self.asked(
                self.install(), spec=self.spec(self.install(), forced="id", key_id=self.asks.id)
            ),
        }  # fmt: skip

    def _stated(self) -> dict[str, Try]:
        """By telling the signer what to believe."""
        me = Person(name="mallory", role=Role.OWNER, active=True, keys=(parse_blob(self.key.public_data).line(),))
        mallory = ids.render("person", b"mallory-mallory-")
        return {
            "an owner of its own": lambda: self.learns(mallory, me, fresh=True),
            "the first owner of a tenant of its own": lambda: self.learns(mallory, me, fresh=True, tenant="evil"),
            "a looser tier": lambda: self.learns(
                self.asks.id, self.machine(self.asks, Tier.CLOSED_LOOP), fresh=False
            ),
            "another key for a CA, no signature": lambda: self.rotates(signed=False),
            "another key for a CA, signed by itself": lambda: self.rotates(signed=True),
            "an owner's statement of another target": self.replays_a_statement,
        }  # fmt: skip

    def may(self) -> dict[str, Try]:
        """What a taken-over broker can have signed: the limit, said out loud."""
        read, write = self.record(READ, self.asks, "read"), self.record(WRITE, self.free, "write")
        return {
            "a read on any target": lambda: self.asked(read),
            "an open connection for reads, as the login that reads are for": lambda: self.asked(
                self.record(READ, self.asks, "read"), spec=self.spec(read, forced="")
            ),
            "a write where the tier lets writes run": lambda: self.asked(write),
            "what a person approved and nobody ran yet, once": lambda: self.asked(self.fresh, *self.fresh_yes),
        }

    def files(self, signer: Path) -> dict[str, str]:
        """What of the signer's own it can open: the error's name, or nothing where it could."""
        places = [signer / "egress.key", signer / "trust.jsonl", signer / "journal.key", signer]
        return {f"opens {place.name}": _opened(place) for place in places}


def _sign(key: asyncssh.SSHKey, message: bytes, namespace: str) -> bytes:
    return asyncssh.create_sshsig(key, message, hash_name="sha512", namespace=namespace, raw=True)


async def _with(evil: Evil, record: ActionRecord) -> str:
    return await evil.asked(record, evil.own(record.encoded()))


def _opened(place: Path) -> str:
    try:
        os.close(os.open(place, os.O_RDONLY))
    except OSError as error:
        return type(error).__name__
    return ""


async def _approved(house: House, tenant: TenantId) -> tuple[ActionRecord, tuple[bytes, ...]]:
    """An approved action that ran, from the store: its record and the yeses."""
    name = ActionId(os.environ["EVIL_ACTION"])

    def unit(tx: Tx) -> tuple[ActionRecord, tuple[bytes, ...]]:
        action = tx.actions.get(name)
        assert action is not None
        assert action.session_id is not None
        return action.record(), tuple(yes.signature for yes in tx.approvals.of(Subject.ACTION, name))

    return await house.store.read(tenant, unit)


async def _target(house: House, tenant: TenantId, name: str) -> Target:
    found = await house.store.read(tenant, lambda tx: tx.targets.by_name(name))
    assert found is not None
    return found


async def main(config: Path, login: str) -> None:
    """Takes the broker over and prints what came of it."""
    settings = Settings.load(config)
    async with AsyncExitStack() as stack:
        house = House(settings, stack)
        await house.build()
        tenant = TenantId(settings.tenant)
        asks, free = await _target(house, tenant, ASKS), await _target(house, tenant, FREE)
        seen, yes = await _approved(house, tenant)
        evil = Evil(
            house=house, login=login, tenant=tenant, asks=asks, free=free, seen=seen, yes=yes, fresh=seen,
            fresh_yes=(), old=seen, old_yes=(), key=asyncssh.generate_private_key("ssh-ed25519"),
        )  # fmt: skip
        evil.fresh = evil.record(b"touch /tmp/left", asks, "write")
        # the one thing that a person did here: looked at this very record, and said yes
        person = asyncssh.read_private_key(os.environ["EVIL_APPROVER"])
        evil.fresh_yes = (_sign(person, evil.fresh.encoded(), APPROVAL_NAMESPACE),)
        earlier = timed_nonce(house.clock.now() - timedelta(minutes=30), os.urandom(12))
        evil.old = replace(evil.fresh, nonce=earlier)
        evil.old_yes = (_sign(person, evil.old.encoded(), APPROVAL_NAMESPACE),)
        await _show(evil, settings)


def _say(what: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _show(evil: Evil, settings: Settings) -> None:
    glass = EvilGlass.of(evil, Path(os.environ["EVIL_GLASS"]))
    hour = glass.record()
    kept = {"what a sealed key said yes to in its hour, once": lambda: glass.approved(hour)}
    for kind, ways in (("try", evil.tries() | glass.tries()), ("may", evil.may() | kept)):
        for name, way in ways.items():
            _say({"kind": kind, "name": name, "told": await way()})
    again = await evil.asked(evil.fresh, *evil.fresh_yes)
    _say({"kind": "try", "name": "the same approval a second time", "told": again})
    _say({"kind": "try", "name": "glass: the same yes a second time", "told": await glass.approved(hour)})
    for name, told in evil.files(settings.signer_directory).items():
        _say({"kind": "file", "name": name, "told": told})
    write = evil.record(WRITE, evil.free, "write")
    key, certificate = await evil.certificate(write)
    folder = Path(os.environ["EVIL_FOLDER"])
    key.write_private_key(str(folder / "key"))
    (folder / "key").chmod(0o600)
    line = "ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(certificate).decode()
    (folder / "key-cert.pub").write_text(line + "\n")
    _say({"kind": "certificate", "name": "a write", "told": ""})


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
