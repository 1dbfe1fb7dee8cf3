"""A terminal as a client asks for one: bounded, whatever comes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import Refusal
from broker.core.terminal import MAX_CELLS, MAX_MODES_BYTES, Signal, Size, Terminal, checked_size, read_modes

numbers = st.integers(0, 2**32 - 1)


@given(numbers, numbers)
def test_a_size_has_something_in_it_and_is_no_monster(columns: int, rows: int) -> None:
    """I-26: from one cell to a thousand each way."""
    size = checked_size(columns, rows)
    assert 1 <= size.columns <= MAX_CELLS
    assert 1 <= size.rows <= MAX_CELLS
    if 1 <= columns <= MAX_CELLS:
        assert size.columns == columns


@given(st.dictionaries(st.sampled_from([1, 3, 18, 30, 50, 53, 62, 70, 93, 128, 129]), numbers))
def test_modes_read_back_as_they_were(modes: dict[int, int]) -> None:
    """What OpenSSH sends: pairs, and an end."""
    encoded = Terminal(modes=modes).encoded_modes()
    assert read_modes(encoded) == modes
    assert read_modes(encoded[:-1]) == modes, "some clients leave the end away"


@given(st.binary(max_size=MAX_MODES_BYTES + 64))
def test_any_bytes_are_modes_or_refused(encoded: bytes) -> None:
    """No exception but a refusal; what is kept is of the standard."""
    try:
        modes = read_modes(encoded)
    except Refusal:
        return
    assert modes.keys() <= {*range(1, 130)}
    assert len(encoded) <= MAX_MODES_BYTES or not modes


@pytest.mark.parametrize(("mode", "key"), [(3, b"\x03"), (0x1C, b"\x1c"), (255, b""), (2**32 - 1, b"")])
def test_ctrl_c_is_what_the_client_says_it_is(mode: int, key: bytes) -> None:
    """Without a keyboard it is Ctrl-C, and interrupts, whatever the client says."""
    terminal = Terminal(size=Size(columns=9, rows=9), modes={1: mode, 50: 0, 53: 1})
    assert terminal.interrupt == key
    assert terminal.without_keyboard().interrupt == b"\x03"
    assert terminal.without_keyboard().modes == {1: 3, 50: 1, 53: 1}
    assert struct.pack(">BI", 50, 1) in terminal.without_keyboard().encoded_modes()


def test_no_signal_leaves_a_core_file() -> None:
    """A read writes nothing: those that dump core by default are not passed on."""
    assert not {"QUIT", "ILL", "ABRT", "FPE", "SEGV"} & set(Signal)
