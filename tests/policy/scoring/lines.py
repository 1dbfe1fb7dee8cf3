"""Labelled command lines: one JSON object a line, read strictly. Knows nothing of the classifier.

Keys: `cmd`, `expect` (a class or "refused"), `why`; `debatable`: classes that reasonable people may give it too;
`opaque`, `egress`: the flags, where the label speaks of them. Further keys are passed over: other sets say where a line
is from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REFUSED: Final = "refused"
WORDS: Final = ("read", "write", "execute", "install", "reboot", REFUSED)
OWN: Final = Path(__file__).parents[1] / "labelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A command line and what it should be. `allowed` holds `expect` and every debatable word."""

    command: bytes
    expect: str
    why: str
    allowed: frozenset[str]
    opaque: bool | None
    egress: bool | None
    family: str


def load(path: Path) -> list[Line]:
    """The lines of a file, or of every .jsonl file of a folder.

    Raises:
        ValueError: a line is not an object, lacks a key, or has a word that names no class; it says which line.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    return [line for file in files for line in _file(file)]


def _file(file: Path) -> Iterator[Line]:
    for number, text in enumerate(file.read_text("utf-8").splitlines(), 1):
        try:
            yield _line(json.loads(text), file.stem)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file.name}:{number}: {error!r}") from None


def _line(row: dict[str, object], family: str) -> Line:
    expect, debatable = str(row["expect"]), row.get("debatable", [])
    if not isinstance(debatable, list):
        raise TypeError("debatable is a list")
    allowed = frozenset([expect, *debatable])
    if not allowed <= set(WORDS):
        raise ValueError(f"no such class among {sorted(allowed)}")
    return Line(
        command=str(row["cmd"]).encode("utf-8", "surrogatepass"),
        expect=expect,
        why=str(row.get("why", "")),
        allowed=allowed,
        opaque=_flag(row, "opaque"),
        egress=_flag(row, "egress"),
        family=family,
    )


def _flag(row: dict[str, object], key: str) -> bool | None:
    value = row.get(key)
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{key} is true or false")
    return value
