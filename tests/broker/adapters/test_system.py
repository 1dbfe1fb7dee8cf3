"""The machine's own clocks and randomness."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

from broker.adapters.system import SystemClock, SystemEntropy


def test_entropy_is_what_it_says() -> None:
    """Sizes, and UUIDs of version 7 that carry their moment (RFC 9562 section 5.7) and never repeat."""
    entropy, now = SystemEntropy(), datetime(2026, 5, 6, 7, 8, 9, 123_000, tzinfo=UTC)
    assert [len(entropy.token(size)) for size in (0, 1, 16, 32)] == [0, 1, 16, 32]
    made = [entropy.uuid7(now) for _ in range(1000)]
    assert len(set(made)) == 1000
    for text in made:
        assert len(text) == 32
        number = int(text, 16)
        assert number >> 80 == int(now.timestamp() * 1000)
        assert number >> 76 & 0xF == 7
        assert number >> 62 & 0b11 == 0b10
    assert made[0] < entropy.uuid7(now + timedelta(seconds=1))


def test_the_clocks() -> None:
    """The wall clock is aware, in UTC, and now; the monotonic one never goes back."""
    clock = SystemClock()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert clock.now().tzinfo is UTC
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)


def test_what_a_process_made_stays_out_of_full_collections() -> None:
    """P16: a collection over all the modules would cut nothing and answer nobody for a tenth of a second."""
    words = "import gc, broker.app; from broker.adapters.system import keep_for_good; keep_for_good()"
    looked = f"{words}; print(gc.get_freeze_count(), len(gc.get_objects(generation=2)), gc.isenabled())"
    told = subprocess.run([sys.executable, "-c", looked], check=True, capture_output=True, text=True, timeout=120)
    kept, left, enabled = told.stdout.split()
    assert int(kept) > 50_000
    assert int(left) < 1_000
    assert enabled == "True"
