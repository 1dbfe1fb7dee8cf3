"""Pages of what a caller may see, out of rows that it may not all see: bounded work a call, and a cursor (I-60)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from broker.core.identity import Caller
from broker.core.ids import TargetId
from broker.service import lookup
from broker.service.ports import Tx

R = TypeVar("R")
CHUNK = 200
CHUNKS = 3
"""Rows that one call looks at: CHUNK * CHUNKS at the most, however few of them the caller may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[R]):
    """Rows, and the id after which to go on; empty at the end. A page may be short, or empty, before the end."""

    rows: Sequence[R]
    next: str


def seen_page(
    fetch: Callable[[str | None, int], Sequence[R]], sees: Callable[[R], bool], id_of: Callable[[R], str], *,
    after: str | None, size: int,
) -> Page[R]:  # fmt: skip
    """At most `size` rows after `after` that `sees` lets through, in the order of `fetch`."""
    found: list[R] = []
    for _ in range(CHUNKS):
        chunk = fetch(after, CHUNK)
        for row in chunk:
            after = id_of(row)
            if sees(row):
                found.append(row)
                if len(found) == size:
                    return Page(rows=found, next=after)
        if len(chunk) < CHUNK:
            return Page(rows=found, next="")
    return Page(rows=found, next=after or "")


def eyes(tx: Tx, caller: Caller) -> Callable[[TargetId], bool]:
    """Whether the caller's role sees what happens on a target; each target is looked up once."""
    known: dict[TargetId, bool] = {}

    def sees(target: TargetId) -> bool:
        if target not in known:
            known[target] = lookup.sees_target(caller, tx.targets.get(target))
        return known[target]

    return sees
