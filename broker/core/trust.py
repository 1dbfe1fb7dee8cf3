"""Whom and what the signer believes, and what it takes to change that (I-12, I-17, I-43). Never signs or writes.

Everything in the book came in as a statement under somebody's own signature, and was admitted by these rules; loading
the book admits every statement again, so that a file that somebody else wrote is refused at the next start.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from broker.core.errors import Fault
from broker.core.ids import TenantId
from broker.core.roles import RANK, Permission, Role, holds
from broker.core.sshsig import BadSignature, parse, verify
from broker.core.statement import (
    PROGRAMS,
    TRUST_NAMESPACE,
    Content,
    Glass,
    Machine,
    Person,
    Programs,
    Rotation,
    Statement,
)
from policy.classes import Tier, is_looser

FRESH: Final = timedelta(minutes=11)
"""How old a statement may be when it comes in: a second person's ten minutes, and the way."""
AHEAD: Final = timedelta(minutes=1)
MAX_SIGNERS: Final = 4
SEALED_FOR: Final = timedelta(days=366)
"""How long a sealed credential may lie at most."""
SECOND: Final = "signed by a second person, where there are two"
"""The one rule whose refusal somebody else can mend."""


class NotTrusted(Fault):
    """The statement is not taken; the phrase names the rule."""


@dataclass(slots=True)
class Book:
    """What is believed now: the newest statement of each subject."""

    _now: dict[tuple[TenantId, str], Statement] = field(default_factory=dict)
    _keys: dict[tuple[TenantId, str], str] = field(default_factory=dict)
    """Key line -> the one person whose it is."""
    _operators: TenantId | None = None
    """Whose first Owner was named first: the keys of the CAs are every tenant's, and theirs to rotate."""

    def current(self, tenant: TenantId, subject: str) -> Statement | None:
        """The newest statement about a subject."""
        return self._now.get((tenant, subject))

    def person(self, tenant: TenantId, person: str) -> Person | None:
        """Somebody, active or not."""
        found = self._content(tenant, person)
        return found if isinstance(found, Person) else None

    def machine(self, tenant: TenantId, target: str) -> Machine | None:
        """A target."""
        found = self._content(tenant, target)
        return found if isinstance(found, Machine) else None

    def programs(self, tenant: TenantId) -> Programs:
        """A tenant's own programs; none where nobody said any."""
        found = self._content(tenant, PROGRAMS)
        return found if isinstance(found, Programs) else Programs(texts={})

    def glass(self, tenant: TenantId, glass: str) -> Glass | None:
        """A sealed credential."""
        found = self._content(tenant, glass)
        return found if isinstance(found, Glass) else None

    def signer_of(self, tenant: TenantId, signature: bytes, message: bytes, namespace: str) -> str:
        """The id of the active person whose key made a signature. Raises BadSignature."""
        line = parse(signature).key.line()
        person = self._keys.get((tenant, line), "")
        known = self.person(tenant, person)
        if known is None or not known.active:
            raise BadSignature
        verify(signature, message, namespace, known.keys)
        return person

    def has(self, tenant: TenantId) -> bool:
        """Whether anything is known of a tenant."""
        return any(known == tenant for known, _ in self._now)

    def must_admit(self, statement: Statement, signatures: Sequence[bytes], *, at: datetime) -> None:
        """Raises NotTrusted, naming the rule, unless this may be said now."""
        before = self.current(statement.tenant, statement.subject)
        # (1) new, and the very next revision of its subject
        _require(-AHEAD <= at - statement.at <= FRESH, "signed in the last minutes")
        follows = (before.revision + 1, before.sha256()) if before else (1, b"")
        _require((statement.revision, statement.previous) == follows, "the next revision of its subject")
        # (2) about one thing under one name, for ever; a key is one person's
        self._must_be_the_same(statement, before)
        # (3) signed by people who may, two where it raises power and there are two
        signers = self._signers(statement, signatures)
        self._must_suffice(statement, before.content if before else None, signers)

    def must_begin(self, statement: Statement, signatures: Sequence[bytes]) -> None:
        """Raises NotTrusted unless this is a tenant's first statement: its first Owner, signed by that Owner's own key.

        Never from the socket: a broker could name itself an Owner where there is none yet.
        """
        first = statement.content
        _require(not self.has(statement.tenant), "the first of its tenant")
        owner = isinstance(first, Person) and first.role is Role.OWNER and first.active
        _require(owner and statement.revision == 1 and len(signatures) == 1, "an Owner, signed by themselves")
        assert isinstance(first, Person)  # noqa: S101  said above
        try:
            verify(signatures[0], statement.encoded(), TRUST_NAMESPACE, first.keys)
        except BadSignature as error:
            raise NotTrusted("statement refused: an Owner, signed by themselves") from error

    def _content(self, tenant: TenantId, subject: str) -> Content | None:
        found = self.current(tenant, subject)
        return found.content if found else None

    def take(self, statement: Statement) -> None:
        """Believes a statement that was let through."""
        self._now[statement.tenant, statement.subject] = statement
        self._operators = self._operators or statement.tenant
        if isinstance(statement.content, Person):
            for line in statement.content.keys:
                self._keys[statement.tenant, line] = statement.subject
        elif isinstance(statement.content, Glass):
            # its own, and nobody's: no person can take it for theirs, and it says yes to nothing but its own actions
            self._keys[statement.tenant, statement.content.key] = statement.subject

    def _must_be_the_same(self, statement: Statement, before: Statement | None) -> None:
        content = statement.content
        if isinstance(content, Programs):
            return
        if isinstance(content, Glass):
            self._must_be_sealed(statement, content, before)
            return
        if isinstance(content, Rotation):
            _require(statement.tenant == self._operators, "a key of the CAs is the first tenant's to rotate")
            return
        if before is not None:
            same = not isinstance(before.content, Programs | Glass | Rotation) and before.content.name == content.name
            _require(same, "a subject keeps its name")
        taken = any(
            type(other.content) is type(content) and getattr(other.content, "name", None) == content.name
            for (tenant, subject), other in self._now.items()
            if tenant == statement.tenant and subject != statement.subject
        )
        _require(not taken, "a name is one subject's")
        if isinstance(content, Person):
            owners = {self._keys.get((statement.tenant, line), statement.subject) for line in content.keys}
            _require(owners == {statement.subject}, "a key is one person's")

    def _must_be_sealed(self, statement: Statement, content: Glass, before: Statement | None) -> None:
        """Said once, of a key that is nobody's, for somebody and something that are known, and not for ever."""
        tenant, machine = statement.tenant, self.machine(statement.tenant, content.target)
        person = self.person(tenant, content.person)
        _require(before is None, "a sealed credential is said once")
        _require((tenant, content.key) not in self._keys, "a sealed credential's key is nobody's")
        _require(person is not None and person.active, "for somebody who is known")
        known = machine is not None and content.login in {one.name for one in machine.logins}
        _require(known, "a login that the target has")
        _require(timedelta(0) < content.until - statement.at <= SEALED_FOR, "a sealed credential that runs out")

    def _signers(self, statement: Statement, signatures: Sequence[bytes]) -> frozenset[str]:
        _require(0 < len(signatures) <= MAX_SIGNERS, "signed by one to four people")
        message, tenant = statement.encoded(), statement.tenant
        try:
            found = [self.signer_of(tenant, signature, message, TRUST_NAMESPACE) for signature in signatures]
        except BadSignature as error:
            raise NotTrusted("statement refused: signed by people whom the signer knows") from error
        return frozenset(found)

    def _must_suffice(self, statement: Statement, before: Content | None, signers: frozenset[str]) -> None:
        needed, besides = _permission(statement.content), {statement.subject}
        if isinstance(statement.content, Glass):
            # nobody makes one for themselves, unless there is nobody else who could (I-12)
            others = self._could(statement.tenant, needed, {statement.content.person})
            besides |= {statement.content.person} if others else set()
        able = [s for s in signers - besides if _may(self.person(statement.tenant, s), needed)]
        _require(len(able) >= 1, "signed by somebody who may change it")
        if _raises(before, statement.content):
            could = self._could(statement.tenant, needed, besides)
            _require(len(able) >= min(2, could), SECOND)

    def _could(self, tenant: TenantId, needed: Permission, besides: Iterable[str]) -> int:
        people = (s.content for (t, subject), s in self._now.items() if t == tenant and subject not in besides)
        return sum(1 for content in people if isinstance(content, Person) and _may(content, needed))


def _may(person: Person | None, needed: Permission) -> bool:
    return person is not None and person.active and holds(person.role, needed)


def _permission(content: Content) -> Permission:
    match content:
        case Person():
            return Permission.PERSON_WRITE
        case Machine():
            return Permission.TARGET_WRITE
        case Programs():
            return Permission.POLICY_WRITE
        case Glass():
            return Permission.PERSON_WRITE
        case Rotation():
            return Permission.CA_ROTATE


def _raises(before: Content | None, after: Content) -> bool:
    """Whether more can be done with it than before, or fewer people are left who could say no."""
    match after:
        case Person():
            return _raises_person(before if isinstance(before, Person) else None, after)
        case Machine():
            return _raises_machine(before if isinstance(before, Machine) else None, after)
        case Programs() | Glass():
            return True
        case Rotation():
            # lets nobody do more: the signer makes the key itself, and whoever may say no still may
            return False


def _raises_person(before: Person | None, after: Person) -> bool:
    strong = RANK[Role.ADMIN]
    if before is None:
        return RANK[after.role] >= strong
    # whoever could be the second person is not taken away by one alone
    stays = after.active and RANK[after.role] >= RANK[before.role]
    leaves = before.active and not stays and RANK[before.role] >= strong
    comes = after.active and not before.active
    return leaves or comes or RANK[after.role] > RANK[before.role] or not set(after.keys) <= set(before.keys)


def _raises_machine(before: Machine | None, after: Machine) -> bool:
    if before is None:
        return is_looser(after.tier, Tier.APPROVAL)
    fewer = any(after.quorum.get(level, 1) < least for level, least in before.quorum.items())
    moved = set(after.logins) != set(before.logins)
    return is_looser(after.tier, before.tier) or moved or fewer or (before.seal_reads and not after.seal_reads)


def _require(holds: bool, rule: str) -> None:  # noqa: FBT001  reads as a sentence at its call sites
    if not holds:
        raise NotTrusted(f"statement refused: {rule}")
