"""Lanes: whatever hangs in one, the others go on (I-01, I-02)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.service.lanes import Lanes, Places

PLACES = Places(in_all=6, a_lane=2, for_troubled=3)
LANES = "abcdefgh"


def taken(lanes: Lanes[int]) -> list[str]:
    """Everything that may start now."""
    found = []
    while (next_ := lanes.take()) is not None:
        found.append(next_[0])
    return found


def filled(names: str, each: int = 9) -> Lanes[int]:
    """Pieces that wait in each lane."""
    lanes: Lanes[int] = Lanes(PLACES)
    for name in names:
        for number in range(each):
            lanes.put(name, number)
    return lanes


def test_a_lane_has_few_places() -> None:
    """One that hangs takes two, whatever waits there; the others are served, in turn."""
    lanes = filled("ab")
    lanes.put("c", 1)
    assert taken(lanes) == ["a", "b", "c", "a", "b"]


def test_lanes_in_trouble_leave_room_for_the_rest() -> None:
    """However many of them hang: half of all places are for those that work."""
    lanes = filled("abcd")
    for lane in taken(lanes):
        lanes.done(lane, failed=True)
    assert len(taken(lanes)) == PLACES.for_troubled
    lanes.put("e", 1)
    lanes.put("f", 1)
    assert taken(lanes) == ["e", "f"]


def test_a_lane_that_works_again_is_as_good_as_any() -> None:
    """Its last piece counts, not its past."""
    lanes = filled("abcd")
    for lane in taken(lanes):
        lanes.done(lane, failed=True)
    for lane in taken(lanes):
        lanes.done(lane, failed=False)
    assert len(taken(lanes)) == PLACES.in_all


@given(st.lists(st.tuples(st.sampled_from(["put", "take", "done", "fail"]), st.sampled_from(LANES)), max_size=200))
def test_limits_hold_and_nothing_is_lost(steps: list[tuple[str, str]]) -> None:
    """Never more than may run; each piece comes out once, in its lane's order; at the end all have come out."""
    lanes: Lanes[int] = Lanes(PLACES)
    running: list[str] = []
    put: dict[str, list[int]] = {lane: [] for lane in LANES}
    out: dict[str, list[int]] = {lane: [] for lane in LANES}
    for number, (what, lane) in enumerate(steps):
        if what == "put":
            lanes.put(lane, number)
            put[lane].append(number)
        elif what == "take" and (found := lanes.take()) is not None:
            running.append(found[0])
            out[found[0]].append(found[1])
        elif what in ("done", "fail") and running:
            lanes.done(running.pop(), failed=what == "fail")
        assert len(running) <= PLACES.in_all
        assert all(running.count(lane) <= PLACES.a_lane for lane in LANES)
    while len(lanes):
        while (found := lanes.take()) is not None:
            running.append(found[0])
            out[found[0]].append(found[1])
        lanes.done(running.pop(), failed=False)
    assert out == put
