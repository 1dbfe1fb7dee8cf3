"""The small parts of the gated shell, alone: completion, prompt, what a line's end came to."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.action import ActionState, Outcome
from broker.core.shell_line import literal
from broker.proxy.shell.cells import width
from broker.proxy.shell.completion import (
    Completer,
    columns_of,
    escaped,
    listing_of,
    names_in,
    typed,
    unescaped,
    word_start,
)
from broker.proxy.shell.runner import directory_in, status_of
from broker.proxy.shell.words import Place, left, prompt, waiting
from policy.classes import CommandClass, Tier
from policy.shell import Classified, classify
from tests.broker.adapters.store import samples

PLACE = Place(login="deploy", target="web1", tier=Tier.APPROVAL, ceiling=CommandClass.WRITE)


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20))
def test_an_inserted_name_is_one_word(name: str) -> None:
    """F38: whatever a target calls its files, they are typed as words, and never as options."""
    assert unescaped(escaped(name)) == name
    seen = classify(b"cat -- " + typed("", name).encode())
    if isinstance(seen, Classified):
        assert [part.argv for part in seen.parts] == [("cat", "--", name if name[0] != "-" else f"./{name}")]
    assert typed("", f"-{name}").startswith("./-")


@pytest.mark.parametrize("folder", ["", "/", "/a b/", "~/", "~/it's/", "$(id)/", "-rf/", "../"])
def test_a_listing_is_a_read(folder: str) -> None:
    """Whatever was typed before the slash."""
    seen = classify(listing_of(folder))
    assert isinstance(seen, Classified)
    assert (seen.command_class, seen.opaque) == (CommandClass.READ, False)


def test_names_that_a_terminal_would_obey_are_left_out() -> None:
    """And the last one where the listing was cut off."""
    assert names_in(b"a\nx\x1b[2J\n\xff\nb c\ncut of") == ["a", "b c"]


async def test_what_is_quoted_is_not_completed() -> None:
    """A guess inside quotes or an expansion could say something else."""
    asked: list[bytes] = []

    async def listing(command: bytes) -> bytes:
        asked.append(command)
        return b"file\n"

    completer = Completer(["cat"], listing, lambda: 0.0)
    for text in ("cat '/", 'cat "/', "cat $X/", "cat `x/", "cat *", "", "  "):
        assert await completer.complete(text, len(text), cwd="") is None, text
    assert asked == []
    found = await completer.complete("cat x; ca", 9, cwd="")
    assert found is not None
    assert found.texts == ["cat"]
    assert [await completer.complete("cat fi", 6, cwd="") is not None for _ in range(3)] == [True] * 3
    assert len(asked) == 1, "a listing is kept for a moment"


@pytest.mark.parametrize(
    ("before", "start"),
    [("", 0), ("cat fi", 4), ("cat ", 4), ("cat a\\ b", 4), ("a;b", 2), ("x 'y", 3), ("a\\", 2), ("cat ~/x/y", 4)],
)
def test_the_word_at_the_cursor(before: str, start: int) -> None:
    """What Tab goes on with."""
    assert word_start(before) == start


def test_a_long_line_is_completed_at_the_cost_of_its_length() -> None:
    """I-60: a client decides what it sends before it presses Tab."""
    started = time.process_time()
    for _ in range(20):
        word_start("a" * 4_000 + "'")
        word_start("a " * 2_000)
    assert time.process_time() - started < 2


def test_candidates_stand_in_columns() -> None:
    """Down, then across; too many are counted."""
    assert columns_of(["a", "b", "c"], 6) == ["a  c", "b"]
    assert columns_of([str(n) for n in range(300)], 10)[-1] == "... and 100 more"


@given(st.integers(2, 300), st.text(max_size=40).filter(str.isprintable), st.integers(0, 255), st.floats(-5, 90_000))
def test_the_prompt_leaves_room_and_hides_nothing(columns: int, cwd: str, status: int, left_s: float) -> None:
    """Half of the terminal is the line's; what a target called its directory is escaped."""
    pieces = prompt(PLACE, left_s=left_s, cwd=cwd, status=status, columns=columns)
    text = "".join(piece.text for piece in pieces)
    assert text.isprintable()
    assert text.endswith("$ ")
    assert width(text) <= max(columns // 2, 2)


def test_the_prompt_says_where_and_how_long() -> None:
    """Login, target, tier, ceiling, time left, directory, status."""
    pieces = prompt(PLACE, left_s=3_000, cwd="/var/www", status=3, columns=120)
    assert "".join(piece.text for piece in pieces) == "deploy@web1 approval <=write 50m /var/www [3] $ "
    assert [left(seconds) for seconds in (59, 60, 3_599, 3_660, -1)] == ["59s", "1m", "59m", "1h01m", "0s"]


@pytest.mark.parametrize("columns", [5, 20, 60, 100])
def test_what_is_waited_for_fits_into_one_row(columns: int) -> None:
    """It is written over each second."""
    text = "".join(piece.text for piece in waiting("AB12", timedelta(seconds=291), columns=columns))
    assert len(text) < columns
    assert "4:51" in text or columns < 20


@given(st.binary(max_size=60))
def test_only_a_directory_that_can_be_shown_is_one(told: bytes) -> None:
    """I-27."""
    found = directory_in(told)
    assert found == "" or (found.startswith("/") and found.isprintable())
    assert literal(found) is None or "'" not in found


def test_the_status_is_counted_as_bash_does() -> None:
    """Exit, signal, and what did not run to an end."""
    for outcome, state, status in (
        (Outcome(exit_status=3, signal="", reason=""), ActionState.FAILED, 3),
        (Outcome(exit_status=None, signal="INT", reason=""), ActionState.FAILED, 130),
        (Outcome(exit_status=None, signal="NONE", reason=""), ActionState.FAILED, 126),
        (Outcome(exit_status=None, signal="", reason="cancelled"), ActionState.CUT, 126),
        (None, ActionState.DENIED, 126),
    ):
        assert status_of(replace(samples.action(), outcome=outcome, state=state)) == status
