"""Checks a log kept in one file (recorder.linelog): every row, the signed head, the pins. Keyless, offline."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from recorder.checkpoint import parse_and_verify, parse_checkpoint
from recorder.entry import Entry, parse_entry
from recorder.errors import EntryError, Invalid
from recorder.linelog import HEAD, LOG, VKEY, Leaves, Past, must_begin_with, rows_of
from recorder.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from recorder.checkpoint import Checkpoint

_MAX_LISTED = 20  # rows named; the rest is counted
_BEGUN = "SC4003I"
_OWN_KEY = "checked with the key found beside it: compare it with the one you pinned"
ELDER = "journal.jsonl"
"""Where a journal of the first format lies, beside the one that went on from it."""


def log_in(path: Path) -> Path | None:
    """The log that `path` is, or that lies in the directory `path`; None where there is none."""
    found = path / f"journal{LOG}" if path.is_dir() else path
    return found if found.suffix == LOG and found.with_suffix(HEAD).is_file() else None


def keys_beside(log: Path) -> list[str]:
    """The verifier key that lies with a log. OSError."""
    return log.with_suffix(VKEY).read_bytes().decode("ascii", "replace").splitlines()


def verify_linelog(log: Path, *, vkeys: Sequence[str] = (), pins: Sequence[bytes] = ()) -> Report:
    """A log: form, signature, tree; with `pins` also that nothing they signed is gone or was changed since."""
    state, problems, notes = "", list[str](), list[str]()
    try:
        keys = list(vkeys) or keys_beside(log)
        head = parse_and_verify(log.with_suffix(HEAD).read_bytes(), keys)
        state = f"{head.origin} size {head.size} root {head.root.hex()}"
        past, first = _read(log, problems)
        must_begin_with(past.leaves, head)
        problems += _pin_problems(past.leaves, head, pins, keys)
        notes += _behind(past, head)
        problems += _elder_problems(first, log)
    except (Invalid, OSError) as error:
        problems.append(str(error))
    if not vkeys:
        notes.append(_OWN_KEY)
    return Report(path=str(log), kind="journal", state=state, problems=tuple(problems), notes=tuple(notes))


def _read(log: Path, problems: list[str]) -> tuple[Past, Entry | None]:
    past, first, wrong = Past(), None, 0
    with log.open("rb") as file:
        for number, row in enumerate(rows_of(file, past)):
            try:
                entry = parse_entry(row)
                first = first or entry
            except EntryError as error:
                wrong += 1
                if wrong <= _MAX_LISTED:
                    problems.append(f"row {number}: {error}")
    if wrong > _MAX_LISTED:
        problems.append(f"{wrong - _MAX_LISTED} more rows are not entries")
    return past, first


def _behind(past: Past, head: Checkpoint) -> list[str]:
    notes = []
    if past.leaves.size() > head.size:
        notes.append(f"{past.leaves.size() - head.size} rows came after the signed head")
    if past.torn_bytes:
        notes.append(f"{past.torn_bytes} bytes of a broken row at the end")
    return notes


def _pin_problems(leaves: Leaves, head: Checkpoint, pins: Sequence[bytes], keys: Sequence[str]) -> list[str]:
    problems: list[str] = []
    for note in pins:
        try:
            if parse_checkpoint(note).origin == head.origin:
                must_begin_with(leaves, parse_and_verify(note, keys))
        except Invalid as error:
            problems.append(f"pinned checkpoint: {error}")
    return problems


def _elder_problems(first: Entry | None, log: Path) -> list[str]:
    """The older journal that the first row is bound to, where it says that there is one."""
    named = first.fields.get("elder", "") if first is not None and first.code == _BEGUN else ""
    if not named:
        return []
    path = log.with_name(ELDER)
    if not path.is_file():
        return [f"{ELDER} is missing: this log goes on from it"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != named:
        return [f"{ELDER} is not the one that this log goes on from"]
    return []
