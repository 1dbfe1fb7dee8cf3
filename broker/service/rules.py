"""The tenant's policy: reading it, replacing it. Validated before it is stored.

A change counts for what is decided after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from broker.core.errors import conflict, forbidden, invalid
from broker.core.events import AuditEvent
from broker.core.identity import Caller
from broker.core.roles import Permission, holds
from broker.core.statement import PROGRAMS
from broker.service import lookup
from broker.service.aside import Aside
from broker.service.ports import PolicyVersion, Tx
from broker.service.stepup import Change, signed_by
from broker.service.trust import believe, programs_of, tried
from broker.service.world import World
from policy.ruleset import Ruleset, RulesetError

MAX_SOURCES_BYTES = 256 * 1024
_FACT = 256
"""Characters of one fact in an audit entry."""
_TO_LOWER = 2
"""People who sign before a shipped entry of the catalogue counts no more, however few a tenant has (I-17)."""


def loaded(sources: Mapping[str, str]) -> Ruleset:
    """The rules of a set of files. Raises Refusal where they are too long or do not load."""
    must_fit(sources)
    try:
        return Ruleset.load(sources)
    except RulesetError as error:
        raise invalid(
            "bad_policy", f"the policy does not load: {error}", "check it with grantd policy check"
        ) from error


def must_fit(sources: Mapping[str, str]) -> None:
    """Refuses a set of files that is too long."""
    if sum(len(name) + len(text.encode()) for name, text in sources.items()) > MAX_SOURCES_BYTES:
        raise invalid("policy_too_long", "the policy is longer than 256 KiB")


class RulesService:
    """GetPolicy, PutPolicy."""

    def __init__(self, world: World, aside: Aside) -> None:
        self._world, self._aside = world, aside

    async def get(self, caller: Caller) -> PolicyVersion:
        """The policy in force; the shipped one has no author."""
        return await self._world.store.read(caller.tenant, lambda tx: self._in_force(tx, caller))

    async def put(
        self, caller: Caller, sources: Mapping[str, str], change: Change, *, replaces: str, idempotency_key: str
    ) -> PolicyVersion:
        """Replaces the policy, if `replaces` is still the one in force.

        The caller and, where there are two, a second owner signed.
        """
        parsed = await self._aside.run(lambda: loaded(sources))
        now = self._world.instant().wall
        version = PolicyVersion(
            tenant=caller.tenant, version=parsed.version, sources=dict(sources), put_by=caller.identity, put_at=now
        )

        def unit(tx: Tx) -> PolicyVersion:
            before = self._in_force(tx, caller)
            if before.version == version.version:
                return before
            if replaces != before.version:
                raise conflict(
                    "policy_changed", "another policy is in force than the one this replaces", "look at it again"
                )
            lowers = sorted(parsed.lowers(self._loaded_before(tx)))
            _must_be_signed(tx, caller, change, lowers, now=now)
            tx.policies.put(version)
            facts: dict[str, str | int] = {
                "policy": version.version,
                "replaces": before.version,
                "signatures": len(change.step_ups),
            }
            if lowers:
                facts |= {"lowered": len(lowers), "lowers": _listed(lowers)}
            tx.audit.append(
                AuditEvent(tenant=caller.tenant, name="policy.changed", actor=caller.identity, facts=facts), now
            )
            return version

        lookup.checked_key(idempotency_key)
        if change.trust:
            await tried(self._world, caller.tenant, unit)
            programs = programs_of(dict(sources))
            await believe(self._world, change, tenant=caller.tenant, subject=PROGRAMS, content=programs)
        return await self._world.store.run(caller.tenant, unit)

    def _loaded_before(self, tx: Tx) -> Ruleset:
        """The rules in force; the shipped ones where those load no more, so that a tenant can replace them."""
        try:
            return self._world.policies.in_force(tx)
        except RulesetError:
            return Ruleset.load(self._world.policies.shipped)

    def _in_force(self, tx: Tx, caller: Caller) -> PolicyVersion:
        stored = tx.policies.current()
        if stored is not None:
            return stored
        return PolicyVersion(
            tenant=caller.tenant,
            version=self._world.policies.in_force(tx).version,
            sources=self._world.policies.shipped,
            put_by="",
            put_at=self._world.clock.now(),
        )


def _listed(names: Sequence[str]) -> str:
    """As many whole names as an entry takes; their number stands beside it, all of them in the policy itself."""
    told = names[0]
    for name in names[1:]:
        if len(told) + 1 + len(name) > _FACT:
            break
        told += f",{name}"
    return told


def _must_be_signed(tx: Tx, caller: Caller, change: Change, lowers: Sequence[str], *, now: datetime) -> None:
    """By the caller, and by a second person: where there are two who could, or where a shipped program is lowered."""
    signers = signed_by(tx, caller, change, permission=Permission.POLICY_WRITE, second=True, now=now)
    people = [tx.identities.get(signer) for signer in set(signers)]
    able = [person for person in people if person is not None and holds(person.role, Permission.POLICY_WRITE)]
    if lowers and len(able) < _TO_LOWER:
        raise forbidden(
            "second_person_needed",
            f"replacing a shipped program takes two people's signatures: {', '.join(lowers)}",
            "leave out `replaces`, or let a colleague who may change the policy sign too",
        )
