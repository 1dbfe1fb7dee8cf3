"""Text like a log's, made from a seed: zeros or repeated blocks would flatter compression."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_SEED: Final = 20_260_401
_BLOCK: Final = 1 << 20
_WORDS: Final = (
    "accepted", "closed", "session", "connection", "timeout", "user", "request", "served", "cache", "miss", "hit",
    "worker", "queue", "retry", "upstream", "status", "bytes", "from", "for", "after", "ms", "GET", "POST", "/api/v1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """A file of text and what it must be when it arrives."""

    path: Path
    size: int
    digest: bytes

    @classmethod
    def made(cls, path: Path, size: int) -> Self:
        """Writes it."""
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for block in _blocks(size):
                file.write(block)
                digest.update(block)
        return cls(path, size, digest.digest())

    def must_be(self, path: Path) -> None:
        """Raises RuntimeError where a file is not this one: a hang or a lost byte must not look like a figure."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        if path.stat().st_size != self.size or digest != self.digest:
            raise RuntimeError(f"{path.stat().st_size} bytes arrived, not the {self.size} that were sent")


def _blocks(size: int) -> Iterator[bytes]:
    """Lines with a time, a host, a process, words and numbers: MiB of sixteen kinds, each begun somewhere else."""
    chance = random.Random(_SEED)
    bodies = [_body(chance) for _ in range(min(16, size // _BLOCK + 1))]
    done = 0
    while done < size:
        block = bodies[chance.randrange(len(bodies))]
        cut = chance.randrange(len(block))
        block = (block[cut:] + block[:cut])[: size - done]
        done += len(block)
        yield block


def _body(chance: random.Random) -> bytes:
    lines, length = [], 0
    while length < _BLOCK:
        words = " ".join(chance.choice(_WORDS) for _ in range(chance.randrange(4, 12)))
        line = (
            f"2026-04-{chance.randrange(1, 31):02}T{chance.randrange(24):02}:{chance.randrange(60):02}:"
            f"{chance.randrange(60):02}.{chance.randrange(1000):03}Z web{chance.randrange(1, 9)} "
            f"app[{chance.randrange(300, 32768)}]: {words} {chance.randrange(1 << 24):x}\n"
        )
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()[:_BLOCK]
