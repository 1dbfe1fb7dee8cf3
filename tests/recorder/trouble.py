"""A disk that can be told to fail, or to hang, and a session that finds out."""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recorder.errors import RecorderFailed
from recorder.grec import Kind
from recorder.sink import RecordingSink
from recorder.store import files as files_module
from recorder.store.disk import DiskPart, create_part
from tests.pace import Since

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NOISE = random.Random(3)


class TroubledPart(DiskPart):
    """A part on a real disk that can be told to fail, or to hang."""

    trouble: Callable[[str], None] = staticmethod(lambda _: None)

    def reserve(self, offset: int, size: int) -> None:
        self.trouble("reserve")
        super().reserve(offset, size)

    def write(self, data: bytes, offset: int) -> None:
        self.trouble("write")
        super().write(data, offset)

    def sync(self) -> None:
        self.trouble("sync")
        super().sync()


@contextmanager
def troubled(monkeypatch: pytest.MonkeyPatch, trouble: Callable[[str], None]) -> Iterator[None]:
    """From now on every part has this trouble."""

    def create(root: Path, names: Sequence[str]) -> TroubledPart:
        part = create_part(root, names)
        return TroubledPart(part._fd, part._fresh)  # noqa: SLF001 - the fake takes over the real file

    with monkeypatch.context() as patch:
        patch.setattr(files_module, "create_part", create)
        patch.setattr(TroubledPart, "trouble", staticmethod(trouble))
        yield


async def fails(sink: RecordingSink, *, within_s: float = 1.0) -> None:
    """The session learns of it in time, and nothing more is accepted."""
    since = Since()
    async with asyncio.timeout(30):
        await sink.failed.wait()
    assert since.s() < within_s
    with pytest.raises(RecorderFailed):
        await sink.event(Kind.OUT, 0, b"x")
    with pytest.raises(RecorderFailed):
        await sink.sync()


async def pour(sink: RecordingSink, size: int) -> None:
    """Noise without end."""
    while True:
        await sink.event(Kind.OUT, 0, NOISE.randbytes(size))
        await asyncio.sleep(0.001)
