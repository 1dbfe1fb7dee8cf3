"""Seeking: events from any time on, and the screen just before it, without what lies hours before (formats.md 1.5)."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from recorder import reader as reading
from recorder import screen, track
from recorder.events import Event, Kind
from recorder.outline import outline_of
from recorder.screen import Screen, screen_of
from tests.recorder.export.events import TERMINAL, said
from tests.recorder.recordings import DONE, QUICK, START, meta, reader, store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from recorder.grec import Frame
    from recorder.sealing import Opener


@pytest.fixture
async def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[reading.RecordingReader, list[Event]]:
    """A recording of several parts and many segments, and its events; the bounds are small to match."""
    monkeypatch.setattr(track, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(screen, "TAIL_BYTES", 3000)
    monkeypatch.setattr(reading, "LOOK_BACK_BYTES", 6000)
    noise = random.Random(3)
    with store(tmp_path, replace(QUICK, part_bytes=20_000)) as files:
        sink = await files.create(meta())
        await sink.event(Kind.RESIZE, 0, b"\0\x64\0\x1e", t_us=0)
        await sink.event(Kind.OUT, 0, b"\x1b[?25l", t_us=0)
        for number in range(60):
            await sink.event(Kind.OUT, 0, noise.randbytes(700), t_us=number // 2 * 1000)
            if number % 2 == 0:
                await sink.sync()
        await sink.close(DONE)
        found = reader(files.directory("t1", "rec_1", START))
    return found, list(found.events())


async def test_events_from_any_time(long: tuple[reading.RecordingReader, list[Event]]) -> None:
    """Reading from a time on gives exactly the events that are not before it, in whichever segment or part they lie."""
    found, events = long
    assert len({event.t_us for event in events}) == 30
    for t_us in (0, 1, 500, 1000, 14_000, 14_001, 28_999, 29_000, 99_000):
        assert list(found.events(t_us)) == [event for event in events if event.t_us >= t_us]
        assert list(found.events(t_us, t_us + 2000)) == [e for e in events if t_us <= e.t_us <= t_us + 2000]


async def test_the_screen_before_any_time(long: tuple[reading.RecordingReader, list[Event]]) -> None:
    """The same tail and size as from all events before it; modes as far as it looks back."""
    found, events = long
    for t_us in (0, 1, 1000, 14_000, 29_000, 99_000):
        whole = screen_of([event for event in events if event.t_us < t_us])
        seen = found.screen(t_us)
        assert (seen.columns, seen.rows) == (whole.columns, whole.rows) == ((100, 30) if t_us else (80, 24))
        assert seen.drawing[-3000:] == whole.drawing[-3000:]
    assert found.screen(1).drawing.startswith(b"\x1b[?25l")


async def test_seeking_does_not_read_from_the_start(
    long: tuple[reading.RecordingReader, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seek opens a bounded number of frames, however long the recording is before it."""
    found, _ = long
    opened: list[Frame] = []
    real = reading._events  # noqa: SLF001  how much is decrypted is what this is about

    def noted(opener: Opener, frames: Iterable[Frame]) -> Iterator[Event]:
        kept = list(frames)
        opened.extend(kept)
        return real(opener, kept)

    monkeypatch.setattr(reading, "_events", noted)
    next(found.events(28_000), None)
    assert len(opened) <= 10
    opened.clear()
    found.screen(28_000)
    assert len(opened) <= 16
    opened.clear()
    list(found.events())
    assert len(opened) >= 30


def test_modes_before_the_tail_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full-screen program that has drawn more than the tail is still on its own screen."""
    monkeypatch.setattr(screen, "TAIL_BYTES", 5)
    events = [Event(0, Kind.OUT, 0, b"\x1b[?1049hmany words"), Event(1, Kind.RESIZE, 0, b"\0\x50\0\x18")]
    assert screen_of(events) == Screen(columns=80, rows=24, drawing=b"\x1b[?1049hwords")


def test_an_outline_says_what_was_decided() -> None:
    """Commands with their verdicts, whether there was a terminal, and how long it all took."""
    outline = outline_of(TERMINAL, {"ac_2": "systemctl restart x"})
    assert (outline.duration_us, outline.terminal) == (10_000_000, True)
    assert [(each.t_us, each.verdict[:14]) for each in outline.commands] == [
        (0, "write: approve"),
        (4_000_000, "</script><scri"),
        (9_000_000, "execute: denie"),
    ]
    assert [each.text for each in outline.commands[:2]] == ["vim /etc/hosts", "systemctl restart x"]


def test_a_label_that_is_cut_says_so() -> None:
    """F34: a command that begins harmlessly and is long does not pass for its beginning."""
    (command,) = outline_of([said(0, Kind.EXEC, argv=f"echo {'a' * 500}; rm -rf /srv")], asked={}).commands
    assert command.text.endswith("aaa ... and 18 more characters")
