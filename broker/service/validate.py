"""Reading a policy without putting it: all that is wrong with it at once, and what is suspicious. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.core.identity import Caller
from broker.service.aside import Aside
from broker.service.rules import must_fit
from broker.service.world import World
from policy.engine import shipped_policy
from policy.lint import unknown_teams, warnings
from policy.reading import Position, Problem, read
from policy.ruleset import Ruleset, RulesetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What reading told. `version` is empty where it does not load."""

    version: str
    problems: Sequence[Problem]


class ValidateService:
    """ValidatePolicy."""

    def __init__(self, world: World, aside: Aside) -> None:
        self._world, self._aside = world, aside

    async def validate(self, caller: Caller, sources: Mapping[str, str]) -> Validation:
        """Every problem, by position; where there is none, every warning. Refuses only what is too long."""
        must_fit(sources)
        teams = await self._world.store.read(
            caller.tenant, lambda tx: [f"{caller.tenant}/{team.name}" for team in tx.teams.all()]
        )
        return await self._aside.run(lambda: validation(sources, teams))


def validation(sources: Mapping[str, str], teams: Iterable[str]) -> Validation:
    """As ValidateService.validate, of what is at hand; `teams` are those of the tenant, as policies name them."""
    cedar = {name: text for name, text in sources.items() if name.endswith(".cedar")}
    if cedar and (problems := read(cedar).problems):
        return Validation(version="", problems=problems)
    try:
        rules = Ruleset.load(sources)
    except RulesetError as error:
        return Validation(version="", problems=(_whole(str(error)),))
    mine = tuple(rules.policies.rules.values()) if cedar else ()
    found = (*unknown_teams(mine, teams), *warnings(mine, shipped_policy())) if cedar else ()
    return Validation(version=rules.version, problems=found)


def _whole(message: str) -> Problem:
    """What is wrong with a file of programs: its message says where."""
    return Problem(where=Position(file="", line=0, column=0), policy="", message=message)
