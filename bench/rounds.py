"""Runs cases turn by turn, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Case = Callable[[], Mapping[str, float]]
"""Does one thing once, checks that it was done, and says what it took: figure name -> value."""


def interleaved(cases: Sequence[Case], *, warmups: int, rounds: int) -> dict[str, list[float]]:
    """Every case once a round; each round starts with another one, so that none always follows the same."""
    samples: dict[str, list[float]] = {}
    for number in range(warmups + rounds):
        first = number % len(cases)
        for case in (*cases[first:], *cases[:first]):
            for name, value in case().items():
                if number >= warmups:
                    samples.setdefault(name, []).append(value)
    return samples
