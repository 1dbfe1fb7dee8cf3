"""Randomness, metrics and what outlives the process beside the store, as services see them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from broker.core.ids import AuditId, TenantId
from broker.service.ports.values import FreezeOrder


class Entropy(Protocol):
    """The only source of randomness."""

    def token(self, size: int) -> bytes:
        """`size` random bytes from the operating system."""
        ...

    def uuid7(self, now: datetime) -> AuditId:
        """A UUIDv7 of `now`, 32 lower-case hex digits."""
        ...


class Meter(Protocol):
    """Counters and histograms with bounded labels; never raises (style.md rule 22)."""

    def count(self, name: str, **labels: str) -> None: ...
    def observe(self, name: str, value: float, **labels: str) -> None: ...
    def gauge(self, name: str, value: float, **labels: str) -> None: ...


class FreezeSpool(Protocol):
    """Pulls of the kill switch that the store has not taken yet, outside of it. Blocking, and safe from any thread."""

    def put(self, order: FreezeOrder) -> None:
        """Durable when this returns. Raises StoreFault."""
        ...

    def drop(self, tenant: TenantId | None) -> None:
        """The store has it, or it was lifted. Raises StoreFault."""
        ...

    def all(self) -> Sequence[FreezeOrder]:
        """What a start finds. What cannot be read any more still stands as a freeze."""
        ...


class Uploads(Protocol):
    """Values on their way in, sealed to a key that lives as long as this process."""

    def public_key(self) -> bytes:
        """X25519, 32 bytes."""
        ...

    def opened(self, upload_key: bytes, sealed: bytes, info: bytes) -> AbstractContextManager[bytearray]:
        """The value, in one buffer that is zeroed when the context ends.

        Raises:
            Refusal: `upload_key_gone`, `bad_upload`.
        """
        ...
