"""What a part's bytes say without the key: its header, how far it is whole, its leaves and roots. Decrypts nothing.

A scan alone proves little: whoever can write the file can write another well-formed one. It becomes proof when its
(leaves, root) is compared with what the audit log committed to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from recorder.errors import RecordingInvalid
from recorder.grec import Frame, Header, TornFrame, read_frames, read_preamble
from recorder.merkle import CompactRange, leaf_hash


class State(StrEnum):
    """How a part ends."""

    FINAL = "final"  # with its end frame
    OPEN = "open"  # without, and a writer is at it
    TRUNCATED = "truncated"  # after a whole frame, without an end
    TORN = "torn"  # inside a frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One part, read to its end or to the first frame that is wrong."""

    header: Header
    state: State
    leaves: int
    root: bytes
    whole_bytes: int
    torn_bytes: int
    duration_us: int
    roots: Mapping[int, bytes]  # root after this many leaves, for the counts that were asked for
    problem: str | None  # names the frame that breaks the format

    def require_sound(self) -> None:
        """Raise RecordingInvalid when a frame breaks the format. A part that merely ends early is sound."""
        if self.problem is not None:
            raise RecordingInvalid(self.problem)


def scan(source: BinaryIO, sizes: Collection[int] = ()) -> Scan:
    """Read one part. `sizes`: leaf counts whose roots are wanted, to compare with earlier commitments.

    Raises:
        RecordingInvalid: not even the header can be read.
    """
    header, start, _ = read_preamble(source)
    tree = CompactRange()
    tree.append(leaf_hash(start))
    roots = {1: tree.root()}
    whole, problem, state = len(start), None, State.TRUNCATED
    last: Frame | None = None
    try:
        for frame in read_frames(source):
            tree.append(frame.leaf())
            whole, last = whole + len(frame.raw), frame
            if tree.size() in sizes:
                roots[tree.size()] = tree.root()
    except TornFrame:
        state = State.TORN
    except RecordingInvalid as error:
        state, problem = State.TORN, str(error)
    if last is not None and last.header.final and state is State.TRUNCATED:
        state = State.FINAL
    return Scan(
        header=header,
        state=state,
        leaves=tree.size(),
        root=tree.root(),
        whole_bytes=whole,
        torn_bytes=source.seek(0, 2) - whole,
        duration_us=0 if last is None else last.header.t_us,
        roots=roots,
        problem=problem,
    )


def check_commitment(part: Scan, leaves: int, root: bytes) -> None:
    """Raise RecordingInvalid unless this part held exactly `root` after `leaves` leaves. Scan with `sizes={leaves}`.

    The message says between which frames the difference lies when the part is long enough to tell.
    """
    if part.leaves < leaves:
        raise RecordingInvalid(f"part {part.header.part}: {leaves} leaves were audited, {part.leaves} are there")
    if part.roots.get(leaves, part.root if leaves == part.leaves else None) != root:
        raise RecordingInvalid(
            f"part {part.header.part}: the first {leaves - 1} frames are not those that were audited"
        )
