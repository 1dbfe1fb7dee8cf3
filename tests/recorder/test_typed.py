"""What of a command's input is kept: nothing that was not echoed, by default nothing that was typed."""

from __future__ import annotations

import hashlib
import hmac
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.events import Kind
from recorder.typed import KEY, LINE, PASTE, InputPolicy, Piece, input_of, stdin_key

SECRET = b"Hunter2-correct-horse"
DEK, SALT = bytes(range(32)), bytes(24)
keyboards = st.sampled_from([InputPolicy.OFF, InputPolicy.ECHOED])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes in pieces."""
    at = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(at)]


def kept(policy: InputPolicy, *talk: tuple[str, bytes], terminal: bool = True) -> list[Piece]:
    """What is kept of a conversation: `<` typed, `>` shown."""
    one = input_of(policy, terminal=terminal, key=b"k" * 32)
    pieces: list[Piece] = []
    for who, data in talk:
        pieces += one.typed(data) if who == "<" else one.shown(data)
    return [*pieces, *one.end()]


def names(pieces: list[Piece]) -> list[str]:
    """Readable."""
    words = {LINE: "line", PASTE: "paste"}
    return [words.get(data) or data.removeprefix(KEY).decode() for kind, data in pieces if kind == Kind.HIDDEN]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=9))
def test_of_a_pipe_its_length_and_an_hmac_are_kept(data: bytes, places: list[int]) -> None:
    """Not a byte of it, however it was cut; the key is the recording's and good for nothing else."""
    key = stdin_key(DEK, SALT)
    one = input_of(InputPolicy.OFF, terminal=False, key=key)
    assert [piece for each in cut(data, places) for piece in one.typed(each)] == []
    ((kind, told),) = one.end()
    assert kind == Kind.CHAN
    assert json.loads(told) == {
        "type": "eof", "stream": "in", "bytes": len(data),
        "hmac_sha256": hmac.new(key, data, hashlib.sha256).hexdigest(),
    }  # fmt: skip
    assert stdin_key(DEK, b"x" * 24) != key
    assert key not in (DEK, SALT)


@given(keyboards, st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=9))
def test_any_bytes_can_be_typed_and_none_is_kept_that_was_not_shown(
    policy: InputPolicy, data: bytes, places: list[int]
) -> None:
    """I-36: total, and not even the number of keys: names and marks alone."""
    pieces = kept(policy, *(("<", each) for each in cut(data, places)))
    assert {kind for kind, _ in pieces} <= {Kind.HIDDEN}
    for word in names(pieces):
        assert word in ("line", "paste") or word.isupper() or word[0] == "^"


@given(st.integers(1, 60), st.lists(st.integers(0, 60), max_size=9))
def test_the_length_of_a_secret_is_not_told(length: int, places: list[int]) -> None:
    """One mark a line, whenever the keys came."""
    talk = [("<", each) for each in cut(b"x" * length + b"\r", places)]
    assert names(kept(InputPolicy.OFF, *talk)) == ["line", "ENTER"]


def test_control_keys_are_named() -> None:
    """What a person did, without what they wrote."""
    typed = b"ls\t\x1b[A\x1b[1;5D\x1bOB\x03\x7f\x1b[200~pasted\rtext\x1b[201~\r"
    expected = ["TAB", "UP", "LEFT", "DOWN", "^C", "BACKSPACE", "paste", "line", "ENTER"]
    for width in (1, 2, 5, 100):
        talk = [("<", typed[start : start + width]) for start in range(0, len(typed), width)]
        assert names(kept(InputPolicy.OFF, *talk)) == expected


def test_all_is_all() -> None:
    """And its sum."""
    pieces = kept(InputPolicy.ALL, ("<", SECRET), (">", b"x"), ("<", b"\r"))
    assert pieces[:2] == [(Kind.IN, SECRET), (Kind.IN, b"\r")]


ECHOES = {
    "whole": [("<", b"ls -l"), (">", b"ls -l"), ("<", b"\r"), (">", b"\r\n")],
    "by keys": [pair for key in b"ls -l" for pair in (("<", bytes([key])), (">", bytes([key])))]
    + [("<", b"\r"), (">", b"\r\n")],
    "late": [("<", b"ls -l\r"), (">", b"ls "), (">", b"-l\r\n")],
    "in colours": [("<", b"ls -l"), (">", b"\x1b[1ml\x1b[32ms\x1b[0m -l"), ("<", b"\r"), (">", b"\r\n")],
}


@pytest.mark.parametrize("talk", list(ECHOES.values()), ids=list(ECHOES))
def test_a_line_that_came_back_is_kept(talk: list[tuple[str, bytes]]) -> None:
    """As it stood on the screen."""
    assert (Kind.IN, b"ls -l\r") in kept(InputPolicy.ECHOED, (">", b"$ "), *talk)


SILENT = {
    "a prompt": [(">", b"Password: "), ("<", SECRET + b"\r"), (">", b"\r\n")],
    "no prompt": [(">", b"> "), ("<", SECRET + b"\r"), (">", b"\r\nok\r\n$ ")],
    "stars": [(">", b"Password: "), ("<", SECRET), (">", b"*" * len(SECRET)), ("<", b"\r"), (">", b"\r\n")],
    "a prompt that echoes all the same": [(">", b"Mot de passe: "), ("<", SECRET), (">", SECRET), ("<", b"\r")],
    "other words": [(">", b"? "), ("<", SECRET + b"\r"), (">", b"Hunting season opens on the 2nd of the month\r\n")],
    "edited": [(">", b"$ "), ("<", b"ab\x7f" + SECRET), (">", b"ab\x08 \x08" + SECRET), ("<", b"\r")],
    "pasted": [(">", b"$ "), ("<", b"\x1b[200~" + SECRET + b"\x1b[201~"), (">", SECRET), ("<", b"\r")],
    "too long": [(">", b"$ "), ("<", b"x" * 5_000), (">", b"x" * 5_000), ("<", b"\r")],
    "the end comes first": [(">", b"$ "), ("<", SECRET), (">", SECRET)],
    "the next line comes first": [(">", b"$ "), ("<", SECRET + b"\r" + SECRET + b"\r"), (">", b"\r\n")],
}


@pytest.mark.parametrize("talk", list(SILENT.values()), ids=list(SILENT))
def test_a_line_that_did_not_come_back_is_hidden(talk: list[tuple[str, bytes]]) -> None:
    """I-36: no part of it is kept, and that there was one is."""
    pieces = kept(InputPolicy.ECHOED, *talk)
    assert [data for kind, data in pieces if kind == Kind.IN] == []
    assert {"line", "paste"} & set(names(pieces))


def test_a_line_that_never_ends_is_not_held() -> None:
    """I-26: whoever types without Enter costs no memory for it."""
    one = input_of(InputPolicy.ECHOED, terminal=True, key=b"")
    for _ in range(80):
        assert one.typed(b"x" * 1_024) == ()
    assert sum(len(held) for held in vars(one).values() if isinstance(held, bytes)) < 20_000


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", [b"x", b"\x1b[A", b"\x1b[200~"])
def test_a_long_piece_costs_its_length(piece: bytes) -> None:
    """I-60: a megabyte in one piece, as a client may send it, is not copied once a key."""
    one = input_of(InputPolicy.OFF, terminal=True, key=bytes(32))
    one.typed(piece * ((1 << 20) // len(piece)))


@pytest.mark.parametrize("flood", [b"\x03", b"\x1b[A", b"a", b"\x1b[", b"\x1b[200~x", b"\r"])
@pytest.mark.parametrize("policy", [InputPolicy.OFF, InputPolicy.ECHOED])
def test_what_no_hand_types_is_one_event(policy: InputPolicy, flood: bytes) -> None:
    """I-60: 64 KiB of control keys at once are a paste: read key by key they held up everybody else's sessions."""
    assert kept(policy, ("<", flood * (64 * 1024 // len(flood))))[:1] == [(Kind.HIDDEN, PASTE)]
    assert len(kept(policy, *[("<", flood * (4096 // len(flood)))] * 100)) <= 101


@pytest.mark.parametrize("policy", [InputPolicy.OFF, InputPolicy.ECHOED])
def test_a_line_around_a_large_paste_is_hidden(policy: InputPolicy) -> None:
    """What was typed before and behind it is no line of its own, even if all of it came back; keys go on by name."""
    text = b"a" * 2000
    told = kept(policy, ("<", b"echo "), (">", b"echo "), ("<", text), (">", text), ("<", b"b\r"), (">", b"b\r\n"))
    assert [kind for kind, _ in told if kind == Kind.IN] == []
    assert told[0] == (Kind.HIDDEN, PASTE)
    assert told[-1] == (Kind.HIDDEN, KEY + b"ENTER")
    inside = kept(policy, ("<", b"\x1b[200~" + text), ("<", b"x\r\x1b[201~"), ("<", b"\r"))
    assert inside[0] == (Kind.HIDDEN, PASTE)
    assert inside[-1] == (Kind.HIDDEN, KEY + b"ENTER")
    assert len(inside) <= 3, "the rest of a bracketed paste is the paste's"
