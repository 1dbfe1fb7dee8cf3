"""Where the parts of a command line are kept, each with its place in the bytes as they were given. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tree_sitter import Node

from policy.classes import CommandClass
from policy.shell.effect import Effect, plain
from policy.shell.gate import GateError, Source
from policy.shell.verdict import Part

MAX_PARTS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one script. `outer` is the span that they get if it was quoted inside another script."""

    source: Source
    outer: tuple[int, int] | None
    kept: list[Part]

    def keep(self, span: tuple[int, int], argv: tuple[str, ...], effect: Effect) -> None:
        """Keep a part.

        Raises:
            GateError: there are more than MAX_PARTS.
        """
        if len(self.kept) >= MAX_PARTS:
            raise GateError("parse.parts", f"more than {MAX_PARTS} parts")
        self.kept.append(
            Part(
                span=self.place(span),
                argv=argv,
                command_class=effect.command_class,
                opaque=effect.opaque,
                egress=effect.egress,
                outlives=effect.outlives,
                rule=effect.rule,
                reason=effect.reason,
                keyboard=effect.keyboard,
                transfer=effect.transfer,
            )
        )

    def forget_repeats(self, start: int, seen: set[Part]) -> None:
        """Of what was kept from `start` on, drop what is in `seen`, argv apart; the rest is added to it."""
        fresh = {bare: part for part in self.kept[start:] if (bare := replace(part, argv=())) not in seen}
        self.kept[start:] = fresh.values()
        seen.update(fresh)

    def place(self, span: tuple[int, int]) -> tuple[int, int]:
        """A span of the script as a span of the command line."""
        if self.outer is not None:
            return self.outer
        start, end = span
        return self.source.origin(start), self.source.origin(max(end - 1, start)) + min(end - start, 1)


def span_of(node: Node) -> tuple[int, int]:
    """Where a node stands in its script."""
    return node.start_byte, node.end_byte


def total(parts: Iterable[Part]) -> Effect:
    """The effect of a script from its parts."""
    kept = list(parts)
    top = max(kept, key=lambda part: (part.command_class, part.opaque), default=None)
    if top is None:
        return plain(CommandClass.READ, "script", "runs nothing")
    return Effect(
        command_class=top.command_class,
        opaque=any(part.opaque for part in kept),
        egress=any(part.egress for part in kept),
        outlives=any(part.outlives for part in kept),
        rule=top.rule,
        reason=top.reason,
    )
