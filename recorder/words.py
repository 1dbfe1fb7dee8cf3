"""What a person could have read in a recording, as pieces of plain text, and the words in it.

Indexing and searching both read the recording this way, so a filter of words never hides what a search would find. A
word is a run of letters and digits in any case. Knows no file and no key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from recorder.events import Event, Kind

MAX_WORD = 64  # characters of a word that count
_TOKEN: Final = re.compile(r"[^\W_]+")
_COLOUR: Final = re.compile(r"\x1b\[[\d;:]*m")
_SEQUENCE: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]?|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_FOLDED: Final = bytes(byte if bytes((byte,)).isalnum() else 32 for byte in bytes(range(256)).lower())
"""ASCII in lower case, and a blank for all that is no letter and no digit."""
_PRINTED: Final = frozenset({Kind.OUT, Kind.ERR})
_SAID: Final = {Kind.EXEC: ("argv", "subsystem"), Kind.MARK: ("label",), Kind.SFTP: ("op", "path", "to")}
_MAX_HELD = 16 * 1024  # bytes of one unfinished line
_MAX_EXCERPT = 200  # characters


def texts(events: Iterable[Event]) -> Iterator[tuple[int, str]]:
    """(time, text) of what was printed, line by line or in longer runs, and of what was asked for and decided."""
    return ((t_us, run if isinstance(run, str) else _plain(run)) for t_us, run in _runs(events))


def distinct(events: Iterable[Event]) -> Iterator[set[str]]:
    """The words of `texts`, each once a run or more often: no order, no times, and a quarter of the work."""
    for _, run in _runs(events):
        if isinstance(run, bytes) and run.isascii() and b"\x1b" not in run:
            yield {word[:MAX_WORD].decode("ascii") for word in set(run.translate(_FOLDED).split())}
        else:
            yield set(words_in(run if isinstance(run, str) else _plain(run)))


def _runs(events: Iterable[Event]) -> Iterator[tuple[int, bytes | str]]:
    """What was printed as it came, and the rest as text."""
    held: dict[tuple[int, int], tuple[int, bytearray]] = {}
    for event in events:
        if event.kind in _PRINTED:
            key = (event.chan, event.kind)
            _, line = held.setdefault(key, (event.t_us, bytearray()))
            line += event.payload
            if cut := _cut(line):
                yield event.t_us, bytes(line[:cut])
                held[key] = (event.t_us, line[cut:])
        elif names := _SAID.get(Kind(event.kind) if event.kind in set(Kind) else Kind.GAP):
            yield event.t_us, _said(event, names)
    for began, line in held.values():
        yield began, bytes(line)


def _cut(line: bytearray) -> int:
    """After the last whole line; in one that does not end, after the last blank, else anywhere."""
    whole = line.rfind(b"\n") + 1
    if whole or len(line) <= _MAX_HELD:
        return whole
    blank = max(line.rfind(b" "), line.rfind(b"\x1b"))
    return blank if blank > 0 else len(line)


def _plain(data: bytes) -> str:
    """Colours leave nothing behind; whatever moves the cursor separates words."""
    return _SEQUENCE.sub(" ", _COLOUR.sub("", data.decode(errors="replace")))


def _said(event: Event, names: tuple[str, ...]) -> str:
    try:
        document = json.loads(event.payload)
    except (ValueError, RecursionError):
        return ""
    return " ".join(str(document.get(name, "")) for name in names) if isinstance(document, dict) else ""


def words_in(text: str) -> Iterator[str]:
    """The words, in lower case, cut to MAX_WORD."""
    return (word[:MAX_WORD] for word in _TOKEN.findall(text.lower()))


@dataclass(frozen=True, slots=True)
class Hit:
    """Where something was found: the time, and the line it stands in, as plain text that may hold anything."""

    t_us: int
    line: str


class Wanted:
    """What is searched for: a word, or several in a row with what stands between them.

    Raises:
        ValueError: no letter and no digit in it.
    """

    def __init__(self, text: str) -> None:
        folded = text.strip().lower()
        self.words = frozenset(words_in(folded))
        if not self.words:
            raise ValueError("nothing to search for")
        # whole words alone, so that the answer does not depend on whether there is a filter
        before = r"(?<![^\W_])" if _TOKEN.match(folded) else ""
        after = r"(?![^\W_])" if _TOKEN.match(folded[-1]) else ""
        self._pattern = re.compile(before + re.escape(folded) + after)

    def found(self, events: Iterable[Event]) -> Iterator[Hit]:
        """Every line that holds it, once."""
        for t_us, text in texts(events):
            folded, last = text.lower(), -1
            for match in self._pattern.finditer(folded):
                begin = folded.rfind("\n", 0, match.start()) + 1
                if begin != last:
                    last = begin
                    yield Hit(t_us, _excerpt(folded if len(folded) != len(text) else text, begin, match.start()))


def _excerpt(text: str, begin: int, at: int) -> str:
    """The line, or what of a long one is around the place."""
    begin = max(begin, at - _MAX_EXCERPT // 2)
    line, _, _ = text[begin : begin + _MAX_EXCERPT].partition("\n")
    return line.strip()
