"""Text that is made to cost much costs little: what is held is bounded, and what is too long is not looked at."""

from __future__ import annotations

import sys

import pytest

from policy.shell import MAX_COMMAND_BYTES, Classified, Refused, classify
from policy.shell.parts import MAX_PARTS
from policy.shell.tree import MAX_NODES
from tests.policy.fuzz.hostile import HUGE_BYTES, SHAPES, cost, costs, text

CALLS_A_BYTE = 150  # counted, not timed: the machine may be busy
HELD_KIB = 16 * 1024


def _calls(command: bytes) -> int:
    """How many Python functions a verdict calls."""
    count = 0

    def called(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event == "call"

    classify(b"ls")
    before = sys.getprofile()
    sys.setprofile(called)
    try:
        classify(command)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_sixteen_kibibytes_are_bounded(shape: str) -> None:
    """I-60: whatever fills the length that is allowed, calls and memory stay in proportion to it."""
    command = text(shape, MAX_COMMAND_BYTES)
    verdict = classify(command)
    assert _calls(command) < CALLS_A_BYTE * MAX_COMMAND_BYTES
    assert cost(command).kibibytes < HELD_KIB
    assert isinstance(verdict, Refused) or len(verdict.parts) <= MAX_PARTS < MAX_NODES


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_megabytes_are_refused_at_the_gate(shape: str) -> None:
    """I-60: a text over the limit is not decoded, searched or parsed."""
    command = text(shape, HUGE_BYTES)
    assert classify(command) == Refused(
        rule="gate.length", reason=f"{HUGE_BYTES} bytes; the limit is {MAX_COMMAND_BYTES}"
    )
    assert _calls(command) < 50
    assert cost(command).kibibytes < 64


def test_the_table_has_every_shape() -> None:
    """What the documentation shows is what was measured."""
    shown = costs()
    assert all(f"| {shape} " in shown for shape in SHAPES)


def test_one_byte_over_is_too_long() -> None:
    """The limit is what it says."""
    assert isinstance(classify(b"ls " + b"a" * (MAX_COMMAND_BYTES - 3)), Classified)
    assert isinstance(classify(b"ls " + b"a" * (MAX_COMMAND_BYTES - 2)), Refused)
