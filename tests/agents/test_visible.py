"""Escaping: nothing is stripped, nothing commands a terminal, different bytes never look equal."""

from __future__ import annotations

import ast
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grantd.cli.prompt.lines import SPACE_MARK, foreign
from grantd.cli.visible import Output, exact, one_line, readable, units


def decode(shown: str) -> bytes:
    """The inverse of `exact`, written from its description alone."""
    found, at = bytearray(), 0
    while at < len(shown):
        if shown[at] != "\\":
            found += shown[at].encode()
            at += 1
            continue
        kind = shown[at + 1]
        length = {"x": 2, "u": 4, "U": 8}.get(kind, 0)
        if length == 0:
            found += ast.literal_eval(f'b"{shown[at : at + 2]}"')
        elif kind == "x":
            found.append(int(shown[at + 2 : at + 4], 16))
        else:
            found += chr(int(shown[at + 2 : at + 2 + length], 16)).encode()
        at += 2 + length
    return bytes(found)


@given(st.binary(max_size=80))
def test_the_exact_form_gives_the_bytes_back(raw: bytes) -> None:
    """So it is injective: different bytes never look equal (I-11), valid UTF-8 or not."""
    assert decode(exact(raw)) == raw
    assert decode("".join(shown for _, shown in units(raw))) == raw
    assert decode("".join(cell.text for cell in foreign(raw)).replace(SPACE_MARK, " ")) == raw


@given(st.text(max_size=80))
def test_text_and_its_bytes_look_the_same(text: str) -> None:
    """A string is shown as its UTF-8 is."""
    assert exact(text) == exact(text.encode())


@given(st.binary(max_size=80))
def test_the_exact_form_is_printable_ascii(raw: bytes) -> None:
    """No control, bidi, zero-width, combining or look-alike character survives (F38)."""
    assert all(" " <= character <= "~" for character in exact(raw))


@given(st.text(max_size=80))
def test_the_readable_form_commands_nothing(text: str) -> None:
    """No category that controls, joins or reorders; only newline and tab of the controls (F38)."""
    for character in readable(text):
        assert character in "\n\t " or unicodedata.category(character)[0] in "LNPS"
        assert unicodedata.bidirectional(character) not in ("R", "AL", "RLE", "RLO", "RLI", "LRO", "LRE", "PDF")


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("\x1b]52;c;eA==\x07", "\\x1b]52;c;eA==\\x07"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("a\u200bb", "a\\u200bb"),
        ("e\u0301", "e\\u0301"),
        ("\u0430dmin", "\\u0430dmin"),
        ("\u00a0", "\\u00a0"),
        ("\u2028", "\\u2028"),
        ("\x9b31m", "\\u009b31m"),
        (b"\x9b31m", "\\x9b31m"),
        ("\\x1b", "\\\\x1b"),
        ("\U0001f600", "\\U0001f600"),
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
    ],
)
def test_hostile_text_is_shown_escaped(hostile: str | bytes, shown: str) -> None:
    """Never stripped: the approver sees that it is there (F38)."""
    assert exact(hostile) == shown


def test_spaces_that_would_hide_are_marked() -> None:
    """A run of spaces, and one at an end, are middle dots that no text can draw itself."""
    shown = "".join(cell.text for cell in foreign("ls  -l \u00b7 "))
    assert shown == "ls\u00b7\u00b7-l \\u00b7\u00b7"


def test_output_split_inside_a_character_is_put_together() -> None:
    """A target's chunks end where they like."""
    output = Output()
    whole = "gr\u00fcn\x1b[2J".encode()
    assert "".join(output.feed(whole[at : at + 1]) for at in range(len(whole))) == "gr\u00fcn\\x1b[2J"


def test_a_cell_has_one_line() -> None:
    """Tables stay tables."""
    assert one_line("a\nb\tc") == "a\\nb\\tc"
