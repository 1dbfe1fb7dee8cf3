"""One way to read a transition table. The tables themselves stand in request.py, grant.py and action.py."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from broker.core.errors import IllegalTransition

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def step(table: Mapping[S, Mapping[E, S]], state: S, event: E) -> S:
    """The state after `event`.

    Raises:
        IllegalTransition: the table has no such edge; the machine is named after its state type.
    """
    try:
        return table[state][event]
    except KeyError:
        raise IllegalTransition(type(state).__name__, state, event) from None
