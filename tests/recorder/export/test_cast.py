"""Asciicasts: exact times, whole characters, and nothing that could act on a terminal (I-27, F38)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.escape import visible
from recorder.events import Event, Kind
from recorder.export.cast import Version, cast
from tests.recorder.export.events import ABOUT, COMMAND, HOSTILE, TERMINAL
from tests.recorder.test_terminal import SAFE


def read(events: list[Event], version: Version, *, with_input: bool = False) -> tuple[dict[str, Any], list[list[Any]]]:
    """(header, events) as a player would read them."""
    head, *rest = (json.loads(line) for line in cast(events, ABOUT, version=version, with_input=with_input))
    return head, rest


def test_a_terminal_in_version_3() -> None:
    """Size from the first resize, intervals of whole milliseconds, the split character whole, status 137 as `x`."""
    head, events = read(TERMINAL, Version.THREE)
    assert head["version"] == 3
    assert head["term"] == {"cols": 100, "rows": 30, "type": "xterm-256color"}
    assert (head["timestamp"], head["title"]) == (1795338000, visible(HOSTILE))
    assert head["grantd"]["root"] == f"{bytes(range(32)).hex()} (7 leaves)"
    assert head["grantd"]["exported by"] == "auditor (pe_1), 2026-11-22 10:00:00 UTC"
    assert events == [
        [0.0, "m", "write: approved (1)"],
        [1.0, "o", "\x1b[?1049h\x1b[31mred\x1b[0m caf"],
        [0.001, "o", "\u00e9\n"],
        [1.999, "r", "80x24"],
        [1.0, "m", visible(HOSTILE)],
        [5.0, "m", "execute: denied"],
        [0.5, "o", "needle in the \x1b[1mhaystack\x1b[0m\r\n" + HOSTILE.removesuffix("\x1b]0;t\x07")],
        [0.5, "x", "137"],
    ]


def test_a_terminal_in_version_2() -> None:
    """Times since the start; version 2 has no exit."""
    head, events = read(TERMINAL, Version.TWO, with_input=True)
    assert (head["version"], head["width"], head["height"]) == (2, 100, 30)
    assert [event[0] for event in events] == [0.0, 1.0, 1.001, 2.0, 3.0, 4.0, 9.0, 9.5]
    assert [2.0, "i", "secret"] in events


def test_keystrokes_only_where_asked_for() -> None:
    """A password that was typed does not leave with every export (I-36)."""
    assert "secret" not in "".join(cast(TERMINAL, ABOUT, version=Version.THREE, with_input=False))


def test_a_command_without_a_terminal() -> None:
    """Bare line feeds start new lines, stderr is on the same screen, losses and signals are marks."""
    head, events = read(COMMAND, Version.THREE)
    assert head["term"]["cols"] == 80
    assert [event[1:] for event in events] == [
        ["o", "out "],
        ["o", "err\r\n"],
        ["o", "\u20ac\r\ntwo\r\n"],
        ["m", "recording lost 12 bytes"],
        ["m", ""],
        ["o", '{"op":"read","path":"\\\\u001b[31m"}\r\n'],
        ["m", "ended: KILL"],
    ]


TIMES = st.lists(st.integers(0, 10**9), max_size=40).map(sorted)


@given(TIMES)
def test_intervals_never_drift(times: list[int]) -> None:
    """Summed up, version 3 says the same times as version 2, to the millisecond, however long the session."""
    events = [Event(t_us, Kind.OUT, 0, b"x") for t_us in times]
    at_ms, summed = 0, []
    for event in read(events, Version.THREE)[1]:
        at_ms += round(event[0] * 1000)
        summed.append(at_ms)
    assert summed == [round(event[0] * 1000) for event in read(events, Version.TWO)[1]]
    assert summed == [round(t_us / 1000) for t_us in times]


@given(st.lists(st.tuples(st.sampled_from([*Kind, 99]), st.binary(max_size=40)), max_size=12), st.sampled_from(Version))
def test_any_recording_becomes_a_harmless_cast(pieces: list[tuple[int, bytes]], version: Version) -> None:
    """Any events at all: lines of JSON, and in them only drawing and printable text."""
    events = [Event(number, kind, 0, payload) for number, (kind, payload) in enumerate(pieces)]
    head, rest = read(events, version, with_input=True)
    assert head["version"] == version
    for _, code, data in rest:
        left = SAFE.sub("", data) if code in "oi" else data
        assert all(char.isprintable() or char in "\t\ufffd" for char in left)


@given(st.text(max_size=30), st.data())
def test_characters_survive_any_split(text: str, data: st.DataObject) -> None:
    """Wherever the bytes were cut, what is shown is the same."""
    raw = text.encode("utf-8", "surrogatepass")
    cut = data.draw(st.integers(0, len(raw)))
    whole = read([Event(0, Kind.OUT, 0, raw)], Version.THREE)[1]
    parts = read([Event(0, Kind.OUT, 0, raw[:cut]), Event(0, Kind.OUT, 0, raw[cut:])], Version.THREE)[1]
    assert "".join(event[2] for event in parts).replace("\r", "") == "".join(e[2] for e in whole).replace("\r", "")


@pytest.mark.parametrize("size", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_absurd_sizes_are_bounded(size: bytes) -> None:
    """A size that no player could draw is brought into range."""
    term = read([Event(0, Kind.RESIZE, 0, size)], Version.THREE)[0]["term"]
    assert 1 <= term["cols"] <= 1000
    assert 1 <= term["rows"] <= 1000
