"""What the signer believes beside what the broker has: the statement of a change on its way, and where they differ.

The broker only carries statements. It refuses one that says another thing than the change that it came with, so that
the two never part by accident; whether it counts is the signer's to say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from broker.core.errors import SignerRefused, conflict, forbidden, invalid
from broker.core.events import AuditEvent
from broker.core.identity import Caller, Identity, IdentityKind, IdentityStatus, Target
from broker.core.ids import IdentityId, TargetId, TenantId
from broker.core.kinds import TargetKind
from broker.core.roles import Permission, holds
from broker.core.statement import (
    PROGRAMS,
    Content,
    Glass,
    Machine,
    NotAStatement,
    Person,
    Programs,
    Rotation,
    Statement,
    content_bytes,
    read_statement,
)
from broker.core.trust import SECOND
from broker.service.lookup import host_key_sha256
from broker.service.ports import Tx
from broker.service.stepup import Change, signed_by
from broker.service.world import World

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """One subject on both sides."""

    subject: str
    name: str
    statement: bytes
    """The newest; empty = none."""
    content: bytes
    """What the broker has, as a statement would say it; empty where it has no such thing."""

    @property
    def same(self) -> bool:
        """Whether both say the same."""
        return bool(self.statement) and content_bytes(read_statement(self.statement).content) == self.content


class _Undone(Exception):
    """Takes a trial back."""


async def tried(world: World, tenant: TenantId, unit: Callable[[Tx], T]) -> T:
    """Runs a unit and takes it back: what it would refuse, it refuses before the signer is told anything."""
    made: list[T] = []

    def undone(tx: Tx) -> T:
        made.append(unit(tx))
        raise _Undone

    with contextlib.suppress(_Undone):
        await world.store.run(tenant, undone)
    return made[-1]


async def believe(world: World, change: Change, *, tenant: TenantId, subject: str, content: Content) -> None:
    """Hands the statement of a change to the signer; nothing where it has none.

    Raises:
        Refusal: `bad_statement`, `trust_refused`, `second_person_needed`.
    """
    if change.trust:
        must_say(change, tenant=tenant, subject=subject, content=content)
        await told(world, change)


def must_say(change: Change, *, tenant: TenantId, subject: str, content: Content) -> None:
    """Raises Refusal `bad_statement` unless the statement of a change says what the change says."""
    said = _read(change.trust)
    if isinstance(content, Machine) and isinstance(said.content, Machine):
        content = _with_quorum(content, said.content)
    if (said.tenant, said.subject, said.content) != (tenant, subject, content):
        raise invalid("bad_statement", "the statement for the signer says another thing than the change")


async def told(world: World, change: Change) -> None:
    """Hands the statement of a change to the signer, and turns its no into a refusal."""
    with refusing():
        await world.signer.learn(change.trust, signatures_of(change))


def signatures_of(change: Change) -> tuple[bytes, ...]:
    """Everybody's signature over the statement of a change."""
    return tuple(one.trust_signature for one in change.step_ups if one.trust_signature)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """The signer's no to a statement, as a refusal: `second_person_needed`, `trust_refused`."""
    try:
        yield
    except SignerRefused as refused:
        if refused.what.endswith(SECOND):
            message = "this change needs a second person's signature"
            raise forbidden("second_person_needed", message, "have a colleague sign it") from refused
        raise conflict("trust_refused", refused.what, "look at grantctl trust list, and sign it anew") from refused


def person_of(row: Identity) -> Person:
    """A row as a statement says it."""
    active = row.status is not IdentityStatus.SUSPENDED
    return Person(name=row.name, role=row.role, active=active, keys=row.approval_keys)


def first_statement(owner: Identity, now: datetime) -> Statement:
    """What a tenant's first Owner says of themselves."""
    return Statement(tenant=owner.tenant, subject=owner.id, revision=1, previous=b"", content=person_of(owner), at=now)


def machine_of(row: Target) -> Machine:
    """A row as a statement says it; the least numbers of people are the signer's alone."""
    return Machine(
        name=row.name, tier=row.tier, host_key=host_key_sha256(row), logins=row.logins, seal_reads=row.seal_reads,
        quorum={},
    )  # fmt: skip


def programs_of(sources: dict[str, str]) -> Programs:
    """A policy's own programs."""
    return Programs(texts={name: text for name, text in sources.items() if name.endswith(".toml")})


class TrustService:
    """GetTrust, PutTrust."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def beliefs(self, caller: Caller, subjects: Sequence[str]) -> Sequence[Belief]:
        """What the signer believes, beside what the broker has; of everything where no subject is named."""
        had = await self._world.store.read(caller.tenant, lambda tx: self._had(tx, subjects))
        return [
            Belief(
                subject=subject,
                name=name,
                statement=(statement := await self._world.signer.believed(caller.tenant, subject)),
                content=_content_of(content, statement),
            )
            for subject, name, content in had
        ]

    async def put(self, caller: Caller, change: Change) -> bytes:
        """Hands over a statement that no other change carries; its SHA-256."""
        said, now = _read(change.trust), self._world.instant().wall
        permission = _permission(said)
        if said.tenant != caller.tenant or not holds(caller.role, permission):
            raise forbidden("not_permitted", "your role may not do this", "ask an owner")

        def unit(tx: Tx) -> None:
            signed_by(tx, caller, change, permission=permission, second=False, now=now)
            facts: dict[str, str | int] = {
                "subject": said.subject,
                "revision": said.revision,
                "digest": said.sha256().hex(),
            }
            tx.audit.append(
                AuditEvent(tenant=caller.tenant, name="trust.stated", actor=caller.identity, facts=facts), now
            )

        await tried(self._world, caller.tenant, unit)
        await told(self._world, change)
        await self._world.store.run(caller.tenant, unit)
        return said.sha256()

    def _had(self, tx: Tx, subjects: Sequence[str]) -> list[tuple[str, str, Content | None]]:
        wanted = subjects or _everything(tx)
        return [(subject, *self._one(tx, subject)) for subject in wanted]

    def _one(self, tx: Tx, subject: str) -> tuple[str, Content | None]:
        person = tx.identities.get(IdentityId(subject))
        if person is not None and person.kind is IdentityKind.PERSON:
            return person.name, person_of(person)
        target = tx.targets.get(TargetId(subject))
        if target is not None and target.kind is TargetKind.SSH:
            return target.name, machine_of(target)
        if subject == PROGRAMS:
            return PROGRAMS, Programs(texts=self._world.policies.in_force(tx).programs)
        return "", None


def _everything(tx: Tx) -> list[str]:
    people = sorted((i for i in tx.identities.all() if i.kind is IdentityKind.PERSON), key=lambda row: row.name)
    targets = sorted((t for t in tx.targets.all() if t.kind is TargetKind.SSH), key=lambda row: row.name)
    return [*(row.id for row in people), *(row.id for row in targets), PROGRAMS]


def _content_of(content: Content | None, statement: bytes) -> bytes:
    if content is None:
        return b""
    said = read_statement(statement).content if statement else None
    if isinstance(content, Machine) and isinstance(said, Machine):
        content = _with_quorum(content, said)
    return content_bytes(content)


def _with_quorum(content: Machine, said: Machine) -> Machine:
    return Machine(
        name=content.name, tier=content.tier, host_key=content.host_key, logins=content.logins,
        seal_reads=content.seal_reads, quorum=said.quorum,
    )  # fmt: skip


def _permission(said: Statement) -> Permission:
    match said.content:
        case Person():
            return Permission.PERSON_WRITE
        case Machine():
            return Permission.TARGET_WRITE
        case Programs():
            return Permission.POLICY_WRITE
        case Glass():
            # one comes with MakeBreakGlass alone, whose rules are more than a role's
            raise invalid("bad_statement", "a sealed credential is made with its own change", "use break-glass make")
        case Rotation():
            raise invalid("bad_statement", "a rotation is asked for with its own change", "use grantctl ca rotate")


def _read(data: bytes) -> Statement:
    try:
        return read_statement(data)
    except NotAStatement as error:
        raise invalid(
            "bad_statement", "this is not a statement for the signer", "use grantctl of this version"
        ) from error
