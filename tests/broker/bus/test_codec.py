"""Values as JSON: what was written is read again, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.bus import codec
from broker.bus.codec import BusError
from broker.bus.messages import Beat, Counted, Over, Proposed, Recorded
from broker.core.ids import GrantId, SessionId
from broker.service.oversight import Standing
from policy.classes import CommandClass
from recorder.track import RecordingMeta

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Everything:
    """One field of each kind."""

    text: str
    number: int
    share: float
    flag: bool
    blob: bytes
    at: datetime
    span: timedelta
    colour: Colour
    level: CommandClass
    maybe: SessionId | None
    many: tuple[int, ...]
    pair: tuple[int, bytes] | None
    words: frozenset[str]
    names: dict[str, str]


EVERYTHING = st.builds(
    Everything,
    text=TEXT,
    number=st.integers(-(2**64) + 1, 2**64 - 1),
    share=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    blob=st.binary(max_size=40),
    at=st.datetimes(timezones=st.just(UTC)),
    span=st.timedeltas(timedelta(days=-36_500), timedelta(days=36_500)),
    colour=st.just(Colour.RED),
    level=st.sampled_from(CommandClass),
    maybe=st.none() | TEXT.map(SessionId),
    many=st.lists(st.integers(0, 9), max_size=4).map(tuple),
    pair=st.none() | st.tuples(st.integers(0, 9), st.binary(max_size=4)),
    words=st.frozensets(TEXT, max_size=4),
    names=st.dictionaries(TEXT, TEXT, max_size=4),
)


@given(EVERYTHING)
def test_what_is_written_is_read_again(value: Everything) -> None:
    """Of every kind of field, through the bytes."""
    said = codec.unpack(codec.pack(codec.write(Everything, value)))
    assert codec.read(Everything, said) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from([Everything, Over, Proposed, Recorded, Beat, Standing, RecordingMeta, bool, bytes]))
def test_whatever_comes_is_read_or_refused(said: object, kind: type[object]) -> None:
    """No other error leaves the codec, and what is read is of the type."""
    try:
        found = codec.read(kind, said)
    except BusError:
        return
    assert isinstance(found, kind)


@given(st.binary(max_size=200))
def test_bytes_are_a_message_or_refused(body: bytes) -> None:
    """As above, before there is any JSON."""
    try:
        codec.unpack(body)
    except BusError:
        return


OVER = codec.write(Over, Over(SessionId("s"), 0, "", "", cut=False, leaves=1, root=b"", sealed=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exit_status", True), ("exit_status", 1.0), ("exit_status", "1"), ("exit_status", 2**64), ("cut", 1),
        ("cut", None), ("session", 3), ("session", None), ("session", "\ud800"), ("root", "no base64"), ("root", None),
        ("more", 1),
    ],
)  # fmt: skip
def test_nothing_is_taken_for_something_like_it(name: str, value: object) -> None:
    """A bool is no number, a number no bool; no field too many."""
    assert isinstance(OVER, dict)
    with pytest.raises(BusError):
        codec.read(Over, {**OVER, name: value})


def test_no_field_is_missing() -> None:
    """Each of them has to be there."""
    assert isinstance(OVER, dict)
    for name in OVER:
        with pytest.raises(BusError):
            codec.read(Over, {other: value for other, value in OVER.items() if other != name})


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b"NaN", b"[Infinity]", b"[" * 100_000, b"\xff", b"1" * 5_000])
def test_json_that_is_none(body: bytes) -> None:
    """One name twice, no number, too deep, no text, without end."""
    with pytest.raises(BusError):
        codec.unpack(body)


def test_a_set_names_each_once() -> None:
    """So that a value has one length."""
    with pytest.raises(BusError):
        codec.read(frozenset[str], ["a", "a"])
    beat = Beat(lag_s=0.0, counts=(Counted("connections_refused", "reason", "idle", 2),))
    assert codec.read(Beat, codec.write(Beat, beat)) == beat
    assert codec.read(GrantId, "gr") == "gr"


@dataclass(frozen=True, slots=True)
class Left:
    """One of two."""

    n: int


@dataclass(frozen=True, slots=True)
class Right:
    """The other, with the same field."""

    n: int


def test_one_of_several_records_says_which() -> None:
    """A union of records is told apart by name, also where their fields are the same; anything else is refused."""
    kind: Any = Left | Right
    for value in (Left(1), Right(1)):
        assert codec.read(kind, codec.unpack(codec.pack(codec.write(kind, value)))) == value
    for said in (["Other", {"n": 1}], ["Left"], [["Left"], {"n": 1}], {"n": 1}, None, ["Left", {}]):
        with pytest.raises(BusError):
            codec.read(kind, said)
