"""Looking for a word in one recording: the filter beside it first, then what can only be found by reading it.

Blocks on the disk: call from a thread. A missing, foreign or damaged filter costs time and hides nothing.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Final

from recorder.errors import RecordingInvalid
from recorder.reader import RecordingReader
from recorder.scan import State
from recorder.wordfilter import SALT_BYTES, WordFilter
from recorder.words import Hit, Wanted, distinct

NAME: Final = "words.grwf"


def search(reader: RecordingReader, wanted: Wanted, search_key: bytes, *, limit: int) -> list[Hit]:
    """The first `limit` places in the recording. Raises RecordingInvalid as `RecordingReader.events`."""
    found = kept_filter(reader)
    if found is not None and not found.may_hold(wanted.words, search_key):
        return []
    return list(islice(wanted.found(reader.events()), limit))


def kept_filter(reader: RecordingReader) -> WordFilter | None:
    """The filter beside the recording, if it is there and is this recording's."""
    try:
        return WordFilter.open(reader.beside(NAME).read_bytes(), dek=reader.key(), bound_to=reader.name())
    except (OSError, RecordingInvalid):
        return None


def index(reader: RecordingReader, search_key: bytes) -> bool:
    """Make the filter of a finished recording; False where there is one, or the recording has not ended well.

    Raises:
        OSError: it cannot be written; nothing half-made is left.
        RecordingInvalid: as `RecordingReader.events`.
    """
    if kept_filter(reader) is not None or reader.state is not State.FINAL:
        return False
    made = WordFilter.of(chain.from_iterable(distinct(reader.events())), search_key)
    _write(reader.beside(NAME), made.seal(dek=reader.key(), bound_to=reader.name(), salt=os.urandom(SALT_BYTES)))
    return True


async def index_beside(reader: RecordingReader, search_key: bytes) -> bool:
    """As `index`, in a thread. For recordings of moderate length: what a thread computes, the loop waits for."""
    return await asyncio.to_thread(index, reader, search_key)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all. Not synced: what a crash takes is made again, or done without."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(data)
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise
