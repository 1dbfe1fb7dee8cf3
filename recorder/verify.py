"""Checks recordings, bundles and checkpoints on disk, offline: no data key, no network, no clock. Changes nothing.

Everything found wrong is reported, not only the first; a file that cannot be read is wrong, never skipped.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from recorder import bundle, checkpoint, grec
from recorder.errors import Invalid, NoteError, RecordingInvalid
from recorder.reader import scan_file
from recorder.report import Report
from recorder.scan import Scan, State, check_commitment
from recorder.verify_linelog import keys_beside, log_in, verify_linelog
from recorder.verify_log import LogCheck

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from recorder.track import PartCheckpoint

__all__ = ["Report", "verify_bundle", "verify_checkpoint", "verify_paths", "verify_recording"]

_UNPROVED = "not compared with the audit log: this shows that the file is well formed, not that it is the original"
_OWN_KEYS = "checked with the keys found beside it: compare them with the ones you pinned"


def verify_paths(paths: Iterable[Path], *, vkeys: Sequence[str] = ()) -> list[Report]:
    """One report a path.

    `vkeys`: the keys you trust; without any, those beside a bundle are used, and the report says so. A checkpoint
    named together with a bundle of the same log is a pin: the bundle must contain everything that it signed.
    """
    paths = list(paths)
    alone = [path for path in paths if path.is_file() and log_in(path) is None]
    pins = [note for path in alone if (note := _note_in(path)) is not None]
    keys = list(vkeys) or [key for path in paths for key in _keys_beside(path)]
    return [_verify_path(path, vkeys, keys, pins) for path in paths]


def _verify_path(path: Path, vkeys: Sequence[str], keys: Sequence[str], pins: Sequence[bytes]) -> Report:
    if _is_bundle(path):
        return verify_bundle(path, vkeys=vkeys, pins=pins)
    log = log_in(path)
    if log is not None:
        return verify_linelog(log, vkeys=vkeys, pins=pins)
    if path.is_dir() or _start_of(path, len(grec.MAGIC)) == grec.MAGIC:
        return verify_recording(path, ())
    return verify_checkpoint(path, vkeys=keys)


def _note_in(path: Path) -> bytes | None:
    """What could be a checkpoint: anything short that is not a recording. Unreadable files report themselves."""
    data = _start_of(path, checkpoint.MAX_NOTE + 1)
    return None if data is None or data.startswith(grec.MAGIC) else data


def _start_of(path: Path, size: int) -> bytes | None:
    try:
        with path.open("rb") as source:
            return source.read(size)
    except OSError:
        return None


def _is_bundle(path: Path) -> bool:
    return (path / bundle.CHECKPOINT).is_file()


def _keys_beside(directory: Path) -> list[str]:
    log = log_in(directory)
    try:
        return keys_beside(log) if log is not None else _read_keys(directory)
    except (OSError, NoteError):
        return []  # verify_bundle reports it


def _read_keys(directory: Path) -> list[str]:
    text = (directory / bundle.VKEYS).read_bytes().decode("ascii", "replace")
    if not text.endswith("\n"):
        raise NoteError(f"{bundle.VKEYS}: not lines of verifier keys")
    return text[:-1].split("\n")


# -- recordings ------------------------------------------------------------------------------------------------------


def verify_recording(path: Path, expected: Sequence[PartCheckpoint]) -> Report:
    """One part file, or the directory of a recording, against what the audit log committed to.

    `expected` empty: form and completeness only, and the report says so.
    """
    sizes = {commitment.leaves for commitment in expected}
    problems: list[str] = []
    parts = sorted(path.glob("p*.grec")) if path.is_dir() else [path]
    scans = list(_scans(parts, sizes, problems))
    if not parts:
        problems.append("no recording here")
    problems += _part_problems(scans) + _commitment_problems(scans, expected)
    state, notes = "", [] if expected else [_UNPROVED]
    if scans:
        state = str(scans[-1].state)
        covered = any(_covers(commitment, scans[-1]) for commitment in expected)
        if scans[-1].state is not State.FINAL:
            text = f"{state}: the recording has no end; {scans[-1].leaves - 1} whole frames"
            text += f", {scans[-1].torn_bytes} bytes of a broken one" if scans[-1].torn_bytes else ""
            (notes if covered else problems).append(text)
    return Report(path=str(path), kind="recording", state=state, problems=tuple(problems), notes=tuple(notes))


def _scans(parts: Sequence[Path], sizes: set[int], problems: list[str]) -> Iterator[Scan]:
    for part in parts:
        try:
            found = scan_file(part, sizes)
        except RecordingInvalid as error:
            problems.append(f"{part.name}: {error}")
        except OSError as error:
            problems.append(f"{part.name}: cannot be read: {error.strerror}")
        else:
            if found.problem is not None:
                problems.append(f"{part.name}: {found.problem}")
            yield found


def _part_problems(scans: Sequence[Scan]) -> list[str]:
    problems: list[str] = []
    for before, part in pairwise(scans):
        number = part.header.part
        if (part.header.rec, part.header.sid, part.header.ten) != (
            before.header.rec,
            before.header.sid,
            before.header.ten,
        ):
            problems.append(f"part {number} is of another session")
        elif number != before.header.part + 1 or before.state is not State.FINAL:
            problems.append(f"part {number} does not follow part {before.header.part}")
        elif part.header.prev != (before.leaves, before.root):
            problems.append(f"part {number} was not made after this part {before.header.part}")
    return problems


def _commitment_problems(scans: Sequence[Scan], expected: Sequence[PartCheckpoint]) -> list[str]:
    by_part = {part.header.part: part for part in scans}
    problems: list[str] = []
    for commitment in expected:
        part = by_part.get(commitment.part)
        if part is None:
            problems.append(f"part {commitment.part} was audited and is not there")
            continue
        try:
            if part.header.rec != commitment.rec:
                raise RecordingInvalid(f"this is recording {part.header.rec}")
            check_commitment(part, commitment.leaves, commitment.root)
            if commitment.final and not _covers(commitment, part):
                raise RecordingInvalid(f"part {commitment.part}: {part.leaves - commitment.leaves} frames too many")
        except RecordingInvalid as error:
            problems.append(str(error))
    return problems


def _covers(commitment: PartCheckpoint, part: Scan) -> bool:
    return commitment.part == part.header.part and commitment.leaves == part.leaves


# -- checkpoints and bundles -----------------------------------------------------------------------------------------


def verify_checkpoint(path: Path, *, vkeys: Sequence[str]) -> Report:
    """One signed checkpoint. Without keys nothing is proved, and that is a problem."""
    state, problems = "", []
    try:
        with path.open("rb") as source:
            note = source.read(checkpoint.MAX_NOTE + 1)
        head = checkpoint.parse_checkpoint(note)
        state = _head_text(head)
        if not vkeys:
            raise NoteError("no verifier key was given")
        checkpoint.parse_and_verify(note, vkeys)
    except NoteError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"cannot be read: {error.strerror}")
    kind = "checkpoint" if state else "unknown"
    return Report(path=str(path), kind=kind, state=state, problems=tuple(problems), notes=())


def verify_bundle(directory: Path, *, vkeys: Sequence[str] = (), pins: Sequence[bytes] = ()) -> Report:
    """A bundle: signature, every entry, the tree, the tiles, the disclosures, and each recording in it.

    `pins`: checkpoints kept from earlier. Only they reveal a log that was cut, rolled back or rewritten and signed
    anew with the real key; those of other logs are left out of account.
    """
    state, problems, notes = "", list[str](), list[str]()
    try:
        note = (directory / bundle.CHECKPOINT).read_bytes()
        keys = list(vkeys) or _read_keys(directory)
        head = checkpoint.parse_and_verify(note, keys)
        state = _head_text(head)
        log = LogCheck(directory, head)
        log.run()
        problems, notes = log.problems, log.notes
        problems += _pin_problems(log, head, pins, keys)
        problems += _recording_problems(directory, log, notes)
    except (Invalid, OSError) as error:
        problems.append(str(error))
    if not vkeys:
        notes.append(_OWN_KEYS)
    return Report(path=str(directory), kind="bundle", state=state, problems=tuple(problems), notes=tuple(notes))


def _pin_problems(log: LogCheck, head: checkpoint.Checkpoint, pins: Sequence[bytes], keys: Sequence[str]) -> list[str]:
    problems: list[str] = []
    for note in pins:
        try:
            if checkpoint.parse_checkpoint(note).origin == head.origin:
                log.require_prefix(checkpoint.parse_and_verify(note, keys))
        except Invalid as error:
            problems.append(f"pinned checkpoint: {error}")
    return problems


def _recording_problems(directory: Path, log: LogCheck, notes: list[str]) -> list[str]:
    problems: list[str] = []
    here = directory / bundle.RECORDINGS
    found = sorted(here.iterdir()) if here.is_dir() else []
    for path in found:
        expected = log.recordings.get(path.name, [])
        if not expected:
            problems.append(f"recording {path.name} is not in the log")
            continue
        report = verify_recording(path, expected)
        problems += [f"recording {path.name}: {text}" for text in report.problems]
        notes += [f"recording {path.name}: {text}" for text in report.notes]
        problems += _owner_problems(path, log)
    return problems + _absence_problems(directory, log, {path.name for path in found}, notes)


def _absence_problems(directory: Path, log: LogCheck, found: set[str], notes: list[str]) -> list[str]:
    """What is not here, held against what the bundle says of itself."""
    contents = (directory / bundle.CONTENTS).read_bytes()
    if contents == bundle.WITHOUT_RECORDINGS:
        if found:
            return [f"{bundle.CONTENTS}: says that there are no recordings, {len(found)} are here"]
        if log.recordings:
            notes.append(f"exported without recordings: {len(log.recordings)} that the log names were not checked")
        return []
    if contents != bundle.WITH_RECORDINGS:
        return [f"{bundle.CONTENTS}: does not say whether the recordings are here"]
    open_ = len(log.recordings.keys() - found - log.ended)
    if open_:
        notes.append(f"{open_} recordings named in the log have no end there and are not in this bundle")
    return [f"recording {rec} is missing" for rec in sorted(log.ended - found)]


def _owner_problems(path: Path, log: LogCheck) -> list[str]:
    """The recording's clear header names the session and tenant that the log names."""
    try:
        header = scan_file(path / "p0000.grec").header
    except (RecordingInvalid, OSError):
        return []  # reported by verify_recording
    session = log.sessions.get(path.name, header.sid)
    if header.sid != session or header.ten != (log.tenant or header.ten):
        return [f"recording {path.name} is of session {header.sid}, tenant {header.ten}"]
    return []


def _head_text(head: checkpoint.Checkpoint) -> str:
    return f"{head.origin} size {head.size} root {head.root.hex()}"
