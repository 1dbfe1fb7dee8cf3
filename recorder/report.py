"""What a verification found, for people and for exit codes. Judges nothing itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The verdict on one path.

    `problems` name the row, frame or file that is wrong; none means verified. `notes` say what was not, or could not
    be, compared: a reader who skips them believes more than was proved.
    """

    path: str
    kind: str  # recording, bundle, checkpoint, unknown
    state: str  # final, open, truncated, torn for recordings; "size N root HEX" for logs; empty when unreadable
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def lines(self) -> list[str]:
        """For a terminal; paths and messages with anything unprintable escaped."""
        verdict = "ok" if self.ok else "FAILED"
        head = f"{verdict}  {self.kind}  {self.path}  {self.state}".rstrip()
        body = [f"  wrong: {text}" for text in self.problems] + [f"  note: {text}" for text in self.notes]
        return [_plain(line) for line in (head, *body)]


def _plain(line: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
