"""The three state machines, walked at random against what must hold in every state (I-01, I-03, I-14)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeAlias

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.core import action as actions
from broker.core import grant as grants
from broker.core import request as requests
from broker.core.action import ActionEvent, ActionState, Outcome
from broker.core.errors import Blame, IllegalTransition, Refusal
from broker.core.grant import EndReason, Grant, GrantEvent, GrantState
from broker.core.request import RequestEvent, RequestState
from broker.core.table import step
from tests.broker.adapters.store import samples
from tests.broker.adapters.store.fixtures import NOW

SECONDS = st.sampled_from([0, 1, 59, 600, 899, 900, 1800]) | st.integers(0, 100_000)
TIME = (EndReason.EXPIRED, EndReason.NEVER_STARTED)
Table: TypeAlias = Mapping[Any, Mapping[Any, Any]]
MACHINES: list[tuple[Table, type[StrEnum], type[StrEnum], set[str]]] = [
    (requests.TRANSITIONS, RequestState, RequestEvent, {"approved", "denied", "expired", "cancelled"}),
    (grants.TRANSITIONS, GrantState, GrantEvent, {"expired", "revoked"}),
    (
        actions.TRANSITIONS,
        ActionState,
        ActionEvent,
        {"denied", "expired", "cancelled", "succeeded", "failed", "cut", "lost"},
    ),
]


@pytest.mark.parametrize(("table", "states", "events", "final"), MACHINES, ids=["request", "grant", "action"])
def test_every_edge_is_in_the_table_or_raises(
    table: Table, states: type[StrEnum], events: type[StrEnum], final: set[str]
) -> None:
    """An illegal edge is a Fault that names machine, state and event; final states have no way out."""
    for state in states:
        for event in events:
            if event in table.get(state, {}):
                assert step(table, state, event) in states
                continue
            with pytest.raises(IllegalTransition) as illegal:
                step(table, state, event)
            assert (illegal.value.machine, illegal.value.state, illegal.value.event) == (states.__name__, state, event)
    assert {state for state in states if not table.get(state)} == final


@pytest.mark.parametrize(("table", "states", "events", "final"), MACHINES, ids=["request", "grant", "action"])
def test_every_state_can_be_reached_and_left(
    table: Table, states: type[StrEnum], events: type[StrEnum], final: set[str]
) -> None:
    """No dead rows: every state is the start or the end of an edge, every event is used."""
    reached, edges = {next(iter(states))}, [(event, after) for row in table.values() for event, after in row.items()]
    while more := {after for state in reached for after in table.get(state, {}).values()} - reached:
        reached |= more
    assert reached == set(states)
    assert {event for event, _ in edges} == set(events)


@pytest.mark.parametrize("table", [machine[0] for machine in MACHINES], ids=["request", "grant", "action"])
def test_a_timeout_is_never_a_denial(table: Table) -> None:
    """Waiting too long ends as expired, and only a decision ends as denied."""
    for row in table.values():
        for event, after in row.items():
            assert (after == "expired") == (event in {"time_out", "ended_by_time"})
            assert (after == "denied") == (event == "deny")


class RequestLife(RuleBasedStateMachine):
    """A request under any events, with a clock that only the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.request = NOW, samples.request()
        self.born = self.request

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(event=st.sampled_from(RequestEvent), note=st.text(max_size=5))
    def try_event(self, event: RequestEvent, note: str) -> None:
        """One decision counts; the second of any kind is refused, and says what it is already."""
        if self.request.state is RequestState.PENDING:
            self.request = requests.advance(self.request, event, note=note)
            assert self.request.note == note
            return
        with pytest.raises(Refusal) as refused:
            requests.advance(self.request, event, note=note)
        assert (refused.value.code, refused.value.blame) == ("already_decided", Blame.CONFLICT)
        assert self.request.state in refused.value.message

    @rule()
    def ask_whether_it_is_open(self) -> None:
        """Exactly while pending and before its end; at the end itself it is late, which is not "denied"."""
        if self.request.state is not RequestState.PENDING:
            wanted = "already_decided"
        elif self.now >= self.request.expires_at:
            wanted = "request_expired"
        else:
            requests.must_be_open(self.request, self.now)
            return
        with pytest.raises(Refusal) as refused:
            requests.must_be_open(self.request, self.now)
        assert refused.value.code == wanted

    @invariant()
    def what_was_asked_never_changes(self) -> None:
        """I-14: no event touches what an approver signs."""
        assert self.request.digest() == self.born.digest()
        assert replace(self.request, state=self.born.state, note=self.born.note) == self.born


class GrantLife(RuleBasedStateMachine):
    """A grant under any use and any end."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.grant = NOW, samples.grant()
        self.first_use_at = self.over_since = self.deadline = None  # type: Any
        self.reason: EndReason | None = None

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def use(self) -> None:
        """New work starts exactly before the end of a live grant; the TTL runs from the first use."""
        usable = self.grant.state in grants.LIVE and self.now < self.grant.deadline()
        if not usable:
            with pytest.raises(Refusal) as refused:
                grants.first_use(self.grant, self.now)
            by_time = self.grant.state in grants.LIVE or self.reason in TIME
            assert refused.value.code == ("grant_expired" if by_time else "grant_over")
            assert (refused.value.blame is Blame.EXPIRED) == by_time
            return
        before, self.grant = self.grant, grants.first_use(self.grant, self.now)
        if before.not_after is None:
            self.first_use_at = self.now
            assert self.grant.not_after == self.now + self.grant.ttl
        else:
            assert self.grant is before

    @precondition(lambda self: self.grant.state in grants.LIVE)
    @rule(reason=st.sampled_from(EndReason), by=st.sampled_from(["", "pe_x"]))
    def end(self, reason: EndReason, by: str) -> None:
        """Used: it is ENDING until everything is closed. Never used: over at once."""
        used = self.grant.state is GrantState.ACTIVE
        self.grant, self.reason = grants.end(self.grant, reason, now=self.now, by=by), reason
        over = GrantState.EXPIRED if reason in TIME else GrantState.REVOKED
        assert self.grant.state is (GrantState.ENDING if used else over)
        assert (self.grant.ended_at, self.grant.end_reason, self.grant.ended_by) == (self.now, reason, by)

    @precondition(lambda self: self.grant.state not in grants.LIVE)
    @rule(reason=st.sampled_from(EndReason))
    def end_again(self, reason: EndReason) -> None:
        """An end is written once: a second one cannot change who or why."""
        with pytest.raises(IllegalTransition):
            grants.end(self.grant, reason, now=self.now, by="")

    @rule(how=st.sampled_from([grants.ended, grants.stuck, grants.retried]))
    def finish(self, how: Callable[[Grant], Grant]) -> None:
        """ENDING -> over or STUCK; STUCK -> ENDING; nothing else."""
        legal = self.grant.state is (GrantState.STUCK if how is grants.retried else GrantState.ENDING)
        if not legal:
            with pytest.raises((IllegalTransition, Refusal)):
                how(self.grant)
            return
        self.grant = how(self.grant)
        if how is grants.ended:
            assert self.grant.state is (GrantState.EXPIRED if self.reason in TIME else GrantState.REVOKED)

    @invariant()
    def the_end_never_moves(self) -> None:
        """I-03: `not_after` is written once, at first use, and is first use + TTL."""
        expected = None if self.first_use_at is None else self.first_use_at + self.grant.ttl
        assert self.grant.not_after == expected
        assert self.grant.deadline() == (expected or self.grant.must_start_by)

    @invariant()
    def nothing_new_at_the_end(self) -> None:
        """I-01: at `now >= end` nothing starts, with no leeway."""
        if self.now >= self.grant.deadline() or self.grant.state not in grants.LIVE:
            with pytest.raises(Refusal):
                grants.must_be_usable(self.grant, self.now)

    @invariant()
    def over_is_for_ever(self) -> None:
        """No event leads out of EXPIRED or REVOKED."""
        if self.over_since is not None:
            assert self.grant == self.over_since
        if self.grant.state in grants.OVER:
            self.over_since = self.grant


class ActionLife(RuleBasedStateMachine):
    """An action under any events."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.action = replace(samples.action(), state=ActionState.PROPOSED)
        self.born = self.action
        self.went: list[ActionState] = [self.action.state]

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(event=st.sampled_from(ActionEvent), note=st.text(max_size=5))
    def try_event(self, event: ActionEvent, note: str) -> None:
        """A legal event moves it, an illegal one raises; an empty note keeps the last one."""
        if event not in actions.TRANSITIONS.get(self.action.state, {}):
            with pytest.raises(IllegalTransition):
                actions.advance(self.action, event, note=note)
            return
        before, self.action = self.action, actions.advance(self.action, event, note=note)
        assert self.action.note == (note or before.note)
        self.went.append(self.action.state)

    @rule(status=st.none() | st.integers(0, 255), cut=st.booleans())
    def end(self, status: int | None, *, cut: bool) -> None:
        """Only what runs ends; cut wins over whatever it exited with."""
        outcome = Outcome(exit_status=status, signal="", reason="")
        if self.action.state is not ActionState.RUNNING:
            with pytest.raises(IllegalTransition):
                actions.finish(self.action, outcome, cut=cut)
            return
        self.action = actions.finish(self.action, outcome, cut=cut)
        self.went.append(self.action.state)
        assert self.action.state == ("cut" if cut else "succeeded" if status == 0 else "failed")
        assert self.action.outcome == outcome

    @rule()
    def ask_whether_it_is_open(self) -> None:
        """A person's decision counts while it waits and is not late."""
        if self.action.state is ActionState.AWAITING and self.now < self.action.expires_at:
            actions.must_be_open(self.action, self.now)
            return
        with pytest.raises(Refusal) as refused:
            actions.must_be_open(self.action, self.now)
        late = self.action.state is ActionState.AWAITING
        assert refused.value.code == ("approval_expired" if late else "already_decided")

    @invariant()
    def what_runs_is_what_was_proposed(self) -> None:
        """I-10: no event touches what an approver signs, nor the key that merges retries."""
        assert (self.action.digest(), self.action.key()) == (self.born.digest(), self.born.key())

    @invariant()
    def it_runs_once_and_only_when_allowed(self) -> None:
        """RUNNING comes right after ALLOWED, at most once; what is finished stays."""
        if "running" in self.went:
            at = self.went.index(ActionState.RUNNING)
            assert self.went[at - 1] is ActionState.ALLOWED
            assert self.went.count(ActionState.RUNNING) == 1
        assert not any(state in actions.FINISHED for state in self.went[:-1])


TestRequestLife = RequestLife.TestCase
TestGrantLife = GrantLife.TestCase
TestActionLife = ActionLife.TestCase


def test_an_allowed_action_gets_its_own_deadline() -> None:
    """A decision sets until when it can start; without one the old end stays."""
    later = NOW + timedelta(minutes=20)
    action = samples.action()
    assert actions.advance(action, ActionEvent.PERMIT, expires_at=later).expires_at == later
    assert actions.advance(action, ActionEvent.PERMIT).expires_at == action.expires_at


def test_a_grant_without_a_reason_cannot_be_called_ended() -> None:
    """ENDING without saying why is a defect that is refused, not guessed at."""
    with pytest.raises(Refusal, match="not ending"):
        grants.ended(replace(samples.grant(), state=GrantState.ENDING))
