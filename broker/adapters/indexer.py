"""Filters of words of long recordings, made in a process of their own that gives way to everything else.

Python computes in one thread of a process at a time: in the broker, a recording of 100 MiB would keep every session
waiting for seconds. The child is told of one recording over its stdin, keys and all, and of nothing else of the
broker; what stands in the recording is a target's, and the answer to it is one word.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from broker.adapters.system import no_dumps
from broker.core.children import CHILD_ENVIRON
from recorder.errors import RecordingInvalid
from recorder.reader import Expected, RecordingReader
from recorder.search import index, index_beside

BESIDE_BYTES: Final = 64 * 1024
"""A recording up to this size costs a thread a few milliseconds: less than to start a process."""
WITHIN_S: Final = 600.0
_NICE: Final = 19
_MADE, _NOT, _INVALID, _FAILED = b"made", b"not", b"invalid", b"failed"


async def index_apart(reader: RecordingReader, search_key: bytes) -> bool:
    """As `recorder.search.index`; a child that fails, or takes for ever, is an OSError."""
    if await asyncio.to_thread(_size, reader) <= BESIDE_BYTES:
        return await index_beside(reader, search_key)
    said = await _asked(_told(reader, search_key))
    if said == _INVALID:
        raise RecordingInvalid("a recording that cannot be read has no filter")
    if said not in (_MADE, _NOT):
        raise OSError("the process that makes filters failed")
    return said == _MADE


async def _asked(request: bytes) -> bytes:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "broker.adapters.indexer",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=CHILD_ENVIRON,  # nothing of the broker's own
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            said, _ = await child.communicate(request)
    except TimeoutError:
        return b""
    else:
        return said
    finally:
        if child.returncode is None:
            child.kill()
        await _gone(child)


async def _gone(child: asyncio.subprocess.Process) -> None:
    """Waits until nothing of a child that ends is left here: neither it nor its pipes, however often cancelled."""
    if child.stdin is not None:
        child.stdin.close()
    cancelled: asyncio.CancelledError | None = None
    while child.returncode is None or (child.stdout is not None and not child.stdout.at_eof()):
        try:
            await child.communicate()
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _size(reader: RecordingReader) -> int:
    return sum(part.stat().st_size for part in reader.parts)


def _told(reader: RecordingReader, search_key: bytes) -> bytes:
    expected = reader.expected
    request = {
        "parts": [str(part) for part in reader.parts],
        "rec": expected.rec, "sid": expected.sid, "ten": expected.ten,
        "dek": reader.key().hex(), "search_key": search_key.hex(),
    }  # fmt: skip
    return json.dumps(request).encode()


# ---- the child -------------------------------------------------------------------------------------------------------
def main() -> None:
    """One recording, told on stdin; the answer goes to stdout."""
    no_dumps()
    os.umask(0o077)
    _give_way()
    sys.stdout.buffer.write(_answer(json.loads(sys.stdin.buffer.read())))


def _give_way() -> None:
    """Where the service manager forbids it, a process of its own has to be enough."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)


def _answer(told: Mapping[str, str]) -> bytes:
    reader = RecordingReader(
        [Path(part) for part in told["parts"]],
        expected=Expected(rec=told["rec"], sid=told["sid"], ten=told["ten"]),
        dek=bytes.fromhex(told["dek"]),
    )
    try:
        return _MADE if index(reader, bytes.fromhex(told["search_key"])) else _NOT
    except RecordingInvalid:
        return _INVALID
    except OSError:
        return _FAILED


if __name__ == "__main__":
    main()
