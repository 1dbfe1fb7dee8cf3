"""An auditor finds every change of a recording, beside the log that it was audited in and alone (I-30, I-32, I-35)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from recorder import bundle
from recorder.grec import Kind
from recorder.reader import scan_file
from recorder.track import PartCheckpoint
from recorder.verify import verify_bundle, verify_checkpoint, verify_paths, verify_recording
from tests.recorder.bundles import (
    VKEY,
    problems,
    row,
    rows,
    signed,
    write,
)
from tests.recorder.recordings import DONE, QUICK, START, meta, store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_network")


async def record(root: Path, rec: str, *, close: bool = True) -> tuple[Path, list[dict[str, int | str]]]:
    """A recording's directory, and the fields of what was audited about it."""
    with store(root) as files:
        sink = await files.create(meta(rec))
        await sink.event(Kind.OUT, 0, b"secret output")
        await sink.sync()
        audited: list[dict[str, int | str]] = [
            {"code": "RC1001I", "part": 0, "leaves": 1, "root": sink.opened.root.hex()}
        ]
        if close:
            done = await sink.close(DONE)
            audited.append({"code": "RC1003I", "part": 0, "leaves": done.leaves, "root": done.root.hex()})
        directory = files.directory("t1", rec, START)
    if not close:
        report = verify_recording(directory, ())
        assert report.state == "truncated"
        audited.append({"code": "RC1004W", "part": 0, **leaves_of(directory)})
    return directory, [fields | {"rec": rec, "session": "ses_1"} for fields in audited]


def leaves_of(directory: Path) -> dict[str, int | str]:
    """What recovery audits."""
    found = scan_file(directory / "p0000.grec")
    return {"leaves": found.leaves, "root": found.root.hex()}


async def test_recordings_in_a_bundle(tmp_path: Path) -> None:
    """A sealed and a recovered recording verify against the log; anything else about them is named."""
    for name in ("a_root", "b_root"):
        (tmp_path / name).mkdir()
    sealed, first = await record(tmp_path / "a_root", "rec_a")
    cut, second = await record(tmp_path / "b_root", "rec_b", close=False)
    audited: list[dict[str, int | str]] = [
        *first,
        *second,
        {"code": "RC1005E", "rec": "rec_c"},
        {**first[0], "rec": "rec_gone"},
    ]
    entries = [row(number, **fields) for number, fields in enumerate(audited)]
    directory = tmp_path / "bundle"
    bundle.write_bundle(
        directory,
        entries=entries,
        checkpoint=signed(entries),
        vkeys=[VKEY],
        disclosures=[],
        recordings=[("rec_a", sorted(sealed.iterdir())), ("rec_b", sorted(cut.iterdir()))],
    )
    report = verify_bundle(directory, vkeys=[VKEY])
    assert report.ok, report.problems
    assert any("rec_b: truncated" in note for note in report.notes)
    assert "1 recordings named in the log have no end there and are not in this bundle" in report.notes
    part = directory / "recordings/rec_a/p0000.grec"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    assert "recording rec_a: part 0: 3 leaves were audited, 2 are there" in problems(directory)
    part.write_bytes(whole + b"x")
    assert "recording rec_a: p0000.grec: frame 2: bytes after the final frame" in problems(directory)
    part.write_bytes((directory / "recordings/rec_b/p0000.grec").read_bytes())
    assert "this is recording rec_b" in problems(directory)
    part.write_bytes(b"")
    assert "recording rec_a: p0000.grec: not a GREC" in problems(directory)
    part.write_bytes(whole)
    (directory / "recordings/rec_x").mkdir()
    assert "recording rec_x is not in the log" in problems(directory)


async def test_a_recording_that_was_taken_out_is_missed(tmp_path: Path) -> None:
    """I-32: a bundle says whether the recordings are in it. Where it says so, each one that ended has to be there."""
    sealed, audited = await record(tmp_path, "rec_a")
    lost = row(50, code="RC1004W", rec="rec_lost")  # lost with its broker: it committed to nothing
    entries = [*(row(number, **fields) for number, fields in enumerate(audited)), lost]
    head, parts = signed(entries), [("rec_a", sorted(sealed.iterdir()))]

    def made(name: str, recordings: list[tuple[str, list[Path]]] | None) -> Path:
        bundle.write_bundle(
            tmp_path / name, entries=entries, checkpoint=head, vkeys=[VKEY], disclosures=[], recordings=recordings
        )
        return tmp_path / name

    whole, without = made("whole", parts), made("without", None)
    assert verify_bundle(whole, vkeys=[VKEY]).notes == ()
    assert problems(made("never", [])) == "recording rec_a is missing"
    report = verify_bundle(without, vkeys=[VKEY])
    assert report.ok, report.problems
    assert report.notes == ("exported without recordings: 1 that the log names were not checked",)

    (whole / "contents").write_bytes(bundle.WITHOUT_RECORDINGS)
    assert problems(whole) == "contents: says that there are no recordings, 1 are here"
    (whole / "contents").write_bytes(b"recordings: some\n")
    assert problems(whole) == "contents: does not say whether the recordings are here"
    (whole / "contents").unlink()
    assert "contents" in problems(whole)
    (whole / "contents").write_bytes(bundle.WITH_RECORDINGS)
    shutil.rmtree(whole / "recordings/rec_a")
    assert problems(whole) == "recording rec_a is missing"
    shutil.rmtree(whole / "recordings")
    assert problems(whole) == "recording rec_a is missing"


async def test_a_commitment_must_be_complete(tmp_path: Path) -> None:
    """A recording's row without its root is itself a problem; one of another session is named."""
    directory, audited = await record(tmp_path, "rec_a")
    entries = [row(0, code="RC1001I", rec="rec_a", part=0), *[row(1 + n, **f) for n, f in enumerate(audited)]]
    assert "row 0: a recording's commitment is incomplete" in problems(write(tmp_path / "b", entries))
    entries = [row(n, **{**fields, "session": "ses_9"}) for n, fields in enumerate(audited)]
    target = tmp_path / "c"
    bundle.write_bundle(
        target,
        entries=entries,
        checkpoint=signed(entries),
        vkeys=[VKEY],
        disclosures=None,
        recordings=[("rec_a", sorted(directory.iterdir()))],
    )
    assert "recording rec_a is of session ses_1, tenant t1" in problems(target)


async def test_a_lone_recording(tmp_path: Path) -> None:
    """Without the log a recording is only shown to be well formed, and the report says so."""
    sealed, audited = await record(tmp_path, "rec_a")
    part = sealed / "p0000.grec"
    for path in (sealed, part):
        report = verify_recording(path, ())
        assert report.ok
        assert report.state == "final"
        assert "not compared with the audit log" in report.notes[0]
    mark = PartCheckpoint(
        rec="rec_a", part=0, leaves=int(audited[1]["leaves"]), root=bytes.fromhex(str(audited[1]["root"])), final=True
    )
    assert verify_recording(part, [mark]).notes == ()
    early = PartCheckpoint(rec="rec_a", part=0, leaves=1, root=bytes.fromhex(str(audited[0]["root"])), final=True)
    assert "2 frames too many" in verify_recording(part, [early]).problems[0]
    late = PartCheckpoint(rec="rec_a", part=1, leaves=1, root=bytes(32), final=False)
    assert verify_recording(part, [late]).problems == ("part 1 was audited and is not there",)
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    report = verify_recording(part, ())
    assert report.problems[0].startswith("torn: the recording has no end; 1 whole frames, ")
    (tmp_path / "empty").mkdir()
    assert verify_recording(tmp_path / "empty", ()).problems == ("no recording here",)
    assert "cannot be read" in verify_recording(tmp_path / "absent", ()).problems[0]


async def test_parts_belong_together(tmp_path: Path) -> None:
    """Parts of other sessions, out of order, or from another history are named."""
    (tmp_path / "three").mkdir()
    roots = [tmp_path / name for name in ("one", "two")]
    made: list[Path] = []
    for number, root in enumerate(roots):
        root.mkdir()
        with store(root, replace(QUICK, part_bytes=1000)) as files:
            sink = await files.create(meta("rec_a" if number == 0 else "rec_b"))
            for _ in range(6):
                await sink.event(Kind.OUT, 0, Random(1).randbytes(2000))
                await sink.sync()
            await sink.close(DONE)
            made.append(files.directory("t1", "rec_a" if number == 0 else "rec_b", START))
    one, two = made
    assert verify_recording(one, ()).ok
    assert len(list(one.iterdir())) > 2
    shutil.copy(two / "p0001.grec", one / "p0001.grec")
    assert "part 1 is of another session" in verify_recording(one, ()).problems
    with store(tmp_path / "three", replace(QUICK, part_bytes=1000)) as files:
        sink = await files.create(meta("rec_a"))
        for _ in range(6):
            await sink.event(Kind.OUT, 0, Random(2).randbytes(2000))
            await sink.sync()
        await sink.close(DONE)
        shutil.copy(files.directory("t1", "rec_a", START) / "p0001.grec", one / "p0001.grec")
    assert "part 1 was not made after this part 0" in verify_recording(one, ()).problems
    (one / "p0001.grec").unlink()
    assert "part 2 does not follow part 0" in verify_recording(one, ()).problems


async def test_paths_of_all_kinds(tmp_path: Path) -> None:
    """Recordings, bundles and checkpoints are told apart; what is none of them, or missing, is a problem."""
    sealed, _ = await record(tmp_path, "rec_a")
    directory = write(tmp_path / "b", rows())
    note = tmp_path / "note"
    note.write_bytes(signed(rows()))
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x00junk\x1b[31m")
    paths = [sealed, sealed / "p0000.grec", directory, note, junk, tmp_path / "absent"]
    reports = verify_paths(paths, vkeys=[VKEY])
    assert [report.kind for report in reports] == [
        "recording",
        "recording",
        "bundle",
        "checkpoint",
        "unknown",
        "unknown",
    ]
    assert [report.ok for report in reports] == [True, True, False, True, False, False]
    assert [report.ok for report in verify_paths([directory, note], vkeys=[VKEY])] == [True, True]
    assert verify_checkpoint(note, vkeys=()).problems == ("no verifier key was given",)
    (directory / "vkeys").unlink()
    assert not verify_paths([directory])[0].ok
    assert reports[0].lines()[0] == f"ok  recording  {sealed}  final"
