"""Filters of long recordings are made elsewhere: the same filters, and nothing but a word comes back."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from broker.adapters import indexer
from recorder.errors import RecordingInvalid
from recorder.grec import Kind
from recorder.reader import RecordingReader
from recorder.search import NAME, kept_filter, search
from recorder.words import Wanted
from tests.recorder.recordings import DONE, START, meta, reader, store

KEY = bytes(range(64, 96))
LINES = b"".join(b"line %d has a word%d\n" % (number, number) for number in range(2_000))


async def recorded(root: Path, output: bytes) -> RecordingReader:
    """A finished recording of this output."""
    with store(root) as files:
        sink = await files.create(meta())
        await sink.event(Kind.OUT, 0, output)
        await sink.close(DONE)
        return reader(files.directory("t1", "rec_1", START))


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recording is a long one."""
    monkeypatch.setattr(indexer, "BESIDE_BYTES", 0)


@pytest.mark.usefixtures("apart")
async def test_a_filter_made_apart_is_the_same(tmp_path: Path) -> None:
    """Once, private, holding the words; the keys that made it open it here."""
    long = await recorded(tmp_path, LINES)
    assert await indexer.index_apart(long, KEY)
    assert not await indexer.index_apart(long, KEY)
    found = kept_filter(long)
    assert found is not None
    assert all(found.may_hold([f"word{number}"], KEY) for number in range(2_000))
    assert not found.may_hold(["absent"], KEY)
    assert long.beside(NAME).stat().st_mode & 0o777 == 0o600
    assert search(long, Wanted("word1999"), KEY, limit=5)


@pytest.mark.usefixtures("apart")
async def test_a_recording_that_was_altered_has_none(tmp_path: Path) -> None:
    """The child says so in a word, and leaves nothing."""
    long = await recorded(tmp_path, LINES)
    part = long.parts[0]
    sealed = bytearray(part.read_bytes())
    sealed[len(sealed) // 2] ^= 1
    part.write_bytes(sealed)
    with pytest.raises(RecordingInvalid):
        await indexer.index_apart(long, KEY)
    assert kept_filter(long) is None


@pytest.mark.usefixtures("apart")
async def test_a_child_that_takes_for_ever_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, as if the disk were full: the recording is merely searched slowly."""
    long = await recorded(tmp_path, LINES)
    monkeypatch.setattr(indexer, "WITHIN_S", 0.0)
    with pytest.raises(OSError, match="failed"):
        await indexer.index_apart(long, KEY)
    assert kept_filter(long) is None


@pytest.mark.usefixtures("apart")
async def test_nothing_of_a_child_that_was_given_up_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the process nor its pipes, once the caller hears of it: a broker that ends leaves no child behind."""
    made, start = list[asyncio.subprocess.Process](), asyncio.create_subprocess_exec
    there = asyncio.Event()

    async def started(*words: str, **how: Any) -> asyncio.subprocess.Process:  # noqa: ANN401  whatever it takes
        made.append(await start(*words, **how))
        there.set()
        return made[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    indexing = asyncio.ensure_future(indexer.index_apart(await recorded(tmp_path, LINES), KEY))  # noqa: TID251  awaited
    await there.wait()
    indexing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await indexing
    (child,) = made
    assert child.returncode == -signal.SIGKILL
    assert child.stdin is not None
    assert child.stdin.is_closing()
    assert child.stdout is not None
    assert child.stdout.at_eof()


async def test_a_short_one_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs a few milliseconds here."""
    monkeypatch.setattr("sys.executable", "/nowhere")
    assert await indexer.index_apart(await recorded(tmp_path, b"a needle\n"), KEY)


def test_a_service_manager_may_forbid_to_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit that is shipped lets no process change its priority: filters are made all the same."""

    def forbidden(_: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.nice", forbidden)
    indexer._give_way()  # noqa: SLF001
