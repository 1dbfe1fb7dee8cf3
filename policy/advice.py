"""What would lower the class of a command line. Computed: every piece of advice was applied and classified again.

Pure and bounded: at most MAX_TRIES edited lines are classified, and no more than MAX_BYTES of them together.
"""

from __future__ import annotations

from dataclasses import dataclass

from policy.catalog import Catalogue
from policy.classes import CommandClass
from policy.edits import Edit, edits
from policy.shell import Classified, Verdict, classify_by

MAX_TRIES = 16
MAX_BYTES = 8 * 1024
MAX_ADVICE = 4
_LOWEST = (CommandClass.READ, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """With `put` in place of the bytes of `span`, the line has exactly this class. `say` is unescaped text."""

    span: tuple[int, int]
    put: str
    say: str
    command_class: CommandClass
    opaque: bool

    def applied(self, command: bytes) -> bytes:
        """The command with this advice followed."""
        return command[: self.span[0]] + self.put.encode() + command[self.span[1] :]


def advise(catalogue: Catalogue, command: bytes, verdict: Verdict) -> tuple[Advice, ...]:
    """Edits that lower the class of `command` or make it understood, those that change least first.

    Args:
        catalogue: what the command was classified by.
        command: the bytes that were classified.
        verdict: what `classify_by` says of them. One that is refused, or a read that is understood, gets no advice.
    """
    if not isinstance(verdict, Classified) or _height(verdict) == _LOWEST:
        return ()
    tries = min(MAX_TRIES, MAX_BYTES // max(len(command), 1))
    found: list[Advice] = []
    for edit in edits(catalogue, command, verdict)[:tries]:
        better = _tried(catalogue, edit, command, verdict)
        if better is not None and not any(_is_less(better, than=before) for before in found):
            found.append(better)
        if len(found) == MAX_ADVICE:
            break
    return tuple(found)


def _tried(catalogue: Catalogue, edit: Edit, command: bytes, verdict: Classified) -> Advice | None:
    """The edit as advice, if the line is less with it and in nothing more."""
    seen = classify_by(catalogue, edit.applied(command))
    if not isinstance(seen, Classified) or not _is_lower(seen, than=verdict):
        return None
    return Advice(span=edit.span, put=edit.put, say=edit.say, command_class=seen.command_class, opaque=seen.opaque)


def _height(verdict: Classified) -> tuple[CommandClass, bool]:
    return verdict.command_class, verdict.opaque


def _is_lower(seen: Classified, *, than: Classified) -> bool:
    before = (than.command_class, than.opaque, than.egress, than.outlives)
    after = (seen.command_class, seen.opaque, seen.egress, seen.outlives)
    return all(a <= b for a, b in zip(after, before, strict=True)) and after[:2] != before[:2]


def _is_less(advice: Advice, *, than: Advice) -> bool:
    """Whether an earlier piece of advice gains as much by changing only a part of what this one changes."""
    smaller = advice.span[0] <= than.span[0] and than.span[1] <= advice.span[1]
    return (smaller or advice.say == than.say) and (than.command_class, than.opaque) <= (
        advice.command_class,
        advice.opaque,
    )
