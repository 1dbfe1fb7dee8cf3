"""Writes an audit bundle: a directory that an auditor checks offline with `grantd verify`. Signs and decides nothing.

    checkpoint                      the signed head of the log
    vkeys                           verifier keys, one a line; an auditor compares them with the ones they pinned
    tile/<L>/<N>[.p/<W>]            hash tiles
    tile/entries/<N>[.p/<W>]        the entries
    contents                        whether the recordings are here: `recordings: all` or `recordings: none`
    disclosures.jsonl               {"seq": leaf index, "text": disclosure}, where the bundle may tell
    recordings/<recording>/p0000.grec

`all` are those whose end is in the log and that committed to frames: one that still runs has frames that nobody vouches
for, one that was lost or failed may have none. Who takes a recording out of a bundle that says `all` is found out; who
makes it say `none` turns it into another bundle than the one that was asked for, and the verifier says so.

Source: https://c2sp.org/tlog-tiles for the first four.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from recorder import canonical, tiles
from recorder.errors import RecordingInvalid
from recorder.merkle import leaf_hash

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from recorder.entry import Entry

CHECKPOINT = "checkpoint"
VKEYS = "vkeys"
DISCLOSURES = "disclosures.jsonl"
RECORDINGS = "recordings"
CONTENTS = "contents"
WITH_RECORDINGS = b"recordings: all\n"
WITHOUT_RECORDINGS = b"recordings: none\n"
_ENDED = frozenset({"RC1003I", "RC1004W"})  # recording.closed, recording.recovered
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def write_bundle(
    directory: Path,
    *,
    entries: Iterable[bytes],
    checkpoint: bytes,
    vkeys: Iterable[str],
    disclosures: Iterable[tuple[int, bytes]] | None,
    recordings: Iterable[tuple[str, Iterable[Path]]] | None,
) -> None:
    """Write a bundle into a new directory (0700). `entries` are exactly those under the checkpoint, in order.

    `disclosures`: (leaf index, text) pairs; None leaves personal fields out, and the verifier says that it is so.
    `recordings`: (recording id, its part files in order), all that `must_hold` names; None leaves recordings out.

    Raises:
        FileExistsError: the directory is there. OSError: the disk. RecordingInvalid: an id that is not plain.
    """
    directory.mkdir(mode=0o700)
    _put(directory, CHECKPOINT, checkpoint)
    _put(directory, VKEYS, "".join(f"{key}\n" for key in vkeys).encode())
    _write_log(directory, entries)
    if disclosures is not None:
        with (directory / DISCLOSURES).open("xb") as out:
            for seq, text in disclosures:
                out.write(canonical.encode({"seq": seq, "text": text.decode()}) + b"\n")
    _put(directory, CONTENTS, WITHOUT_RECORDINGS if recordings is None else WITH_RECORDINGS)
    for rec, parts in recordings or ():
        _copy_recording(directory, rec, parts)


def must_hold(entry: Entry) -> str | None:
    """The recording that this row puts into every bundle with recordings; None if it names none of that kind."""
    if entry.code not in _ENDED or entry.fields.get("root") is None:
        return None
    return str(entry.fields.get("rec"))


def _write_log(directory: Path, entries: Iterable[bytes]) -> None:
    stack, batch, count = tiles.TileStack(), list[bytes](), 0
    for entry in entries:
        for path, data in stack.append(leaf_hash(entry)):
            _put(directory, path, data)
        batch.append(entry)
        count += 1
        if len(batch) == tiles.WIDTH:
            _put(directory, tiles.tile_path("entries", count // tiles.WIDTH - 1), tiles.encode_entries(batch))
            batch = []
    for path, data in stack.partial():
        _put(directory, path, data)
    if batch:
        path = tiles.tile_path("entries", count // tiles.WIDTH, len(batch))
        _put(directory, path, tiles.encode_entries(batch))


def _copy_recording(directory: Path, rec: str, parts: Iterable[Path]) -> None:
    if not _ID.fullmatch(rec):
        raise RecordingInvalid("a recording's id is plain")
    target = directory / RECORDINGS / rec
    target.mkdir(parents=True)
    for part in parts:
        shutil.copyfile(part, target / part.name)


def _put(directory: Path, name: str, data: bytes) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        out.write(data)
