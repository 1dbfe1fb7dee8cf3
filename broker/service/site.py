"""What moves bytes has at hand, wherever it runs: the way to targets, recordings, a clock. All else it asks control.

Holds no logic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from broker.core.clock import Clock
from broker.service.control import Control
from broker.service.ports import Entropy, Recordings, Targets
from broker.service.sealing import Turns
from recorder.typed import InputPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything outside the data half, by port."""

    control: Control
    targets: Targets
    recordings: Recordings
    clock: Clock
    entropy: Entropy
    max_output_bytes: int
    unwatched_for: timedelta
    keeps_input: InputPolicy
    turns: Turns = field(default_factory=Turns)
    """In which the recordings of its sessions are sealed."""
