"""Look for scripts of which the classifier says less than bash then does, and count what was tried."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeGuard

from policy.classes import CommandClass
from policy.shell import FAULT, Classified, Refused, Verdict, classify
from tests.policy.fuzz import oracle
from tests.policy.fuzz.arena import BATCH, Arena, Did, parses
from tests.policy.fuzz.grammar import Scripts

_POOL: Final = 400
_LONGEST: Final = 600
_LONGEST_PARENT: Final = 200


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was tried.

    `holes`: scripts that did more than was said; `apart`: scripts in which shfmt sees more, or that no shell parses;
    `faults`: scripts that broke the classifier.
    """

    generated: int = 0
    refused: int = 0
    opaque: int = 0
    executed: int = 0
    hung: int = 0
    compared: int = 0
    holes: list[bytes] = field(default_factory=list)
    apart: list[bytes] = field(default_factory=list)
    faults: list[bytes] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count what another run tried too."""
        for name in ("generated", "refused", "opaque", "executed", "hung", "compared"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.holes += other.holes
        self.apart += other.apart
        self.faults += other.faults


def is_claim(verdict: Verdict) -> TypeGuard[Classified]:
    """Whether a verdict promises what a script does not do: only a class that is not opaque does."""
    return not isinstance(verdict, Refused) and not verdict.opaque and verdict.command_class <= CommandClass.WRITE


def is_hole(verdict: Verdict, did: Did) -> bool:
    """Whether a script did more than was said: a read that changed a file, or a program nobody was told of."""
    return is_claim(verdict) and (did.ran or (did.changed and verdict.command_class is CommandClass.READ))


def fresh(seed: int) -> Iterator[tuple[bytes, Verdict]]:
    """Scripts without end, none twice, and what is said of each: made by the grammar, or bred from earlier reads."""
    chance = random.Random(seed)
    sources = (Scripts(seed, builtins=False), Scripts(seed + 1, builtins=True))
    seen: set[bytes] = set()
    pool: list[str] = []
    while True:
        source = chance.choice(sources)
        text = source.mutated(chance.choice(pool)) if pool and chance.random() < 0.6 else source.script()
        script = text.encode()
        digest = hashlib.blake2b(script, digest_size=8).digest()
        if digest in seen or len(script) > _LONGEST:
            continue
        seen.add(digest)
        verdict = classify(script)
        # Anything may be said in a comment, so that scripts with one would crowd out the others.
        if (
            is_claim(verdict)
            and verdict.command_class is CommandClass.READ
            and "#" not in text
            and len(text) < _LONGEST_PARENT
        ):
            pool.insert(chance.randrange(len(pool) + 1), text)
            del pool[_POOL:]
        yield script, verdict


def hunt(arena: Arena, *, seed: int, cases: int, until: float) -> Tally:
    """Execute `cases` scripts about which a claim is made, or stop at `until` of the monotonic clock."""
    tally = Tally()
    waiting: dict[CommandClass, list[bytes]] = {CommandClass.READ: [], CommandClass.WRITE: []}
    for script, verdict in fresh(seed):
        tally.generated += 1
        _check(script, verdict, tally)
        if is_claim(verdict):
            waiting[verdict.command_class].append(script)
        enough = tally.executed + sum(map(len, waiting.values())) >= cases or time.monotonic() > until
        for batch in waiting.values():
            if batch and (enough or len(batch) == BATCH):
                _execute(arena, batch, tally)
                batch.clear()
        if enough:
            return tally
    return tally


def _check(script: bytes, verdict: Verdict, tally: Tally) -> None:
    if isinstance(verdict, Refused):
        tally.refused += 1
        if verdict.rule == FAULT:
            tally.faults.append(script)
    elif verdict.opaque:
        tally.opaque += 1
    if tally.generated % 100 == 0 and classify(script) != verdict:
        tally.faults.append(script)  # not pure


def _execute(arena: Arena, batch: Sequence[bytes], tally: Tally) -> None:
    """Run a batch of one class; if there is a hole in it, each alone: background work may be told of a later one."""
    verdicts = [classify(script) for script in batch]
    did = arena.run(batch)
    if any(map(is_hole, verdicts, did)):
        alone = [arena.alone(script) for script in batch]
        holes = [script for script, verdict, one in zip(batch, verdicts, alone, strict=True) if is_hole(verdict, one)]
        tally.holes += [shrunk(arena, script) for script in holes] or list(batch)
    tally.executed += len(batch)
    tally.hung += sum(one.hung for one in did)


def shrunk(arena: Arena, script: bytes) -> bytes:
    """A shorter script that is still a hole."""
    size = len(script) // 2
    while size:
        at = 0
        while at < len(script):
            shorter = script[:at] + script[at + size :]
            if is_claim(classify(shorter)) and is_hole(classify(shorter), arena.alone(shorter)):
                script = shorter
            else:
                at += size
        size //= 2
    return script


def compare(*, seed: int, cases: int, until: float) -> Tally:
    """Let shfmt look at `cases` scripts about which a claim is made: no command that it sees may be passed over."""
    tally = Tally()
    batch: list[bytes] = []
    for script, verdict in fresh(seed):
        tally.generated += 1
        if is_claim(verdict):
            batch.append(script)
        enough = tally.compared + len(batch) >= cases or time.monotonic() > until
        if len(batch) == oracle.BATCH or enough:
            tally.apart += [
                one for one, names in zip(batch, oracle.commands(batch), strict=True) if _differs(one, names)
            ]
            tally.compared += len(batch)
            batch.clear()
        if enough:
            return tally
    return tally


def _differs(script: bytes, names: frozenset[str] | None) -> bool:
    """Whether shfmt finds a command that was passed over, or both shells find no script at all."""
    if names is None:
        return not parses(script)
    return bool(oracle.hides(classify(script), names))
