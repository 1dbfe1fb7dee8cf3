"""How long a grant lasts by both clocks (I-05): no walk of the clocks makes it longer.

A clock that moved back ends issuing until it has caught up.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.clock import Instant
from broker.core.errors import Blame, Refusal
from broker.core.grant import Grant, GrantState, first_use
from broker.core.ids import GrantId, render
from broker.service.leases import MAX_STEP_BACK, Leases, both
from tests.broker.adapters.store.fixtures import NOW
from tests.broker.adapters.store.samples import grant

TTL = 1_800.0
START = Instant(wall=NOW, mono=500.0)


def active() -> Grant:
    """First used at START, for half an hour."""
    return first_use(replace(grant(), ttl=timedelta(seconds=TTL)), NOW)


def at(wall_s: float, mono_s: float) -> Instant:
    """Seconds since START on either clock."""
    return Instant(wall=NOW + timedelta(seconds=wall_s), mono=START.mono + mono_s)


def is_trusted(leases: Leases, instant: Instant) -> bool:
    """Whether something could be issued."""
    try:
        assert leases.trusted(instant) is instant
    except Refusal as refusal:
        if (refusal.code, refusal.blame) != ("clock_moved_back", Blame.UNAVAILABLE):
            raise
        return False
    return True


def many(number: int) -> GrantId:
    """Of so many grants the n-th."""
    return GrantId(render("grant", number.to_bytes(16, "big")))


# wall steps go both ways by up to a day; the monotonic clock only ever goes on
STEPS = st.lists(st.tuples(st.floats(-86_400, 86_400), st.floats(0, 3_600)), min_size=1, max_size=30)


@given(STEPS)
def test_no_walk_of_the_clocks_lengthens_a_grant(steps: list[tuple[float, float]]) -> None:
    """What is left never grows, never outlasts the monotonic end, and what was over stays over (I-03, I-05)."""
    leases, using, wall, mono = Leases(), active(), 0.0, 0.0
    least = leases.left(using, START)
    assert least == pytest.approx(TTL)
    for by_wall, by_mono in steps:
        wall, mono = wall + by_wall, mono + by_mono
        left = leases.left(using, at(wall, mono))
        assert left <= least
        assert left <= TTL - mono + 1e-6
        assert left <= TTL - wall + 1e-5
        least = left


@given(st.lists(st.floats(0, 60), min_size=1, max_size=10), st.floats(-86_400, 86_400))
def test_a_reading_that_had_to_wait_shortens_nothing(waits: list[float], step: float) -> None:
    """A unit of work asks by the reading it began with, while others look: the end stays where the clocks put it."""
    leases, using = Leases(), active()
    for waited in waits:
        leases.latest(at(waited, waited))
        assert leases.left(using, START) == pytest.approx(TTL, abs=1e-3)
    # and one that moves shortens what an older reading finds no less than what a new one does
    newest = max(waits)
    leases.latest(at(newest + step, newest))
    left = leases.left(using, START)
    assert left == pytest.approx(min(TTL, TTL - step), abs=1e-3)
    assert leases.left(using, at(newest + step, newest)) <= left - newest + 1e-3


ASKED = st.lists(
    st.tuples(
        st.sampled_from(["left", "latest", "trusted", "remember", "now"]),
        st.floats(-86_400, 86_400) | st.floats(-6, 6) | st.just(0.0),  # by which the wall clock is set
        st.floats(0, 600) | st.just(0.0),  # seconds that pass
        st.integers(0, 9),  # which of the last readings is used
        st.integers(0, 2),  # whose grant is asked for
    ),
    min_size=1,
    max_size=40,
)


@given(ASKED)
def test_no_order_of_readings_old_and_new_lengthens_or_revives(asked: list[tuple[str, float, float, int, int]]) -> None:
    """I-05: whoever asks, by whatever reading, after whatever was seen: an end only ever comes nearer."""
    leases, readings, offset, mono = Leases(), [START], 0.0, 0.0
    grants = [replace(active(), id=many(n), not_after=NOW + timedelta(seconds=TTL / (n + 1))) for n in range(3)]
    ends: dict[GrantId, float] = {}
    for what, by_wall, by_mono, back, whose in asked:
        offset, mono = offset + by_wall, mono + by_mono
        readings.append(at(mono + offset, mono))
        instant = readings[-1] if what == "now" else readings[max(0, len(readings) - 1 - back)]
        using = grants[whose]
        match what:
            case "latest":
                assert leases.latest(instant).wall >= instant.wall
            case "trusted":
                is_trusted(leases, instant)
            case "remember":
                leases.remember(replace(instant, mono=START.mono + mono))
            case _:
                left = leases.left(using, instant)
                assert left <= (using.deadline() - instant.wall).total_seconds() + 1e-3
                assert instant.mono + left <= ends.get(using.id, float("inf")) + 1e-6
                ends[using.id] = instant.mono + left


def test_a_first_use_that_was_not_written_costs_nothing() -> None:
    """Its transaction failed: the next one has an end of its own. What was seen of that one only comes nearer."""
    leases, waiting = Leases(), replace(grant(), ttl=timedelta(seconds=TTL))
    assert leases.left(first_use(waiting, NOW), START) == pytest.approx(TTL)
    later = at(300, 300)
    using = first_use(waiting, later.wall)
    assert leases.left(using, later) == pytest.approx(TTL)
    assert leases.left(using, at(900, 300)) == pytest.approx(TTL - 600)
    assert leases.left(using, later) == pytest.approx(TTL - 600)


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurried")
def test_any_thread_may_ask() -> None:
    """Units of work ask on their own threads, while the loop forgets: nobody fails, and no end is lost or moved away.

    Thousands are counted, so that what is long over is dropped meanwhile.
    """
    leases, over, stop = Leases(), active(), threading.Event()
    assert leases.left(over, at(TTL, 0)) <= 0

    def ask(which: int) -> None:
        for n in range(8_000):
            passed = 10 * n
            one = replace(over, id=many(which << 20 | n), not_after=NOW + timedelta(seconds=passed))
            leases.left(one, at(passed, passed))
            if n % 100 == 0:
                assert leases.left(over, START) <= 0
            if n % 2:
                leases.forget(one.id)

    def look() -> None:
        while not stop.is_set():
            leases.latest(START)

    with ThreadPoolExecutor(4) as threads:
        asking, looking = [threads.submit(ask, which) for which in (1, 2, 3)], threads.submit(look)
        try:
            for each in asking:
                each.result()
        finally:
            stop.set()
        looking.result()
    assert leases.left(over, START) <= 0


def test_time_goes_on_while_the_wall_clock_stands_still() -> None:
    """A frozen wall clock is no way to keep access."""
    leases, using = Leases(), active()
    leases.left(using, START)
    assert leases.left(using, at(0, 100)) == pytest.approx(TTL - 100)
    assert leases.left(using, at(0, TTL)) <= 0


def test_over_stays_over_when_the_clock_is_set_back() -> None:
    """A clock that ran ahead ended the grant; setting it right does not bring it back."""
    leases, using = Leases(), active()
    leases.left(using, START)
    assert leases.left(using, at(TTL, 1)) <= 0
    assert leases.left(using, at(2, 2)) < 0


def test_a_grant_that_nobody_used_ends_by_its_start_deadline() -> None:
    """Its TTL has not begun: what is left is the time to begin it."""
    waiting = grant()
    assert waiting.state is GrantState.APPROVED
    assert Leases().left(waiting, START) == (waiting.must_start_by - NOW).total_seconds()


def test_grants_are_counted_apart_and_forgotten_apart() -> None:
    """One that is over leaves no trace in another, nor in itself once it is forgotten."""
    leases, one = Leases(), active()
    other = replace(one, id=GrantId("gr_" + "b" * 26), not_after=NOW + timedelta(seconds=2 * TTL))
    assert leases.left(one, at(TTL, TTL)) <= 0
    assert leases.left(other, at(TTL, TTL)) == pytest.approx(TTL)
    leases.forget(one.id)
    leases.forget(one.id)
    renewed = replace(one, not_after=NOW + timedelta(seconds=3 * TTL))
    assert leases.left(renewed, at(TTL, TTL)) == pytest.approx(2 * TTL)


def test_a_clock_behind_what_was_seen_before_lengthens_nothing() -> None:
    """I-05: back a day at restart: what had ten minutes left has no more than that, what was over stays over."""
    leases, using = Leases(), active()
    leases.remember(at(TTL - 600, 0))
    assert leases.latest(at(-86_400, 0)).wall == at(TTL - 600, 0).wall
    assert leases.left(using, at(-86_400, 0)) == pytest.approx(600)
    assert leases.left(using, at(-86_400 + 600, 600)) <= 0


def test_what_is_long_over_is_forgotten_and_stays_over() -> None:
    """Thousands of grants that nobody told it to forget: few are kept, and a wall clock at half speed revives none."""
    leases, using = Leases(), active()
    assert leases.left(using, START) == pytest.approx(TTL)
    for number in range(3_200):
        seen = replace(using, id=many(number), not_after=NOW + timedelta(seconds=number / 2 + 30))
        leases.left(seen, at(number / 2, number))
    assert len(leases) < 2_400
    assert leases.left(using, at(1_600, 3_200)) <= 0, "by the wall clock alone it had 200 seconds left"
    assert leases.left(replace(using, id=many(9_999)), at(1_600, 3_200)) <= 0
    late = replace(using, id=many(9_998), not_after=NOW + timedelta(seconds=2 * TTL))
    assert leases.left(late, at(1_600, 3_200)) == pytest.approx(2 * TTL - 1_600)


def test_the_first_use_begins_another_count() -> None:
    """While it waited for that, it had another end; a reading of then neither shortens nor lengthens the TTL."""
    leases, waiting = Leases(), replace(grant(), ttl=timedelta(seconds=TTL), must_start_by=NOW + timedelta(seconds=60))
    assert leases.left(waiting, START) == 60
    assert leases.left(first_use(waiting, NOW), START) == pytest.approx(TTL)


@pytest.mark.parametrize(("back_s", "trusted"), [(0.0, True), (4.9, True), (5.0, True), (5.1, False), (86_400, False)])
def test_a_step_back_of_more_than_five_seconds_stops_issuing(back_s: float, trusted: bool) -> None:  # noqa: FBT001
    """I-05. Small corrections of a clock are daily business."""
    assert MAX_STEP_BACK.total_seconds() == 5
    leases = Leases()
    assert is_trusted(leases, at(100, 100))
    assert is_trusted(leases, at(100 - back_s, 100)) is trusted
    assert timedelta(seconds=5) == MAX_STEP_BACK


def test_it_goes_on_once_the_clock_is_right_again() -> None:
    """Not because it passed its old mark an hour late: the time that passed meanwhile has passed."""
    leases = Leases()
    assert is_trusted(leases, at(100, 100))
    assert not is_trusted(leases, at(40, 100))
    assert not is_trusted(leases, at(101, 161))
    assert is_trusted(leases, at(156, 161))
    assert is_trusted(leases, at(162, 162))


def test_a_step_back_hides_in_no_stretch_of_elapsed_time() -> None:
    """The clock stepped back a minute while 50 s, or 61 s, went by unseen: it shows 60 s too little."""
    for passed in (50, 61):
        leases = Leases()
        assert is_trusted(leases, at(100, 100))
        assert not is_trusted(leases, at(100 + passed - 60, 100 + passed))


def test_several_small_steps_are_one_large_step() -> None:
    """The mark stays where it was until the clock passes it."""
    leases = Leases()
    assert is_trusted(leases, at(100, 100))
    assert is_trusted(leases, at(97, 100))
    assert not is_trusted(leases, at(94, 100))


@given(STEPS)
def test_it_trusts_exactly_what_is_not_behind(steps: list[tuple[float, float]]) -> None:
    """The law itself: refused if and only if the wall clock shows more than 5 s too little, counted from its mark."""
    leases, wall, mono, mark = Leases(), 0.0, 0.0, at(0, 0)
    assert is_trusted(leases, mark)
    for by_wall, by_mono in steps:
        wall, mono = wall + by_wall, mono + by_mono
        now = at(wall, mono)
        missing = mark.wall + timedelta(seconds=now.mono - mark.mono) - now.wall
        assert is_trusted(leases, now) is (missing <= MAX_STEP_BACK)
        mark = now if missing <= MAX_STEP_BACK and now.wall >= mark.wall else mark


def test_a_start_behind_what_was_seen_before_issues_nothing() -> None:
    """I-05: the newest entry of any log is a moment that has been."""
    leases = Leases()
    leases.remember(at(0, 0))
    leases.remember(at(3_600, 0))
    leases.remember(at(60, 0))
    assert not is_trusted(leases, at(120, 1))
    assert not is_trusted(leases, at(3_594, 1))
    assert is_trusted(leases, at(3_596, 0))
    assert is_trusted(leases, at(3_700, 1))


class Interrupted:
    """A machine that takes the processor away between two looks at its clocks, the first times."""

    def __init__(self, times: int, for_s: float) -> None:
        self._for_s, self._mono, self._pauses = for_s, 500.0, times
        self.looks = 0

    def _pass(self, seconds: float) -> None:
        self._mono += seconds

    def monotonic(self) -> float:
        seen = self._mono
        self.looks += 1
        if self._pauses:
            self._pauses -= 1
            self._pass(self._for_s)
        return seen

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self._mono - 500.0)


def test_two_clocks_are_read_as_one() -> None:
    """I-05: a delay between the two looks is no step of a clock; the reading is made again."""
    instant = both(Interrupted(1, 0.2))
    assert instant.wall == NOW + timedelta(seconds=instant.mono - 500.0)


def test_a_machine_that_never_lets_them_be_read_as_one_ends_access_earlier() -> None:
    """I-05: never later; and it is not tried for ever."""
    clock = Interrupted(1_000, 0.2)
    instant = both(clock)
    assert instant.wall > NOW + timedelta(seconds=instant.mono - 500.0)
    assert clock.looks == 10
    now = clock.monotonic()
    assert Leases().left(active(), instant) - (now - instant.mono) < TTL - (now - 500.0)
