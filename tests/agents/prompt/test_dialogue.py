"""The keys' rules, driven by bytes and times alone."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grantd.cli.prompt.dialogue import (
    BURST_SECONDS,
    MAX_NOTE_BYTES,
    SETTLE_SECONDS,
    Approve,
    Deny,
    Dialogue,
    Effect,
    Explain,
    Hint,
    NextPage,
    Phase,
    Quit,
    Redraw,
    Skip,
)

CODE = "k3jx2a"
HAND = 0.05


def ready(expected: str = "y", pages: int = 1) -> Dialogue:
    """A dialogue whose pages were all drawn at time 0."""
    dialogue = Dialogue(expected=expected, pages=pages)
    for _ in range(pages):
        dialogue.drawn(0.0)
    return dialogue


def feed(dialogue: Dialogue, reads: Iterable[bytes], *, start: float = 10.0, pause: float = HAND) -> list[Effect]:
    """The effects of reads that come `pause` seconds apart."""
    found = [dialogue.read(data, start + number * pause) for number, data in enumerate(reads)]
    return [effect for effect in found if effect is not None]


def keys(text: str) -> list[bytes]:
    """Each character as a read of its own."""
    return [character.encode() for character in text]


def test_y_and_enter_approve_what_reads_or_writes() -> None:
    """The short way, where no code is asked for."""
    assert feed(ready(), keys("y\r")) == [Approve()]


def test_the_code_and_enter_approve_the_rest() -> None:
    """`a`, the code in either case, Enter."""
    assert feed(ready(CODE), keys(f"a{CODE}\r")) == [Approve()]
    assert feed(ready(CODE), keys(f"a{CODE.upper()}\r")) == [Approve()]


@pytest.mark.parametrize(
    "typed", ["\r", "\n", "a\r", "ay\r", "y\r", "yes\r", "ak3jx2\r", "ak3jx2b\r", "\x04", "\x03", ""]
)
def test_nothing_less_than_the_code_approves(typed: str) -> None:
    """Enter alone, `y`, a part of the code, another code, EOF and interrupt never approve (I-15)."""
    assert Approve() not in feed(ready(CODE), keys(typed))


@pytest.mark.parametrize("typed", ["\r", "\n", "a\r", "n\r", "yy\r", "yes\r", " \r"])
def test_nothing_but_y_approves_the_simple_ones(typed: str) -> None:
    """Enter alone and any other word never approve (I-15)."""
    assert Approve() not in feed(ready(), keys(typed))


def test_a_hang_up_leaves() -> None:
    """An empty read is the terminal's end: it leaves, also in the middle of a code (I-15)."""
    assert feed(ready(CODE), [*keys(f"a{CODE}"), b""]) == [Quit()]


@pytest.mark.parametrize("reads", [[b"y\r"], [b"y", b"\r\r"], [b"yy"], [b"\x1b[200~y\r\x1b[201~"]])
def test_two_characters_in_one_read_never_approve(reads: list[bytes]) -> None:
    """That is a paste, bracketed or not (I-15)."""
    dialogue = ready()
    assert feed(dialogue, reads) == []
    assert dialogue.typed == ""


def test_a_paste_in_the_middle_empties_what_was_typed() -> None:
    """Half typed and half pasted is pasted."""
    dialogue = ready(CODE)
    assert feed(dialogue, [*keys("ak3j"), b"x2a", b"\r"]) == []
    assert dialogue.hint is Hint.WRONG


def test_bracketed_paste_is_swallowed_byte_by_byte_too() -> None:
    """A terminal may deliver a paste in single bytes; the brackets still hold (I-15)."""
    paste = f"\x1b[200~a{CODE}\r\x1b[201~"
    assert feed(ready(CODE), keys(paste)) == []
    assert feed(ready(), keys("\x1b[200~y\r\x1b[201~")) == []


def test_a_paste_without_its_end_stays_a_paste() -> None:
    """Only the closing bracket ends it; leaving still works."""
    dialogue = ready()
    assert feed(dialogue, [b"\x1b[200~", *keys("y\r")]) == []
    assert feed(dialogue, [b"\x03"], start=60.0) == [Quit()]


def test_keys_faster_than_a_hand_are_a_paste() -> None:
    """A terminal that hands pasted text over byte by byte is seen by its times (I-15)."""
    assert feed(ready(), keys("y\r"), pause=BURST_SECONDS / 2) == []


@pytest.mark.parametrize(
    "answer", [b"\x1b[?1;2c", b"\x1b]11;rgb:0000/0000/0000\x07", b"\x1bP1$r0m\x1b\\", b"\x1b[24;80R", b"\x1bOA"]
)
def test_a_terminals_answerback_is_no_key(answer: bytes) -> None:
    """Answers to queries are swallowed whole, in one read and byte by byte, and empty what was typed (I-15)."""
    for reads in ([answer], [bytes([byte]) for byte in answer]):
        dialogue = ready()
        assert feed(dialogue, [*reads, b"\r"]) == []
        assert feed(dialogue, keys("y\r"), start=20.0) == [Approve()], "and the keyboard works afterwards"


def test_type_ahead_never_approves() -> None:
    """Keys pressed within the settling time were meant for what stood there before (I-15)."""
    dialogue = ready()
    assert feed(dialogue, keys("y\r"), start=0.0) == []
    assert dialogue.hint is Hint.EARLY
    late = ready()
    assert feed(late, [b"y"], start=SETTLE_SECONDS - 0.01) == []
    assert feed(late, [b"\r"], start=SETTLE_SECONDS + 0.1) == [], "its y came too early, so this Enter stands alone"


def test_yes_is_impossible_before_the_last_page() -> None:
    """A card longer than the screen has to be paged to its end (I-11)."""
    dialogue = Dialogue(expected="y", pages=3)
    dialogue.drawn(0.0)
    assert feed(dialogue, keys("y\r")) == [NextPage()], "y does nothing, Enter turns the page"
    dialogue.drawn(11.0)
    assert feed(dialogue, keys("ay"), start=20.0) == []
    assert dialogue.hint is Hint.UNREAD
    assert feed(dialogue, keys(" "), start=30.0) == [NextPage()]
    dialogue.drawn(31.0)
    assert feed(dialogue, keys("y\r"), start=40.0) == [Approve()]


def test_a_page_turn_is_not_an_early_yes() -> None:
    """Keys that come right behind the last Space were pressed before the page could be read (I-15)."""
    dialogue = Dialogue(expected="y", pages=2)
    dialogue.drawn(0.0)
    assert feed(dialogue, [b" "], start=10.0) == [NextPage()]
    dialogue.drawn(10.0)
    assert feed(dialogue, keys("y\r"), start=10.1) == []


def test_the_other_keys() -> None:
    """Each key once."""
    assert feed(ready(), keys("e")) == [Explain()]
    assert feed(ready(), keys("s")) == [Skip()]
    assert feed(ready(), keys("q")) == [Quit()]
    assert feed(ready(), keys("r")) == [Redraw()]
    assert feed(ready(), keys("\x03")) == [Quit()]


def test_letters_of_a_code_are_not_keys() -> None:
    """A code that starts like a command is still a code."""
    assert feed(ready("deqs2a"), keys("adeqs2a\r")) == [Approve()]


def test_correcting_and_going_back() -> None:
    """Backspace takes one back, Escape all."""
    assert feed(ready(CODE), keys(f"a{CODE}x\x7f\r")) == [Approve()]
    dialogue = ready(CODE)
    assert feed(dialogue, [*keys(f"a{CODE}"), b"\x1b"]) == []
    assert (dialogue.phase, dialogue.typed) == (Phase.CHOOSING, "")
    assert feed(dialogue, keys("\r"), start=20.0) == []


def test_a_denial_carries_a_note() -> None:
    """`d`, a few words, Enter."""
    assert feed(ready(), keys("dnot on friday\r")) == [Deny("not on friday")]
    assert feed(ready(), keys("d\r")) == [Deny("")]


def test_a_note_may_be_pasted_but_only_a_key_sends_it() -> None:
    """A paste denies nothing by its own line break, and brings no control characters along."""
    dialogue = ready()
    assert feed(dialogue, [b"d", b"\x1b[200~two\nlines\x1b[31m\x1b[201~"]) == []
    assert feed(dialogue, [b"\r"], start=20.0) == [Deny("two lines")]


def test_a_note_has_a_limit() -> None:
    """The wire's 512 bytes, counted in bytes."""
    dialogue = ready()
    feed(dialogue, [b"d", *("\u00e4".encode() for _ in range(400))])
    assert len(dialogue.note.encode()) == MAX_NOTE_BYTES


def test_explaining_does_not_keep_what_was_typed() -> None:
    """What is drawn in between empties the input and has to settle."""
    dialogue = ready(CODE)
    feed(dialogue, keys(f"a{CODE}"))
    dialogue.drawn_more(20.0)
    assert feed(dialogue, [b"\r"], start=20.1) == []
    assert feed(dialogue, [b"\r"], start=30.0) == []


READS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(
                [b"y", b"\r", b"\n", b"a", b"k", b"\x1b", b"[", b" ", b"y\r", b"\x1b[200~", b"\x1b[201~", b"~"]
            ),
            st.binary(min_size=1, max_size=4),
        ),
        st.sampled_from([0.0, 0.001, 0.02, 0.3, 1.0]),
    ),
    max_size=30,
)


@given(reads=READS, pages=st.integers(1, 3), draws=st.lists(st.integers(0, 29), max_size=4))
def test_only_deliberate_keys_after_the_last_page_approve(
    reads: list[tuple[bytes, float]], pages: int, draws: list[int]
) -> None:
    """Whatever comes, a yes was a lone `y` and a lone Enter, by hand, settled, after the last page (I-11, I-15)."""
    dialogue = Dialogue(expected="y", pages=pages)
    at, drawn_at, last = 0.0, 0.0, float("-inf")
    dialogue.drawn(at)
    deliberate: list[bytes] = []
    for number, (data, pause) in enumerate(reads):
        at += pause
        effect = dialogue.read(data, at)
        by_hand = len(data) == 1 and at - last >= BURST_SECONDS and at >= drawn_at + SETTLE_SECONDS
        last = at
        deliberate = [*deliberate, data] if by_hand else []
        if effect == Approve():
            assert dialogue.page == pages
            assert deliberate[-1] in (b"\r", b"\n")
            assert b"y" in deliberate[:-1]
            return
        if effect == NextPage() or (number in draws and dialogue.page < pages):
            dialogue.drawn(at)
            drawn_at = at
            deliberate = []
