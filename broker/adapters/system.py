"""The machine's own clock, randomness and process settings."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from broker.core.errors import Fault
from broker.core.ids import AuditId

_PR_SET_DUMPABLE = 4
_GIVE_WAY_S = 0.0005
_PAGE = resource.getpagesize()
_VERY_MANY = 500_000
"""About a hundred megabytes: made before anybody had a turn to collect."""
_MASK_62 = (1 << 62) - 1
_MASK_12 = (1 << 12) - 1


class SystemClock:
    """CLOCK_REALTIME and CLOCK_MONOTONIC."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SystemEntropy:
    """The kernel's random numbers."""

    def token(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def uuid7(self, now: datetime) -> AuditId:
        """RFC 9562 section 5.7: 48 bits of milliseconds, version 7, the rest random."""
        milliseconds = int(now.timestamp() * 1000)
        random = int.from_bytes(os.urandom(10), "big")
        value = milliseconds << 80 | 0x7 << 76 | (random >> 62 & _MASK_12) << 64 | 0b10 << 62 | random & _MASK_62
        return AuditId(f"{value:032x}")


class SystemGarbage:
    """Python's garbage of this process: cycles alone, what nobody names any more is freed at once."""

    @contextmanager
    def by_hand(self) -> Iterator[None]:
        """In this context no collection begins by itself, but for one after very many objects."""
        before = gc.get_threshold()
        gc.set_threshold(_VERY_MANY, *before[1:])
        try:
            yield
        finally:
            gc.set_threshold(*before)

    def waiting(self) -> int:
        """Objects that were made, less those that were freed, since the last collection."""
        return gc.get_count()[0]

    def collect_young(self) -> None:
        """What was made since the last collection; every now and then what outlived a few as well."""
        gc.collect(1 if gc.get_count()[1] > gc.get_threshold()[1] else 0)

    def collect_all(self) -> None:
        """Everything but what is kept for good."""
        gc.collect()

    def resident(self) -> int:
        """Bytes of memory that the process has."""
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123  ten times a second
            return int(statm.read().split()[1]) * _PAGE


def no_dumps() -> None:
    """No core file of this process, and no reading of its memory by others of the same uid (I-36). Linux only.

    What it starts begins anew: a program that is executed is dumpable again and sees to itself.

    Raises:
        Fault: the kernel refused it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0) != 0:
        raise Fault(f"prctl(PR_SET_DUMPABLE) failed with errno {ctypes.get_errno()}")


def give_way_quickly() -> None:
    """A thread that computes (store, recorder) gives way to the loop within half a millisecond, where Python allows 5.

    The loop asks for the interpreter at every socket it looks at: with 5 ms each a busy writer makes ends late.
    """
    sys.setswitchinterval(_GIVE_WAY_S)


def keep_for_good() -> None:
    """What a process made by the time it serves stays: no full collection goes through it again.

    One over the modules alone takes a tenth of a second, in which nothing is cut and nobody is answered. Called at the
    end of a start, after one last collection.
    """
    gc.collect()
    gc.freeze()
