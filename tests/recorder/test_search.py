"""Search: filters hide nothing, say nothing without two keys, and spare the recordings that cannot match ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder import wordfilter
from recorder.errors import RecordingInvalid
from recorder.events import Event, Kind
from recorder.reader import Expected, RecordingReader
from recorder.search import NAME, index, kept_filter, search
from recorder.wordfilter import WordFilter
from recorder.words import Wanted, distinct, texts, words_in
from tests.recorder.export.events import said
from tests.recorder.recordings import DEK, DONE, START, meta, reader, store

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(64, 96))
OTHER = bytes(range(32, 64))
SALT = bytes(24)


def found(word: str, *pieces: bytes) -> list[str]:
    """The lines in which a word is found, of output that came in these pieces."""
    return [hit.line for hit in Wanted(word).found(Event(n, Kind.OUT, 0, piece) for n, piece in enumerate(pieces))]


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("needle", (b"a needle\r\n",)),
        ("Needle", (b"nee", b"dle", b" in it")),
        ("needle", (b"nee\x1b[1mdle\x1b[0m",)),
        ("connection refused", (b"Connection refused",)),
        ("10.0.0.5", (b"to 10.0.0.5:22",)),
        ("stra\u00dfe", ("Stra\u00dfe".encode()[:5], "Stra\u00dfe".encode()[5:])),
        ("one", (b"\x1b[5;1Hone\x1b[6;1Htwo",)),
        ("x", (b"\x1b]0;title\x07x",)),
    ],
)
def test_words_are_found_as_people_read_them(word: str, pieces: tuple[bytes, ...]) -> None:
    """In any case, across pieces and colours; what moves the cursor parts words."""
    assert len(found(word, *pieces)) == 1


@pytest.mark.parametrize(("word", "piece"), [("need", b"needle"), ("eedle", b"needle"), ("title", b"\x1b]0;title\x07")])
def test_parts_of_words_are_not_words(word: str, piece: bytes) -> None:
    """The answer must not depend on whether there is a filter, which knows whole words; titles are never shown."""
    assert found(word, piece) == []


def test_a_hit_is_a_line_and_its_time() -> None:
    """Each line once, without colours; what was asked for and decided is found too."""
    events = [
        said(0, Kind.EXEC, argv="grep needle"),
        said(1, Kind.MARK, label="read: unattended"),
        Event(5, Kind.OUT, 0, b"first\nthe \x1b[31mneedle\x1b[0m and the needle\nlast nee"),
        Event(7, Kind.ERR, 0, b"no needle"),
        Event(9, Kind.OUT, 0, b"dle" + b"." * 400),
        Event(9, Kind.IN, 0, b"needle typed"),
        Event(9, Kind.MARK, 0, b"["),
        Event(9, 99, 0, b"needle"),
    ]
    assert [(hit.t_us, hit.line[:25]) for hit in Wanted("NEEDLE").found(events)] == [
        (0, "grep needle"),
        (5, "the needle and the needle"),
        (5, "last needle" + "." * 14),
        (7, "no needle"),
    ]
    assert [hit.t_us for hit in Wanted("unattended").found(events)] == [1]


def test_both_names_of_a_file_that_is_renamed_are_found() -> None:
    """Where something went is as much in the recording as where it was."""
    events = [said(0, Kind.SFTP, op="rename", path="/srv/old", to="/srv/fresh")]
    assert [len(list(Wanted(word).found(events))) for word in ("old", "fresh", "rename")] == [1, 1, 1]


def test_endless_lines_are_read_in_bounded_pieces() -> None:
    """A line that never ends costs no more memory than a piece, and is searched all the same."""
    pieces = [b"word " * 4000, b"x" * 20_000, b"needle " * 3000]
    read = list(texts(Event(n, Kind.OUT, 0, piece) for n, piece in enumerate(pieces)))
    assert max(len(text) for _, text in read) <= 60_000
    assert found("needle", *pieces)


@pytest.mark.parametrize("text", ["", "  ", "-_-", "\u202e"])
def test_nothing_to_search_for(text: str) -> None:
    """A search needs a word."""
    with pytest.raises(ValueError, match="nothing"):
        Wanted(text)


OUTPUT = st.lists(
    st.binary(max_size=20)
    | st.sampled_from([b"Some", b"words", b" ", b"\n", b"\x1b[1m", b"\x1b[2;2H", "\u03a3\u00df".encode()]),
    max_size=12,
)


@given(OUTPUT, st.data())
def test_a_filter_hides_nothing(pieces: list[bytes], data: st.DataObject) -> None:
    """Whatever a search finds, the filter lets through; every word that was read is in it."""
    events = [Event(n, Kind.OUT, 0, piece) for n, piece in enumerate(pieces)]
    words = [word for _, text in texts(events) for word in words_in(text)]
    made = WordFilter.of(words, KEY)
    assert all(made.may_hold([word], KEY) for word in words)
    sought = data.draw(st.sampled_from(words) if words else st.just("a")) + data.draw(st.sampled_from(["", " some"]))
    wanted = Wanted(sought)
    if any(True for _ in wanted.found(events)):
        assert made.may_hold(wanted.words, KEY)


@given(OUTPUT, OUTPUT)
def test_the_words_of_a_filter_are_those_of_the_text(pieces: list[bytes], more: list[bytes]) -> None:
    """What is read quickly for a filter is what a search reads: not a word more or less, whatever was printed."""
    events = [said(0, Kind.EXEC, argv="grep N\u00e9edle_1"), *(Event(1, Kind.OUT, 0, piece) for piece in pieces)]
    events += [Event(2, Kind.ERR, 0, b"a_b" + bytes(range(128)) * 2 + b"W" * 70), Event(3, Kind.MARK, 0, b"[")]
    events += [Event(4, Kind.ERR, 0, piece.upper()) for piece in more]
    read = {word for some in distinct(events) for word in some}
    assert read == {word for _, text in texts(events) for word in words_in(text)}


@given(st.lists(st.text(st.characters(max_codepoint=127)).map(str.encode), max_size=8))
def test_the_words_of_plain_output_too(pieces: list[bytes]) -> None:
    """Where no colour and no other script stands in between."""
    events = [
        Event(n, Kind.OUT, 0, piece.replace(b"\x1b", b"") + b"\n") for n, piece in enumerate([b"w" * 70, *pieces])
    ]
    read = {word for some in distinct(events) for word in some}
    assert read == {word for _, text in texts(events) for word in words_in(text)}


def test_few_recordings_are_looked_into_for_nothing() -> None:
    """12 bits and 8 probes a word: about 1 in 300; and under another tenant's key it says nothing."""
    made = WordFilter.of((f"word{number}" for number in range(2000)), KEY)
    assert len(made.bits) == 3001
    assert sum(made.may_hold([f"other{number}"], KEY) for number in range(10_000)) < 80
    assert sum(made.may_hold([f"word{number}"], OTHER) for number in range(2000)) < 30


def test_too_many_words_are_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound everything is let through: slow, never wrong."""
    monkeypatch.setattr(wordfilter, "MAX_WORDS", 3)
    assert WordFilter.of("abcde", KEY).may_hold(["z"], KEY)


@given(st.data())
def test_a_filter_is_sealed_to_its_recording(data: st.DataObject) -> None:
    """Another data key, another recording, any altered byte, any cut: refused."""
    file = WordFilter.of(["secret"], KEY).seal(dek=DEK, bound_to=b"rec_1", salt=SALT)
    assert WordFilter.open(file, dek=DEK, bound_to=b"rec_1").may_hold(["secret"], KEY)
    at = data.draw(st.integers(0, len(file) - 1))
    altered = file[:at] + bytes([file[at] ^ data.draw(st.integers(1, 255))]) + file[at + 1 :]
    for bad, dek, name in (
        (altered, DEK, b"rec_1"),
        (file[:at], DEK, b"rec_1"),
        (file, OTHER, b"rec_1"),
        (file, DEK, b"2"),
    ):
        with pytest.raises(RecordingInvalid):
            WordFilter.open(bad, dek=dek, bound_to=name)


async def recorded(root: Path, output: bytes) -> RecordingReader:
    """A finished recording of this output."""
    with store(root) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, output)
        await sink.close(DONE)
        return reader(files.directory("t1", "rec_1", START))


async def test_a_search_uses_the_filter_and_does_without(tmp_path: Path) -> None:
    """Built once, at the end; it spares reading; gone, foreign or damaged, the recording is read instead."""
    found_in = await recorded(tmp_path, b"a needle in it\n")
    assert [hit.line for hit in search(found_in, Wanted("needle"), KEY, limit=5)] == ["a needle in it"]
    assert index(found_in, KEY)
    assert not index(found_in, KEY)
    file = found_in.beside(NAME)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir() if path.suffix != ".grec"] == [NAME]
    assert b"needle" not in file.read_bytes()
    assert search(found_in, Wanted("needle"), KEY, limit=5)
    part = file.with_name("p0000.grec")
    sealed = part.read_bytes()
    part.write_bytes(sealed[:-60] + bytes(60))
    assert search(found_in, Wanted("haystack"), KEY, limit=5) == []  # the filter says no: nothing is read
    with pytest.raises(RecordingInvalid):
        search(found_in, Wanted("needle"), KEY, limit=5)
    part.write_bytes(sealed)
    for damaged in (b"", file.read_bytes()[:-1], WordFilter.of(["x"], KEY).seal(dek=OTHER, bound_to=b"", salt=SALT)):
        file.write_bytes(damaged)
        assert kept_filter(found_in) is None
        assert search(found_in, Wanted("needle"), KEY, limit=5)
    assert index(found_in, KEY)


async def test_only_what_has_ended_is_indexed(tmp_path: Path) -> None:
    """A recording that still grows, or that broke off, has no filter: it would hide what is yet to come."""
    with store(tmp_path) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, b"now\n")
        await sink.sync()
        growing = reader(files.directory("t1", "rec_1", START))
        assert not index(growing, KEY)
        await sink.event(Kind.OUT, 0, b"needle\n")
        await sink.close(DONE)
    assert index(growing, KEY)
    assert search(growing, Wanted("needle"), KEY, limit=5)


async def test_a_filter_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, and no half of a file."""
    found_in = await recorded(tmp_path, b"x")

    def full(*_: object) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="full"):
        index(found_in, KEY)
    assert [path.suffix for path in found_in.beside(NAME).parent.iterdir()] == [".grec"]


def test_the_name_binds_recording_session_and_tenant(tmp_path: Path) -> None:
    """A filter of one cannot stand beside another."""
    path = tmp_path / "p0000.grec"
    names = {
        RecordingReader([path], expected=Expected(rec=rec, sid=sid, ten=ten), dek=DEK).name()
        for rec, sid, ten in (("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""), ("a", "b", "d"))
    }
    assert len(names) == 4
