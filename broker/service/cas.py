"""The keys of the CAs, and the three steps in which one follows another while everything goes on.

A step is taken only when nobody is left behind by it: who has to believe the next key knows it, and what the old one
signed is over. `force` takes it all the same, for a key that is known to others.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from broker.core import generation as g
from broker.core.cert import Ca
from broker.core.errors import Refusal, conflict, forbidden
from broker.core.events import AuditEvent
from broker.core.generation import Generation, Step, WrongStep
from broker.core.identity import Caller, Target
from broker.core.kinds import TargetKind
from broker.core.roles import Permission
from broker.core.statement import Rotation, subject_of
from broker.service.ports import Tx
from broker.service.stepup import Change, signed_by
from broker.service.trust import must_say, refusing, signatures_of
from broker.service.world import World

_AT_ONCE: Final = 8
"""Targets that are asked at the same time."""
_NAMED: Final = 5
"""Targets that a refusal names."""
Told = Callable[[Ca], Awaitable[None]]


class CaService:
    """ListCas, RotateCa. `told` are awaited after each step: when it returns, every door goes by it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.told: list[Told] = []
        self._turn = asyncio.Lock()

    async def all(self) -> Mapping[Ca, Sequence[Generation]]:
        """The believed keys of all CAs."""
        return {ca: await self._world.signer.generations(ca) for ca in Ca}

    async def rotate(self, caller: Caller, ca: Ca, step: Step, change: Change, *, force: bool) -> Sequence[Generation]:
        """Takes one step.

        Raises:
            Refusal: `not_operator`, `ca_wrong_step`, `ca_too_early`, `ca_not_everywhere`, `bad_statement`,
                `trust_refused`, and those of a step-up.
        """
        async with self._turn:
            await self._write(caller, ca, step, change, force=force)
            before = await self._world.signer.generations(ca)
            said = Rotation(ca=ca, step=step, number=_must_be_next(before, step), forced=force)
            must_say(change, tenant=caller.tenant, subject=subject_of(ca), content=said)
            if not force:
                await self._must_leave_nobody(caller, ca, step, before)
            with refusing():
                after = await self._world.signer.rotate(ca, change.trust, signatures_of(change))
            await self._tell(ca)
            await self._audit(caller, ca, step, after)
            return after

    async def _tell(self, ca: Ca) -> None:
        for told in self.told:
            await told(ca)

    async def _write(self, caller: Caller, ca: Ca, step: Step, change: Change, *, force: bool) -> None:
        now = self._world.instant().wall
        if caller.tenant != self._world.operators:
            raise forbidden("not_operator", "the keys are every tenant's: only the broker's own tenant rotates them")
        event = AuditEvent(
            tenant=caller.tenant, name="ca.rotation_asked", actor=caller.identity,
            facts={"ca": ca.value, "step": step.value, "waits": "none" if force else "all"},
        )  # fmt: skip

        def unit(tx: Tx) -> None:
            signed_by(tx, caller, change, permission=Permission.CA_ROTATE, second=False, now=now)
            tx.audit.append(event, now)

        await self._world.store.run(caller.tenant, unit)

    async def _audit(self, caller: Caller, ca: Ca, step: Step, after: Sequence[Generation]) -> None:
        now = self._world.clock.now()
        facts = {f"{each.stage.value}_{each.number}": hashlib.sha256(each.public).hexdigest() for each in after}
        event = AuditEvent(
            tenant=caller.tenant, name="ca.rotated", actor=caller.identity,
            facts={"ca": ca.value, "step": step.value, **facts},
        )  # fmt: skip
        await self._world.store.run(caller.tenant, lambda tx: tx.audit.append(event, now))

    async def _must_leave_nobody(self, caller: Caller, ca: Ca, step: Step, before: Sequence[Generation]) -> None:
        if self._world.instant().wall < (until := g.not_before(ca, before, step)):
            raise _too_early(until)
        if (ca, step) == (Ca.EGRESS, Step.SWITCH):
            await self._must_be_everywhere(caller, before[-1].number)

    async def _must_be_everywhere(self, caller: Caller, generation: int) -> None:
        targets = await self._hosts()
        room = asyncio.Semaphore(_AT_ONCE)

        async def asked(target: Target) -> bool:
            async with room:
                return await self._world.targets.believes(
                    target, target.logins[0].name, self._announcing(caller, target), generation
                )

        async with asyncio.TaskGroup() as group:
            answers = [(target, group.create_task(asked(target))) for target in targets]
        without = [target for target, knows in answers if not knows.result()]
        if without:
            # what another tenant has is counted and never named (I-40)
            own = sorted(target.name for target in without if target.tenant == caller.tenant)
            names = ", ".join(own[:_NAMED]) + (" ..." if len(without) > len(own[:_NAMED]) else "")
            raise conflict(
                "ca_not_everywhere", f"{len(without)} targets do not let the next key in, or do not answer: {names}",
                "put both lines of `grantctl ca list` into their TrustedUserCAKeys file, then look with target doctor",
            )  # fmt: skip

    async def _hosts(self) -> Sequence[Target]:
        """What the egress key lets in at: the hosts of every tenant, since the key is everybody's."""
        found: list[Target] = []
        for tenant in await self._world.store.tenants():
            found += await self._world.store.read(tenant, lambda tx: list(tx.targets.all()))
        return [target for target in found if target.kind is TargetKind.SSH]

    def _announcing(self, caller: Caller, target: Target) -> Callable[[int], Awaitable[None]]:
        actor = caller.identity if target.tenant == caller.tenant else ""

        async def announce(serial: int) -> None:
            event = AuditEvent(
                tenant=target.tenant, name="credential.issued", actor=actor,
                facts={"target": target.id, "kind": "egress", "serial": str(serial), "purpose": "check"},
            )  # fmt: skip
            now = self._world.clock.now()
            await self._world.store.run(target.tenant, lambda tx: tx.audit.append(event, now))

        return announce


def _must_be_next(before: Sequence[Generation], step: Step) -> int:
    """The number of the key that the step is about."""
    try:
        return g.about(before, step)
    except WrongStep as error:
        words = ", ".join(f"{each.number} {each.stage.value}" for each in before)
        raise conflict(
            "ca_wrong_step", f"its keys are: {words}; {step.value} is not the next step", "start, switch, finish"
        ) from error


def _too_early(until: datetime) -> Refusal:
    return conflict(
        "ca_too_early", f"somebody may hold what this step ends until {until.isoformat(timespec='seconds')}",
        "wait until then; where the key is known to others, take the step with --force",
    )  # fmt: skip
