"""Replaying what really ran against another policy: honest about its inputs, bounded, and it writes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.approval import Verdict
from broker.core.roles import Role
from broker.service.explain import Decided
from broker.service.policies import Policies
from broker.service.ports import PolicyVersion
from broker.service.simulate import MAX_CHANGES, Simulation, replay
from policy.classes import Tier
from policy.engine import shipped_policy
from policy.reading import Rule
from policy.ruleset import Ruleset, RulesetError
from tests.broker.adapters.store.fixtures import TENANT
from tests.broker.service.somebody import Somebody
from tests.broker.service.test_deciding import put_policy
from tests.broker.service.world import EXECUTE, READ, WRITE, House, refused

NEVER_READS = {
    **shipped_policy(),
    "reads.cedar": '@id("reads.ask") forbid (principal, action == Action::"run_unattended", resource) '
    "when { context.level == 1 };",
}
TWO = {
    **shipped_policy(),
    "two.cedar": '@id("two") @approvers("2") permit (principal, action == Action::"run", resource) '
    "when { context.level >= 3 };",
}
DAY = timedelta(days=1)


async def _history(house: House) -> tuple[Somebody, Somebody]:
    """A read that ran, a write that was approved, an execute that was refused."""
    agent, approver = await house.add("deployer"), await house.add("approver", Role.OWNER)
    grant = await house.granted(agent)
    await house.run(await house.started(agent, grant, READ))
    await house.run(await house.started(agent, grant, WRITE, approver))
    await house.decide(approver, (await house.propose(agent, grant, EXECUTE)).action, Verdict.DENY)
    return agent, approver


async def _simulated(house: House, sources: dict[str, str], period: timedelta = DAY) -> Simulation:
    caller = (await house.add("boss", Role.OWNER)).caller
    return await house.cases.simulate.simulate(caller, sources, period)


async def test_the_same_policy_changes_nothing(house: House) -> None:
    """Every action is replayed, none changes, and what was recorded is what would be decided: no drift."""
    await _history(house)
    seen = await _simulated(house, dict(shipped_policy()))
    assert (seen.counts, seen.changes, seen.drifted, seen.skipped, seen.complete) == (
        {("permit", "permit"): 1, ("needs_approval", "needs_approval"): 2}, (), 0, 0, True,
    )  # fmt: skip
    assert seen.version == seen.compared_with


async def test_what_would_change_is_counted_and_listed(house: House) -> None:
    """Reads that would ask; more people for what is executed: which actions, and the rules before and after."""
    await _history(house)
    asks = await _simulated(house, NEVER_READS)
    assert asks.counts["permit", "needs_approval"] == asks.changed == 1
    (change,) = asks.changes
    assert change.question.action.command == READ
    assert (change.before.rules, change.after.rules) == (("tier.read",), ("run.team", "reads.ask"))
    more = await _simulated(house, TWO)
    assert [(c.question.action.command, c.before.quorum, c.after.quorum) for c in more.changes] == [(EXECUTE, 1, 2)]


async def test_programs_are_part_of_the_policy(house: House) -> None:
    """A tenant's own entry is tried with the policies: what asked as not understood would run as a read."""
    agent = await house.add("deployer")
    await house.propose(agent, await house.granted(agent), b"stackctl status")
    own = '[stackctl]\nclass = "read"\nsubs.read = "status"'
    seen = await _simulated(house, {**shipped_policy(), "own.toml": own})
    (change,) = seen.changes
    assert (change.before.opaque, change.after.opaque, change.after.decision) == (True, False, "permit")


async def test_what_is_not_kept_is_todays_and_is_counted_as_drift(house: House) -> None:
    """A target that changed hands: both policies see today's teams, so no change is theirs, and the drift is told."""
    await _history(house)
    await house.put_team("other")
    await house.put_target("web1", teams=("other",))
    seen = await _simulated(house, dict(shipped_policy()))
    assert (seen.changed, seen.drifted, seen.counts) == (0, 3, {("deny", "deny"): 3})


async def test_the_tier_is_the_recorded_one(house: House) -> None:
    """A target that was trusted later does not change what is replayed."""
    await _history(house)
    await house.put_target("web1", tier=Tier.TRUSTED)
    assert (await _simulated(house, dict(shipped_policy()))).drifted == 0


async def test_only_the_period(house: House) -> None:
    """Older actions are left out."""
    agent, _ = await _history(house)
    house.clock.forward(DAY.total_seconds() + 1)
    grant = await house.granted(agent)
    await house.run(await house.started(agent, grant, READ))
    assert (await _simulated(house, dict(shipped_policy()))).replayed == 1


async def test_it_writes_nothing(house: House) -> None:
    """Not a row, not an audit event: the store refuses every write meanwhile."""
    await _history(house)
    caller = (await house.add("boss", Role.OWNER)).caller
    before = await house.events()
    house.store.writes_fail = True
    assert (await house.cases.simulate.simulate(caller, NEVER_READS, DAY)).changed == 1
    house.store.writes_fail = False
    assert await house.events() == before


async def test_a_long_history_is_bounded(house: House) -> None:
    """So many actions at the most, newest first, told as incomplete with how far it came; the list is bounded too."""
    agent = await house.add("deployer")
    action = (await house.propose(agent, await house.granted(agent), READ)).action
    total = MAX_CHANGES + 30
    for index in range(total):
        copy = replace(
            action, id=f"ac_{index:026d}".translate(str.maketrans("0189", "abcd")),  # type: ignore[arg-type]
            proposed_at=action.proposed_at + timedelta(seconds=index),
        )  # fmt: skip
        await house.store.inner.run(TENANT, lambda tx, copy=copy: tx.actions.put(copy))  # type: ignore[misc]
    rules, in_force = Ruleset.load(NEVER_READS), house.world.policies.in_force
    since = house.clock.now() - DAY
    some = await replay(house.store, TENANT, rules, in_force, since=since, at_most=100)
    assert (some.replayed, some.complete) == (100, False)
    assert some.since == action.proposed_at + timedelta(seconds=total - 100)
    every = await replay(house.store, TENANT, rules, in_force, since=since, at_most=10_000)
    assert (every.complete, every.since, len(every.changes)) == (True, since, MAX_CHANGES)
    assert every.changed == every.replayed == total + 1


@pytest.mark.parametrize("period", [timedelta(0), timedelta(minutes=59), timedelta(days=91), timedelta(days=-1)])
async def test_a_period_out_of_range_is_refused(house: House, period: timedelta) -> None:
    """I-60: work that a caller can ask for has an end."""
    assert await refused(_simulated(house, dict(shipped_policy()), period)) == "bad_field"


async def test_one_at_a_time(house: House) -> None:
    """I-60: a second one is refused while the first runs; what does not load is refused, and frees the place."""
    caller = (await house.add("boss", Role.OWNER)).caller
    simulate = house.cases.simulate.simulate
    assert await refused(simulate(caller, {"a.cedar": "permit ("}, DAY)) == "bad_policy"
    async with asyncio.TaskGroup() as group:
        first = group.create_task(simulate(caller, dict(shipped_policy()), DAY))
        await asyncio.sleep(0)
        assert await refused(simulate(caller, dict(shipped_policy()), DAY)) == "simulation_running"
    assert first.result().complete


# ---- validate
async def test_validate_tells_problems_or_warnings(house: House) -> None:
    """Every problem at once; where it loads, the version it would have, unknown teams, and what is suspicious."""
    caller = (await house.add("boss", Role.OWNER)).caller
    validate = house.cases.validate.validate
    bad = await validate(caller, {"a.cedar": "permit (", "b.cedar": "permit (x);"})
    assert (bad.version, [problem.where.file for problem in bad.problems]) == ("", ["a.cedar", "b.cedar"])
    own = await validate(caller, {"own.toml": "[mytool]\ncolour = 3"})
    assert own.version == ""
    assert "own.toml" in own.problems[0].message
    head = 'permit (principal, action == Action::"run", resource)'
    text = f'@id("x") {head} when {{ principal.teams.contains(Team::"{TENANT}/opz") }};'
    warned = await validate(caller, {**shipped_policy(), "site.cedar": text})
    assert warned.version
    assert [str(problem) for problem in warned.problems if "did you mean" in str(problem)]
    good = await validate(caller, dict(shipped_policy()))
    assert (good.problems, good.version) == ((), Ruleset.load(shipped_policy()).version)


# ---- explain
async def test_explain_an_action_by_the_version_that_decided(house: House) -> None:
    """What was recorded, and the rules of the very version that decided, though another is in force since."""
    await _history(house)
    agent = await house.add("other")
    old = (await house.propose(agent, await house.granted(agent), WRITE)).action
    caller = (await house.add("boss", Role.OWNER)).caller
    await put_policy(house, TWO)
    newer = (await house.propose(agent, await house.granted(agent), EXECUTE)).action
    await put_policy(house, NEVER_READS)
    for action, rules, quorum in ((old, ("run.team",), 1), (newer, ("run.team", "two"), 2)):
        told = await house.cases.explain.explain(caller, action.id)
        assert isinstance(told, Decided)
        assert told.decided.decision == "needs_approval"
        assert told.replayed is not None
        assert (told.replayed.rules, told.replayed.quorum) == (rules, quorum)


async def test_explain_an_action_of_a_version_that_loads_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was recorded is told all the same; the rules are not."""
    agent = await house.add("other")
    await put_policy(house, TWO)
    action = (await house.propose(agent, await house.granted(agent), WRITE)).action
    await put_policy(house, NEVER_READS)
    caller = (await house.add("boss", Role.OWNER)).caller
    await house.cases.explain.explain(caller, "tier.read")  # reads the newer one

    def stale(_policies: Policies, _stored: PolicyVersion) -> Ruleset:
        raise RulesetError("a.cedar:1:1: refused since")

    monkeypatch.setattr(Policies, "parsed", stale)
    told = await house.cases.explain.explain(caller, action.id)
    assert isinstance(told, Decided)
    assert (told.decided.decision, told.replayed) == ("needs_approval", None)


async def test_explain_a_policy(house: House) -> None:
    """A policy in force by its id; one that is not there is not found."""
    caller = (await house.add("boss", Role.OWNER)).caller
    rule = await house.cases.explain.explain(caller, "tier.read")
    assert isinstance(rule, Rule)
    assert await refused(house.cases.explain.explain(caller, "nothing")) == "not_found"


async def test_explain_shows_a_role_only_what_it_sees(house: House) -> None:
    """I-46: a manager of another team is answered like for an action that does not exist."""
    agent = await house.add("deployer")
    action = (await house.propose(agent, await house.granted(agent), WRITE)).action
    await house.put_team("search")
    stranger = (await house.add("stranger", Role.MANAGER, teams=("search",))).caller
    assert await refused(house.cases.explain.explain(stranger, action.id)) == "not_found"
    colleague = (await house.add("colleague", Role.MANAGER)).caller
    assert isinstance(await house.cases.explain.explain(colleague, action.id), Decided)


async def test_who_must_watch_makes_a_difference(house: House) -> None:
    """A policy that demands a watcher answers differently, though nobody more is asked; both answers say whom."""
    await _history(house)
    watched = {
        **shipped_policy(),
        "eyes.cedar": '@id("eyes") @watched @approvers("2") permit (principal, action == Action::"run", resource);',
    }
    watched["eyes.cedar"] = watched["eyes.cedar"].replace('@approvers("2") ', "")
    seen = await _simulated(house, watched)
    assert seen.drifted == 0
    assert seen.changed > 0
    assert all(changed.before.watchers == frozenset() and changed.after.watchers for changed in seen.changes)
