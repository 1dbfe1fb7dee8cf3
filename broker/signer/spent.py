"""Which approvals were used: remembered for as long as one could be shown again, and no longer (I-12, I-13).

An approval that is older than the rule allows is refused by its age, so its record need not be kept. The age is told by
a clock that somebody may set back: whatever was made before the newest forgotten row counts as used for ever.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from broker.core.clock import micros
from broker.core.proof import RECORD_FOR, SLACK

_RECORD: Final = re.compile(rb'"record":"([0-9a-f]{64})"')
_SIGNED: Final = b'"signatures.0":'
_WHEN: Final = re.compile(rb'[{,]"t":([0-9]{1,17})[,}]')
_SLACK_US: Final = SLACK // timedelta(microseconds=1)
KEPT_US: Final = (RECORD_FOR + 2 * SLACK) // timedelta(microseconds=1)
"""From a row on: its record was made half a minute after it at the latest, and is fresh for half a minute longer."""


class Spent:
    """Takes rows of the journal in their order. At most as large as what people approve in 21 minutes."""

    __slots__ = ("_for_ever", "_forgotten_us", "_order", "_records")

    def __init__(self) -> None:
        self._order: deque[tuple[int, bytes]] = deque()
        self._records: set[bytes] = set()
        self._for_ever: frozenset[bytes] = frozenset()
        self._forgotten_us = 0

    def __len__(self) -> int:
        """How many records are kept."""
        return len(self._order)

    def take(self, row: bytes) -> None:
        """One row of the journal: a record that people signed for is used from here on."""
        if _SIGNED not in row:  # nobody signed for most: no need to look for the rest
            return
        record, when = _RECORD.search(row), _WHEN.search(row)
        if record is None or when is None:
            return
        at_us = int(when[1])
        self._order.append((at_us, bytes.fromhex(record[1].decode())))
        self._records.add(self._order[-1][1])
        while self._order[0][0] + KEPT_US < at_us:
            gone_us, record_sha256 = self._order.popleft()
            self._records.discard(record_sha256)
            self._forgotten_us = max(self._forgotten_us, gone_us + _SLACK_US)

    def keep(self, records: Iterable[bytes]) -> None:
        """Records of a journal that tells no times: used for ever."""
        self._for_ever |= frozenset(records)

    def has(self, record_sha256: bytes, made: datetime) -> bool:
        """Whether the record with this SHA-256 (32 bytes), made at `made` by its own word, was used, or may have been.

        True as well for what was made before the newest row that is forgotten: by a right clock that is refused by its
        age, and by a clock that was set back nobody could tell.
        """
        used = record_sha256 in self._records or record_sha256 in self._for_ever
        return used or micros(made) <= self._forgotten_us
