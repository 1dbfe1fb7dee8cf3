"""What another policy would have answered to what really ran: counted, and listed where it differs. Writes nothing.

Both policies, the one in force and the other, are asked with the same facts, so that a difference is the policy's alone
(replay.py says which facts are today's). Only actions are replayed: a line that the classifier refused was never one.
Access requests are not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from broker.core.errors import exhausted, invalid
from broker.core.identity import Caller
from broker.core.ids import ActionId, TenantId
from broker.service.aside import Aside
from broker.service.ports import Store, Tx
from broker.service.replay import Answer, Question, answer, question_of, recorded
from broker.service.rules import loaded
from broker.service.world import World
from policy.ruleset import Ruleset

MAX_CHANGES: Final = 200
"""Changes that are listed; all of them are counted."""
MAX_REPLAYED: Final = 5_000
"""Actions that a running broker replays for one call: some seconds of one processor."""
SHORTEST, LONGEST = timedelta(hours=1), timedelta(days=90)
_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """An action that the other policy answers differently."""

    question: Question
    before: Answer
    after: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """How it came out. `counts` is by (decision before, decision after)."""

    version: str
    compared_with: str
    counts: Mapping[tuple[str, str], int]
    changes: Sequence[Changed]
    changed: int
    replayed: int
    skipped: int
    """Whose identity, target or grant is no more."""
    drifted: int
    """Which the policy in force answers differently today than was decided then."""
    since: datetime
    """How far back the replay reached."""
    complete: bool


class SimulateService:
    """SimulatePolicy: one at a time."""

    def __init__(self, world: World, aside: Aside) -> None:
        self._world, self._aside = world, aside
        self._busy = False

    async def simulate(self, caller: Caller, sources: Mapping[str, str], period: timedelta) -> Simulation:
        """Tries a policy on the last `period` of the caller's tenant.

        Raises:
            Refusal: it does not load, the period is out of range, or a simulation is running already.
        """
        if not SHORTEST <= period <= LONGEST:
            raise invalid("bad_field", "period must be 1 hour to 90 days")
        if self._busy:
            raise exhausted("simulation_running", "a simulation is running already", "try again when it is over")
        self._busy = True
        try:
            rules = await self._aside.run(lambda: loaded(sources))
            since = self._world.clock.now() - period
            policies = self._world.policies.in_force
            return await replay(self._world.store, caller.tenant, rules, policies, since=since, at_most=MAX_REPLAYED)
        finally:
            self._busy = False


async def replay(
    store: Store, tenant: TenantId, rules: Ruleset, in_force: Callable[[Tx], Ruleset], *, since: datetime, at_most: int
) -> Simulation:
    """Replays at most so many actions since then, newest first. Keeps counts and a bounded list, never the history."""
    before = await store.read(tenant, in_force)
    tally = _Tally(before=before, after=rules, reached=since)
    after: ActionId | None = None
    while True:
        page = await store.read(tenant, lambda tx, after=after: _page(tx, after, since))  # type: ignore[misc]
        # off the loop, which a page of questions would hold for longer than a session may wait
        await asyncio.to_thread(tally.take, page.questions)
        tally.skipped += page.skipped
        if page.last is None or tally.replayed + tally.skipped >= at_most:
            return tally.told(complete=page.last is None, since=since)
        after = page.last


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    questions: Sequence[Question]
    skipped: int
    last: ActionId | None
    """Where to go on; None at the end of the period."""


def _page(tx: Tx, after: ActionId | None, since: datetime) -> _Page:
    rows = tx.actions.page(grant=None, identity=None, after=after, limit=_PAGE)
    within = [row for row in rows if row.proposed_at >= since]
    questions = [question for row in within if (question := question_of(tx, row)) is not None]
    over = len(rows) < _PAGE or len(within) < len(rows)
    return _Page(questions=questions, skipped=len(within) - len(questions), last=None if over else rows[-1].id)


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What a replay keeps: of bounded size, however long the history is."""

    before: Ruleset
    after: Ruleset
    reached: datetime
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: list[Changed] = field(default_factory=list)
    changed: int = 0
    replayed: int = 0
    skipped: int = 0
    drifted: int = 0

    def take(self, questions: Sequence[Question]) -> None:
        """Asks both policies."""
        for question in questions:
            before, after = answer(self.before, question), answer(self.after, question)
            self.replayed += 1
            self.counts[before.decision, after.decision] += 1
            self.drifted += not before.same(recorded(question.action))
            if not before.same(after):
                self.changed += 1
                if len(self.changes) < MAX_CHANGES:
                    self.changes.append(Changed(question=question, before=before, after=after))
            self.reached = question.action.proposed_at

    def told(self, *, complete: bool, since: datetime) -> Simulation:
        return Simulation(
            version=self.after.version, compared_with=self.before.version, counts=dict(self.counts),
            changes=tuple(self.changes), changed=self.changed, replayed=self.replayed, skipped=self.skipped,
            drifted=self.drifted, since=since if complete else self.reached, complete=complete,
        )  # fmt: skip
