"""Parts of a page: together they are the whole, each begins with its screen, and the player's own rules are kept."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recorder.export.frames import Code, Frame
from recorder.export.parts import IDLE_S, Parts
from recorder.screen import TAIL_BYTES

texts = st.text(alphabet="ab\x1b[1m\r\n\u00e9", max_size=30)
frames = st.lists(
    st.one_of(
        st.builds(lambda text: (Code.OUTPUT, text), texts),
        st.just((Code.RESIZE, "100x30")),
        st.just((Code.MARK, "read: unattended")),
        st.just((Code.EXIT, "0")),
    ),
    max_size=40,
)


def cut(made: list[Frame], *, part_text: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Parts and index."""
    parts = Parts(columns=80, rows=24, part_text=part_text)
    return [json.loads(part) for part in parts.cut(made)], parts.index()


@given(what=frames, gaps=st.lists(st.integers(0, 9_000_000), min_size=40, max_size=40), part_text=st.integers(1, 60))
def test_what_the_player_demands_of_parts(what: list[tuple[Code, str]], gaps: list[int], part_text: int) -> None:
    """Starts rise; events lie within their part, the first at its start, the last at the end; nothing is lost."""
    at, made = 0, []
    for (code, data), gap in zip(what, gaps, strict=False):
        at += gap
        made.append(Frame(at, code, data))
    parts, index = cut(made, part_text=part_text)
    starts = [segment["start"] for segment in index["segments"]]
    assert len(starts) == len(parts)
    assert starts[0] == 0
    assert all(one < two for one, two in pairwise([*starts, index["duration"]]))
    for number, (part, start) in enumerate(zip(parts, starts, strict=True)):
        times = [event[0] for event in part["events"]]
        assert times == sorted(times)
        assert times[0] == start or number == 0
        assert all(time < ([*starts, index["duration"] + 1][number + 1]) for time in times)
    assert parts[-1]["events"][-1][0] == index["duration"]
    kept = [(code, data) for part in parts for _, code, data in part["events"]][:-1]
    assert kept == [(frame.code.value, frame.data) for frame in made if frame.code in (Code.OUTPUT, Code.RESIZE)]
    assert [label for _, label in index["markers"]] == [frame.data for frame in made if frame.code is Code.MARK]


def test_a_part_begins_with_its_screen() -> None:
    """The last 64 KiB as they are, and what was set before them; the size that held then."""
    long = "x" * (TAIL_BYTES + 10)
    made = [
        Frame(0, Code.RESIZE, "100x30"), Frame(1, Code.OUTPUT, "\x1b[?1049h" + long), Frame(2, Code.OUTPUT, "next"),
    ]  # fmt: skip
    (_, second), _ = cut(made, part_text=10)
    assert second["snapshot"] == {"cols": 100, "rows": 30, "init": "\x1bc\x1b[?1049h" + "x" * TAIL_BYTES}


def test_a_pause_is_shown_short_and_told() -> None:
    """Both clocks where it ends: a click on a command after it goes to the right place."""
    made = [Frame(0, Code.OUTPUT, "a"), Frame(60_000_000, Code.OUTPUT, "b"), Frame(61_000_000, Code.OUTPUT, "c")]
    (part,), index = cut(made, part_text=100)
    assert [event[0] for event in part["events"]] == [0, IDLE_S, IDLE_S + 1, index["duration"]]
    assert index["pauses"] == [(60.0, IDLE_S)]
