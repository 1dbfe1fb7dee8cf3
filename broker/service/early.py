"""Early word of what the signer would refuse later: a target, or somebody's yes, about which it holds no statement.

Decides nothing, the signer does at each certificate: this only says it where somebody can still do something about it.
Where the signer does not answer now, nothing is said now.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.errors import SignerFault, conflict
from broker.core.identity import Target
from broker.core.ids import TenantId
from broker.core.kinds import TargetKind
from broker.core.roles import Permission, holds
from broker.core.sshwire import parse_line
from broker.core.statement import Content, Machine, NotAStatement, Person, read_statement
from broker.service.lookup import host_key_sha256
from broker.service.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the signer holds about one subject."""

    answered: bool
    content: Content | None

    def must_have_target(self, target: Target, login: str) -> None:
        """Raises Refusal `target_not_signed` where nothing could be let in at the target as this login."""
        said = self.content
        holds_it = (
            isinstance(said, Machine)
            and said.host_key == host_key_sha256(target)
            and login in {one.name for one in said.logins}
        )
        if self.answered and target.kind is TargetKind.SSH and not holds_it:
            message = "the signer knows no such target, host key or login: nothing would be let in there"
            raise conflict("target_not_signed", message, f"an admin or owner runs: grantctl trust adopt {target.name}")

    def must_have_approver(self, name: str, fingerprint: str) -> None:
        """Raises Refusal `approver_not_signed` where a yes by this key would count for nothing at the signer."""
        said = self.content
        counts = (
            isinstance(said, Person)
            and said.active
            and holds(said.role, Permission.APPROVAL_DECIDE)
            and fingerprint in {parse_line(line).fingerprint() for line in said.keys}
        )
        if self.answered and not counts:
            message = "the signer does not know this key of yours, or not in this role: your yes would not count"
            raise conflict("approver_not_signed", message, f"an owner runs: grantctl trust adopt {name}")


NOTHING_SAID = Word(answered=False, content=None)


async def word_of(world: World, tenant: TenantId, subject: str) -> Word:
    """What the signer holds about a person or a target, by id."""
    try:
        statement = await world.signer.believed(tenant, subject)
        content = read_statement(statement).content if statement else None
    except (SignerFault, NotAStatement):
        return NOTHING_SAID
    return Word(answered=True, content=content)
