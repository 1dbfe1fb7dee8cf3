"""The vault as the services see it: what tenant keys there are, and moving what they seal to newer ones.

Never an opened key, never a value. Secrets themselves are in `rows.KeyRows`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Purpose(StrEnum):
    """What a tenant key is for; one is never used in another's place."""

    VAULT = "vault"
    RECORDINGS = "recordings"
    SUBJECTS = "subjects"
    SEARCH = "search"
    HMAC = "hmac"


ROTATED: Mapping[Purpose, str] = {
    Purpose.VAULT: "secrets are sealed anew",
    Purpose.RECORDINGS: "the keys of recordings are wrapped anew",
    Purpose.SUBJECTS: "the keys of subjects are wrapped anew",
}
"""Purposes whose key can be changed, and what then happens. A search key is what words were hidden under: the words
are not kept, so nothing could hide them anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStanding:
    """One version of a tenant key."""

    purpose: Purpose
    version: int
    root_id: str
    """Id of the root key that wraps it."""
    seals: int
    """Rows that only this version opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One secret as it lies in its row: what the audit log pins (formats.md 3.1)."""

    name: str
    version: int
    sha256: bytes
    """Of the blob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """One batch."""

    moved: int
    """Rows that are under the newest version now and were not before."""
    secrets: Sequence[Sealed]
    """Those of them that are secrets."""
    last: str | None
    """Where the next batch begins; None after the last row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shredded:
    """What was deleted, and what it opened."""

    keys: int
    entries: int
    """Of the tenant's audit log, placed or waiting: nothing of theirs can be disclosed any more."""


class VaultRows(Protocol):
    """The keys of one tenant, one level up from `KeyRows`. Every write compares before it swaps."""

    def standing(self) -> Sequence[KeyStanding]:
        """Every version of every purpose; counts what each seals, row by row."""
        ...

    def behind(self) -> Sequence[Purpose]:
        """Purposes that have more than one version. Cheap."""
        ...

    def rotate(self, purpose: Purpose) -> int:
        """Makes the next version, which seals everything from now on; returns its number."""
        ...

    def reseal(self, purpose: Purpose, *, after: str, limit: int) -> Resealed:
        """Moves what older versions seal to the newest, at most `limit` rows looked at behind `after` (first: "")."""
        ...

    def drop_unused(self, purpose: Purpose) -> Sequence[int]:
        """Deletes the versions before the newest that seal nothing any more; returns their numbers.

        A blob that still names one (a copy, a backup) is refused by that name from then on.
        """
        ...

    def is_stale(self) -> bool:
        """Whether a former root key still wraps a tenant key. Cheap."""
        ...

    def rewrap(self) -> int:
        """Moves tenant keys that a former root key wraps under the primary one; returns how many it moved."""
        ...

    def wrapped_by(self) -> Mapping[str, int]:
        """Root key id -> tenant keys that it wraps."""
        ...

    def end_root(self, root_id: str, now: datetime) -> None:
        """No tenant key is ever made under this root key again, by whichever broker.

        Raises:
            StoreFault: it still wraps one.
        """
        ...

    def shred(self, now: datetime) -> Shredded:
        """Deletes every tenant key and every subject key, and no tenant key is ever made again."""
        ...

    def is_shredded(self) -> bool: ...
