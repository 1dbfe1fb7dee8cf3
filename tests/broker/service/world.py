"""The use cases over a real store, recorder, policy and live registry, under clocks that tests move.

Two ports have stand-ins: targets (fake_targets.py, which holds the contract of every Targets) and the signer, which
signs with the signer's own code in this process. Store and recorder can be told to fail.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, select

from broker.adapters.audit_log.health import LogHealth
from broker.adapters.audit_log.reading import SqlAuditLog
from broker.adapters.audit_log.signing import Keyring
from broker.adapters.freeze_spool import FreezeFiles
from broker.adapters.issuers.secret import SecretIssuer
from broker.adapters.store.audit import AuditRowsSql
from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.schema import audit_pending
from broker.adapters.store.store import SqlStore
from broker.adapters.store.tx import RowSource
from broker.adapters.tokens import JwtTokens
from broker.adapters.uploads import UploadKey
from broker.adapters.vault import SealingKey, Vault
from broker.adapters.xaes import Key
from broker.core.action import Action, StdinMode
from broker.core.approval import Verdict
from broker.core.clock import micros
from broker.core.errors import Refusal
from broker.core.grant import Grant
from broker.core.identity import Identity, IdentityKind, IdentityStatus, Login, Target, Team
from broker.core.ids import GrantId, IdentityId, TargetId, TeamId, TenantId, render
from broker.core.kinds import SshSettings, TargetKind
from broker.core.records import APPROVAL_NAMESPACE, CHANGE_NAMESPACE, change_record, denial_record
from broker.core.request import AccessRequest
from broker.core.roles import Role
from broker.core.secret import Secret
from broker.core.sshwire import ed25519_blob, parse_blob
from broker.service.access import Wish
from broker.service.approval import Pending, Standing, Vote
from broker.service.ends import Ends
from broker.service.leases import Leases
from broker.service.live import LiveRegistry
from broker.service.policies import Policies
from broker.service.ports import AuditRows, Entropy
from broker.service.propose import CommandInput, Proposal
from broker.service.start import Ticket
from broker.service.stepup import Change, StepUp
from broker.service.use_cases import UseCases
from broker.service.wake import Bell
from broker.service.watch import Watch
from broker.service.world import Limits, Places, World
from policy.classes import CommandClass, Tier
from recorder.codes import BY_NAME
from recorder.entry import parse_entry
from recorder.store.files import FileRecordingStore
from recorder.writer import RecorderThread
from tests.broker.adapters.store.fixtures import NOW, TENANT, open_sqlite
from tests.broker.service.by_hand import CountedEntropy, Counts, HandClock
from tests.broker.service.failing_store import FailingStore, SwitchedAudit
from tests.broker.service.fake_issuers import FakeIssuer
from tests.broker.service.fake_targets import FakeTargets
from tests.broker.service.key_signer import KeySigner, ca_keys
from tests.broker.service.somebody import Somebody, spki_sha256
from tests.broker.service.terminal import Terminal
from tests.broker.service.watched import WatchedRecordings
from tests.pace import Since

READ: Final = b"uname -a"
WRITE: Final = b"touch /srv/app/flag"
EXECUTE: Final = b"systemctl restart nginx"
HANG: Final = b"sleep 300"
FLOOD: Final = b"cat /dev/zero"
NAME_OF: Final = {spec.code: name for name, spec in BY_NAME.items()}
PLACES: Final = Places(
    grpc="broker.example:7443", join="broker.example:7444", freeze="broker.example:7445",
    gateway="broker.example:2222",
    gateway_names=("broker.example",),
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class House:
    """A broker without doors: one team, `ops`, one target, `web1`, and whoever a test adds."""

    world: World
    cases: UseCases
    clock: HandClock
    store: FailingStore
    targets: FakeTargets
    recordings: WatchedRecordings
    recorder: RecorderThread
    signer: KeySigner
    meter: Counts
    health: LogHealth
    folder: Path
    rows: Callable[[Connection, TenantId], KeyRowsSql]
    audit_fails: bool = False
    """Audit rows cannot be written: then nothing else may be either."""
    web1: Target = field(init=False)
    _keys: itertools.count[int] = field(default_factory=itertools.count)

    # ---- who and what there is

    async def inhabit(self) -> None:
        """The team and the target."""
        await self.put_team("ops")
        self.web1 = await self.put_target("web1")

    async def put_team(self, name: str) -> None:
        await self.store.run(TENANT, lambda tx: tx.teams.put(Team(tenant=TENANT, id=team_id(name), name=name)))

    async def put_target(
        self, name: str, *, tier: Tier = Tier.APPROVAL, teams: Sequence[str] = ("ops",), host: str = "192.0.2.1"
    ) -> Target:
        """A target behind the services' back."""
        host_key = parse_blob(ed25519_blob(hashlib.sha256(name.encode()).digest())).line()
        made = Target(
            tenant=TENANT, id=TargetId(render("target", hashlib.md5(name.encode()).digest())), name=name, host=host,  # noqa: S324
            port=22, host_key=host_key, tier=tier, teams=frozenset(map(team_id, teams)), labels={},
            logins=(Login(name="deploy", read_login="reader"),), seal_reads=False, source_address="",
            settings=SshSettings(krl_login=""), created_at=NOW,
        )  # fmt: skip
        await self.change_target(made)
        return made

    async def change_target(self, target: Target) -> None:
        await self.store.run(TENANT, lambda tx: tx.targets.put(target))

    async def add(
        self, name: str, role: Role = Role.AGENT, *, teams: Sequence[str] = ("ops",), owner: Somebody | None = None
    ) -> Somebody:
        """An ACTIVE identity."""
        kind = IdentityKind.AGENT if role is Role.AGENT else IdentityKind.PERSON
        seed = hashlib.sha256(f"{kind} {name}".encode()).digest()
        tls, approval = ec.generate_private_key(ec.SECP256R1()), Ed25519PrivateKey.from_private_bytes(seed)
        line = parse_blob(ed25519_blob(approval.public_key().public_bytes_raw())).line()
        row = Identity(
            tenant=TENANT, id=IdentityId(render(kind, seed[:16])), kind=kind, name=name, role=role,
            owner=owner.id if owner else None, teams=frozenset(map(team_id, teams)), status=IdentityStatus.ACTIVE,
            key=spki_sha256(tls), approval_keys=(line,) if kind is IdentityKind.PERSON else (), created_at=NOW,
        )  # fmt: skip
        await self.put(row)
        return Somebody(row=row, approval=approval, tls=tls)

    async def put(self, row: Identity) -> None:
        """Rewrites a row behind the services' back, as another broker would."""
        await self.store.run(TENANT, lambda tx: tx.identities.put(row))

    # ---- acts, shortly

    def key(self) -> str:
        """An idempotency key that was not used yet."""
        return f"key-{next(self._keys)}"

    def wish(self, **changed: object) -> Wish:
        """One hour of `deploy` on web1, up to execute."""
        given = Wish(
            idempotency_key=self.key(), target="web1", login="deploy", ceiling=CommandClass.EXECUTE, flags=frozenset(),
            ttl=timedelta(hours=1), reason="deploy", ticket="", evidence="",
        )  # fmt: skip
        return replace(given, **changed)  # type: ignore[arg-type]

    async def granted(self, agent: Somebody, **changed: object) -> GrantId:
        """A grant that policy gives an agent unattended."""
        request = await self.cases.access.request(agent.caller, self.wish(**changed))
        assert request.grant_id is not None
        return request.grant_id

    async def propose(self, who: Somebody, grant: GrantId, line: bytes = WRITE, **given: object) -> Proposal:
        """A command over gRPC; fields of CommandInput, `idempotency_key` and `reason` may be given."""
        key, reason = str(given.pop("idempotency_key", self.key())), str(given.pop("reason", ""))
        command = CommandInput(line=line, cwd="", env={}, stdin_mode=StdinMode.NONE, stdin=b"", pty=False)
        command = replace(command, **given)  # type: ignore[arg-type]
        return await self.cases.propose.propose(
            who.caller, grant, command, idempotency_key=key, reason=reason, door="grpc"
        )

    def vote(self, who: Somebody, subject: Action | AccessRequest, verdict: Verdict = Verdict.APPROVE) -> Vote:
        """A good vote by a person's own key."""
        record = subject.record().encoded()
        message = record if verdict is Verdict.APPROVE else denial_record(record)
        return Vote(
            id=subject.id, verdict=verdict, digest=subject.digest(), note="",
            signature=who.sign(APPROVAL_NAMESPACE, message),
        )  # fmt: skip

    async def decide(
        self, who: Somebody, subject: Action | AccessRequest, verdict: Verdict = Verdict.APPROVE
    ) -> Standing:
        return await self.cases.approval.decide(who.caller, self.vote(who, subject, verdict))

    async def started(self, agent: Somebody, grant: GrantId, line: bytes, *approvers: Somebody) -> Ticket:
        """A ticket for a command, after all the yes that it needs."""
        proposal = await self.propose(agent, grant, line)
        for approver in approvers:
            await self.decide(approver, proposal.action)
        return proposal.ticket or await self.cases.starting.start(agent.caller, proposal.action.id, door="grpc")

    def terminal(self, *typed: bytes) -> Terminal:
        return Terminal(self.targets.journal, typed)

    async def run(self, ticket: Ticket, terminal: Terminal | None = None) -> Action:
        shown = terminal or self.terminal()
        return await self.cases.run.run(ticket, shown, shown)

    @asynccontextmanager
    async def running(self, *tickets: Ticket) -> AsyncIterator[list[asyncio.Task[Action]]]:
        """Commands that run on their targets; every one must have ended within five seconds of the block's end."""
        already = len(self.targets.processes)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.run(ticket)) for ticket in tickets]
            await until(lambda: len(self.targets.processes) == already + len(tickets))
            yield tasks
            async with asyncio.timeout(5):
                await asyncio.wait(tasks)

    def change(self, method: str, payload: bytes, *signers: Somebody, age_s: float = 0.0) -> Change:
        """A change with a fresh signature of each signer."""
        signed = [self.step_up(who, method, payload, age_s=age_s) for who in signers]
        return Change(method=method, payload=payload, step_ups=signed)

    def step_up(self, who: Somebody, method: str, payload: bytes, *, age_s: float = 0.0) -> StepUp:
        at, nonce = self.clock.now() - timedelta(seconds=age_s), self.world.entropy.token(16)
        record = change_record(
            tenant=TENANT, person=who.id, method=method, payload_sha256=hashlib.sha256(payload).digest(), at=at,
            nonce=nonce,
        )  # fmt: skip
        return StepUp(person=who.id, signed_at_us=micros(at), nonce=nonce, signature=who.sign(CHANGE_NAMESPACE, record))

    @asynccontextmanager
    async def restarted(self) -> AsyncIterator[House]:
        """Another broker over the same store and files, after this one died without a word."""
        self.recorder.close()
        recorder = RecorderThread()
        recorder.start()
        fakes = (self.clock, self.world.entropy, self.meter, FakeTargets())
        after = _house(self.folder, self.store.inner, self.rows, fakes, recorder, self.world.limits)
        try:
            yield after
        finally:
            recorder.close()

    # ---- what there is to see

    async def grant(self, grant: GrantId) -> Grant:
        found = await self.store.inner.read(TENANT, lambda tx: tx.grants.get(grant))
        assert found is not None
        return found

    async def action(self, action: Action) -> Action:
        found = await self.store.inner.read(TENANT, lambda tx: tx.actions.get(action.id))
        assert found is not None
        return found

    async def request(self, request: AccessRequest) -> AccessRequest:
        found = await self.store.inner.read(TENANT, lambda tx: tx.requests.get(request.id))
        assert found is not None
        return found

    async def pending_of(self, who: Somebody) -> list[Pending]:
        return list(await self.cases.approval.pending(who.caller))

    async def events(self, tenant: TenantId = TENANT) -> list[str]:
        """Names of the tenant's audit events, in the order they were written."""
        return [NAME_OF[_code(entry)] for entry in await self._waiting_entries(tenant)]

    async def entries(self, name: str, tenant: TenantId = TENANT) -> list[Mapping[str, object]]:
        """What the entries of one event say in clear, in the order they were written."""
        waiting = await self._waiting_entries(tenant)
        return [parse_entry(entry).fields for entry in waiting if NAME_OF[_code(entry)] == name]

    async def _waiting_entries(self, tenant: TenantId) -> list[bytes]:
        query = select(audit_pending.c.entry).where(audit_pending.c.tenant == tenant).order_by(audit_pending.c.id)
        return await self.store.inner.read_sql(tenant, lambda conn: list(conn.execute(query).scalars()))


def team_id(name: str) -> TeamId:
    """The id of a team, by its name."""
    return TeamId(render("team", hashlib.md5(name.encode()).digest()))  # noqa: S324  an id, no protection


async def until(true: Callable[[], bool], within_s: float = 5.0) -> None:
    """Returns once `true()`; fails the test if that takes too long."""
    since = Since()
    while not true():
        assert since.s() < within_s, "it never came true"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def watching(house: House, who: Somebody, ticket: Ticket, *, only_look: bool = False) -> AsyncIterator[Watch]:
    """A session that somebody watches."""
    async with house.cases.watch.watching(who.caller, ticket.session.id, "a test", only_look=only_look) as watch:
        yield watch


async def refused(attempt: Awaitable[object]) -> str:
    """The code of the Refusal that it raises; fails the test if it raises none."""
    try:
        await attempt
    except Refusal as refusal:
        return refusal.code
    raise AssertionError("nothing was refused")


@asynccontextmanager
async def opened(folder: Path, *, limits: Limits | None = None) -> AsyncIterator[House]:
    """A house in `folder`; opened a second time there, the broker has been restarted."""
    async with AsyncExitStack() as stack:
        made: list[House] = []
        clock, entropy, meter, targets = HandClock(), CountedEntropy(), Counts(), FakeTargets()
        vault = Vault(SealingKey("rk_test", Key(bytearray(hashlib.sha256(b"root").digest()))))

        def keys(conn: Connection, tenant: TenantId) -> KeyRowsSql:
            return KeyRowsSql(conn, tenant, vault)

        def audit(conn: Connection, tenant: TenantId) -> AuditRows:
            rows = AuditRowsSql(
                connection=conn, tenant=tenant, broker="b1", entropy=entropy, sealer=keys(conn, tenant),
                noted=lambda _: None,
            )  # fmt: skip
            return SwitchedAudit(lambda: made[0].audit_fails, rows)

        inner = await open_sqlite(folder, source=RowSource(keys=keys, audit=audit))
        stack.push_async_callback(inner.close)
        recorder = RecorderThread()
        recorder.start()
        stack.callback(recorder.close)
        made.append(_house(folder, inner, keys, (clock, entropy, meter, targets), recorder, limits or Limits()))
        await made[0].inhabit()
        yield made[0]


def _house(
    folder: Path,
    inner: SqlStore,
    keys: Callable[[Connection, TenantId], KeyRowsSql],
    fakes: tuple[HandClock, Entropy, Counts, FakeTargets],
    recorder: RecorderThread,
    limits: Limits,
) -> House:
    clock, entropy, meter, targets = fakes
    files = folder / "recordings"
    files.mkdir(mode=0o700, exist_ok=True)
    store, health = FailingStore(inner), LogHealth(clock=clock, meter=meter)
    recordings = WatchedRecordings(FileRecordingStore(files, recorder, floor_bytes=0), targets.journal)
    signer = KeySigner(ca_keys(), clock)
    signer.store = inner
    world = World(
        store=store, clock=clock, entropy=entropy, signer=signer, targets=targets, recordings=recordings,
        issuers={
            TargetKind.POSTGRES: FakeIssuer(), TargetKind.SECRET: SecretIssuer(store=store, clock=clock),
        },
        uploads=UploadKey(),
        tokens=JwtTokens(Secret(hashlib.sha256(b"token").digest()), issuer="grantd.example/c1", kid="t1"), meter=meter,
        audit_health=health, freezes=FreezeFiles(folder / "freezes"),
        live=LiveRegistry(), leases=Leases(), ends=Ends(), policies=Policies(), bell=Bell(),
        limits=limits, places=PLACES, operators=TENANT,
    )  # fmt: skip
    log = SqlAuditLog(store=inner, openers=keys, keyring=Keyring(), recordings=files)
    return House(
        world=world, cases=UseCases.over(world, log), clock=clock, store=store, targets=targets,
        recordings=recordings, recorder=recorder, signer=signer, meter=meter, health=health, folder=folder, rows=keys,
    )  # fmt: skip


def _code(entry: bytes) -> str:
    return str(json.loads(entry)["code"])
