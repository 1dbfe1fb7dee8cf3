"""What waits in the broker: nothing lost, nothing added, bounded in pieces."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.target_ssh.inbox import MAX_CHUNK, Inbox, MarkFilter
from broker.service.ports import Stream

blocks = st.builds(
    lambda start, size: bytes((start + at) % 251 for at in range(min(size, 251))) * (size // 251 + 1),
    st.integers(0, 250), st.sampled_from([4_000, 4_096, 32_768, 65_535, 65_536, 70_000, 200_000]),
)  # fmt: skip
pieces = st.lists(st.tuples(st.sampled_from(Stream), st.binary(max_size=300) | blocks), max_size=600)


@given(pieces, st.integers(0, 600))
def test_each_stream_comes_out_as_it_went_in(written: list[tuple[Stream, bytes]], pause: int) -> None:
    """0 bytes lost or added, whenever the reader reads."""
    inbox, out = Inbox(), {Stream.OUT: b"", Stream.ERR: b""}

    def take() -> None:
        while (chunk := inbox.pop()) is not None:
            assert 0 < len(chunk.data) <= MAX_CHUNK
            out[chunk.stream] += chunk.data

    for at, (stream, data) in enumerate(written):
        inbox.push(stream, data)
        if at == pause:
            take()
    take()
    for stream in Stream:
        assert out[stream] == b"".join(data for of, data in written if of is stream)


def test_single_bytes_in_turn_cost_no_more_than_blocks() -> None:
    """I-27: a target that sends one byte of each stream in turn does not multiply what waits."""
    inbox = Inbox()
    for _ in range(200_000):
        inbox.push(Stream.OUT, b"o")
        inbox.push(Stream.ERR, b"e")
    held = sum(sys.getsizeof(piece.data) for piece in inbox._pieces)  # noqa: SLF001  memory is what is promised
    assert held < 600_000


MARK = b"grantd-00112233 "


@given(
    st.one_of(st.binary(max_size=200), st.integers(0, 20_000).map(bytes), st.just(MARK + b"no number\n" + MARK[:-1])),
    st.binary(max_size=500),
    st.lists(st.integers(1, 50), max_size=30),
)
def test_the_mark_is_taken_out_and_nothing_else(before: bytes, after: bytes, cuts: list[int]) -> None:
    """stderr without the mark is byte for byte what the command wrote, wherever the packets break, whatever came first.

    I-01: no noise of a start-up file hides the process group.
    """
    sent, got, filter_ = before + MARK + b"4711\n" + after, b"", MarkFilter(MARK)
    for size in [*cuts, len(sent)]:
        got, sent = got + filter_.feed(sent[:size]), sent[size:]
    assert got + filter_.rest() == before + after
    assert filter_.line == MARK + b"4711\n"


@given(st.lists(st.binary(max_size=9000), max_size=5))
def test_without_a_mark_everything_passes(pieces: list[bytes]) -> None:
    """A target that never marks loses nothing of its stderr, and is never held back for more than a line of ours."""
    filter_, got, sent = MarkFilter(MARK), b"", b""
    for piece in pieces:
        got, sent = got + filter_.feed(piece), sent + piece
        assert 0 <= len(sent) - len(got) <= len(MARK) + 10
    assert got + filter_.rest() == sent
    assert filter_.line == b""
