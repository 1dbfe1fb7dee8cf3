"""`python -m tests.policy.fuzz.hostile`: what the classifier costs on text that is made to cost much.

Prints a table: 16 KiB of each shape (the most that is looked at) and 10 MB (refused by its length). Decides nothing.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policy.explain import word_of
from policy.shell import MAX_COMMAND_BYTES, Refused, classify
from tests.policy.scoring.markdown import table

HUGE_BYTES: Final = 10_000_000
SHAPES: Final[Mapping[str, tuple[bytes, bytes, bytes]]] = {
    "commands": (b"", b"ls;", b""),
    "pipes": (b"ls", b"|a", b""),
    "words": (b"echo ", b"a ", b""),
    "one long word": (b"echo ", b"a", b""),
    "open brackets": (b"", b"((", b""),
    "closing brackets": (b"", b")", b""),
    "lists": (b"", b"x=(a ", b""),
    "lists that redirect": (b"", b"+=(>", b""),
    "pipes into brackets": (b"", b"|(", b""),
    "nested substitutions": (b"echo ", b"$(", b""),
    "quotes": (b"echo ", b"'\"", b""),
    "closed quotes": (b"echo ", b"'a'\"b\"", b""),
    "braces": (b"echo ", b"{a,", b""),
    "globs": (b"ls ", b"[*?", b""),
    "joined lines": (b"ls ", b"\\\n", b""),
    "backticks": (b"echo ", b"`", b""),
    "here-documents": (b"", b"cat <<A\na\nA\n", b""),
    "wrappers": (b"", b"sudo ", b""),
    "xargs": (b"", b"xargs ", b""),
    "assignments": (b"", b"A=1 ", b""),
    "arithmetic": (b"echo $((1", b"+1", b""),
    "tests": (b"[[ a ", b"&& a ", b""),
    "find actions": (b"find . ", b"-exec ls ; ", b""),
    "sed commands": (b"sed '", b"p;", b"'"),
    "awk program": (b"awk '", b"{print}", b"'"),
    "other letters": (b"echo a", "\u00e9".encode(), b""),
    "zero bytes": (b"", b"\0", b""),
    "no text": (b"", b"\xff", b""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one text cost: time by the processor's clock, the most memory Python held, and what was said."""

    milliseconds: float
    kibibytes: float
    said: str


def text(shape: str, size: int) -> bytes:
    """So many bytes of a shape."""
    prefix, piece, suffix = SHAPES[shape]
    return (prefix + piece * (size // len(piece) + 1))[: size - len(suffix)] + suffix


def cost(command: bytes) -> Cost:
    """Classify a text twice: by the clock, and by the memory that it takes."""
    start = time.process_time()
    verdict = classify(command)
    took = time.process_time() - start
    tracemalloc.start()
    classify(command)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    said = verdict.rule if isinstance(verdict, Refused) else word_of(verdict)
    return Cost(milliseconds=took * 1000, kibibytes=most / 1024, said=said)


def costs() -> str:
    """The table."""
    classify(b"ls")
    rows = []
    for shape in SHAPES:
        small, huge = cost(text(shape, MAX_COMMAND_BYTES)), cost(text(shape, HUGE_BYTES))
        rows.append(
            [
                shape,
                f"{small.milliseconds:.1f}",
                f"{small.kibibytes:.0f}",
                small.said,
                f"{huge.milliseconds:.2f}",
                huge.said,
            ]
        )
    return table(["shape", "16 KiB, ms", "KiB held", "said", "10 MB, ms", "said"], rows)


if __name__ == "__main__":
    sys.stdout.write(costs())
