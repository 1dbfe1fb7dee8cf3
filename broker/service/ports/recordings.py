"""Where recordings are kept, as services see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from recorder.reader import RecordingReader
from recorder.sink import RecordingSink
from recorder.store.files import Unfinished
from recorder.track import RecordingMeta

T = TypeVar("T")
Indexer = Callable[[RecordingReader, bytes], Awaitable[bool]]
"""Makes the filter of words of an ended recording under the tenant's search key; False where that is not to be.

Raises OSError, RecordingInvalid. Whatever it does, sessions that run do not wait for it.
"""


class Recordings(Protocol):
    """Where recordings are kept; recorder.store.files is one. Raises recorder.errors.RecorderFailed.

    No recording, no session.
    """

    async def create(self, meta: RecordingMeta) -> RecordingSink:
        """Opens a recording whose header is durable on return."""
        ...

    async def open(
        self, *, ten: str, rec: str, sid: str, start: datetime, dek: bytes | bytearray | None
    ) -> RecordingReader:
        """A reader over its parts; without a key it verifies only."""
        ...

    async def scan_unfinished(self, *, is_closed: Callable[[str, str], bool]) -> Sequence[Unfinished]:
        """Recordings that broke off with their broker."""
        ...
