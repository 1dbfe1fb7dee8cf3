"""What a worker says of a session's end and of its counters, held against what can be. Decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from broker.bus import messages as m
from broker.bus.codec import BusError
from broker.core.action import Outcome
from broker.service.closing import Ended
from recorder.track import Commitment, RecordingMeta

COUNTER: Final = "connections_refused"
"""The one counter that is a worker's to count; its label is `reason`."""
COUNTS_A_SECOND: Final = 1_000
_MAX_TIMES: Final = 10_000
"""That one counter counted since the last beat; a worker says no more than that."""
_MAX_WORDS: Final = 64
"""Different labels that one worker may use."""
_MAX_COUNT: Final = 1 << 63
_ROOT_BYTES: Final = 32
_MAX_STATUS: Final = 1 << 32
_SIGNAL: Final = re.compile(r"[A-Z0-9]{0,16}")
_REASON: Final = re.compile(r"(?:[a-z][a-z0-9_]{0,39})?")
"""A word of ours, as the log holds it in clear."""
_WORD: Final = re.compile(r"[a-z0-9_]{1,40}")


class Tally:
    """One worker's words for the log and the meter: short, plain, and not without end new ones, nor without end many.

    Args:
        now: seconds of the monotonic clock.
    """

    def __init__(self, *, now: float) -> None:
        self._words: set[str] = set()
        self._left, self._at = COUNTS_A_SECOND, now

    def word(self, word: str) -> str:
        """It, or `other`. Raises BusError."""
        if _WORD.fullmatch(word) is None:
            raise BusError("no plain word")
        if word not in self._words and len(self._words) >= _MAX_WORDS:
            return "other"
        self._words.add(word)
        return word

    def counted(self, beat: m.Beat, now: float) -> Iterator[tuple[str, int]]:
        """Words and how often each is to be counted: so many a second in all. Raises BusError."""
        if len(beat.counts) > _MAX_WORDS:
            raise BusError("more counters than a worker has")
        self._left = min(COUNTS_A_SECOND, self._left + int((now - self._at) * COUNTS_A_SECOND))
        self._at = now
        for each in beat.counts:
            if (each.name, each.label) != (COUNTER, "reason") or not 0 < each.times <= _MAX_TIMES:
                raise BusError("a counter that is not a worker's")
            taken = min(each.times, self._left)
            self._left -= taken
            yield self.word(each.value), taken


def can_be_committed(leaves: int, root: bytes) -> bool:
    """Whether a recording can have come to this."""
    return 0 <= leaves < _MAX_COUNT and len(root) == _ROOT_BYTES


def checked(of: m.Over) -> None:
    """An end that the store and the log can hold; a ticket is not taken back for another. Raises BusError."""
    exits = of.exit_status is None or 0 <= of.exit_status < _MAX_STATUS
    says = _SIGNAL.fullmatch(of.signal) and _REASON.fullmatch(of.reason)
    if not (exits and says and 0 <= of.size < _MAX_COUNT) or (of.sealed and not can_be_committed(of.leaves, of.root)):
        raise BusError("no end")


def ended(of: m.Over) -> Ended:
    """How it came out."""
    return Ended(outcome=Outcome(exit_status=of.exit_status, signal=of.signal, reason=of.reason), cut=of.cut)


def commitment(of: m.Over, meta: RecordingMeta) -> Commitment | None:
    """What its recording committed to; None where it was not sealed."""
    if not of.sealed:
        return None
    return Commitment(rec=meta.rec, part=0, leaves=of.leaves, root=of.root, bytes=of.size, duration_us=0)
