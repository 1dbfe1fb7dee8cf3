"""Reading back: only the recording that was asked for, only with what was audited, only with its key."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from recorder import grec
from recorder.canonical import encode
from recorder.errors import RecordingInvalid
from recorder.grec import Event, Kind
from recorder.reader import Expected, RecordingReader
from recorder.scan import State
from recorder.sealing import Sealer
from recorder.track import PartCheckpoint
from tests.recorder.recordings import DEK, DONE, QUICK, START, meta, reader, store
from tests.recorder.test_grec import HEADER

if TYPE_CHECKING:
    from pathlib import Path


async def recorded(root: Path) -> tuple[Path, list[PartCheckpoint]]:
    """A recording of several parts, and everything that was audited about it."""
    noise = random.Random(11)
    with store(root, replace(QUICK, part_bytes=1000)) as files:
        sink = await files.create(meta())
        for _ in range(5):
            await sink.event(Kind.OUT, 0, noise.randbytes(1500))
            await sink.sync()
        done = await sink.close(DONE)
        audited = [sink.opened]
        while not sink.checkpoints.empty():
            audited.append(sink.checkpoints.get_nowait())
        audited.append(PartCheckpoint(rec="rec_1", part=done.part, leaves=done.leaves, root=done.root, final=True))
        return files.directory("t1", "rec_1", START), audited


async def test_all_commitments_hold(tmp_path: Path) -> None:
    """Every commitment that was handed out holds for the files, part by part."""
    directory, audited = await recorded(tmp_path)
    assert {mark.part for mark in audited} == {0, 1, 2}
    assert reader(directory, dek=None).verify(audited) is State.FINAL


async def test_a_store_opens_what_it_made(tmp_path: Path) -> None:
    """The store finds a recording by tenant, id and start."""
    directory, audited = await recorded(tmp_path)
    with store(tmp_path) as files:
        found = await files.open(ten="t1", rec="rec_1", sid="ses_1", start=START, dek=DEK)
        assert found.verify(audited) is State.FINAL
        assert list(found.events()) == list(reader(directory).events())
        with pytest.raises(RecordingInvalid, match="no parts"):
            await files.open(ten="t1", rec="rec_2", sid="ses_1", start=START, dek=None)


async def test_nothing_audited_proves_nothing(tmp_path: Path) -> None:
    """Without commitments, parts, or the key there is an error, never a shrug."""
    directory, audited = await recorded(tmp_path)
    with pytest.raises(RecordingInvalid, match="nothing was audited"):
        reader(directory).verify([])
    with pytest.raises(RecordingInvalid, match="no parts"):
        reader(tmp_path / "nowhere")
    with pytest.raises(RecordingInvalid, match="no key"):
        list(reader(directory, dek=None).events())
    with pytest.raises(RecordingInvalid, match="no key"):
        reader(directory, dek=None).summary()
    with pytest.raises(RecordingInvalid, match="not the one"):
        list(reader(directory, dek=bytes(32)).events())
    assert reader(directory, dek=None).verify(audited) is State.FINAL


@pytest.mark.parametrize("change", [{"rec": "rec_2"}, {"sid": "ses_2"}, {"ten": "t2"}])
async def test_only_the_recording_that_was_asked_for(tmp_path: Path, change: dict[str, str]) -> None:
    """Another recording, session or tenant under this name is refused by every way of reading."""
    directory, audited = await recorded(tmp_path)
    expected = replace(Expected(rec="rec_1", sid="ses_1", ten="t1"), **change)
    other = RecordingReader(sorted(directory.iterdir()), expected=expected, dek=DEK)
    for attempt in (lambda: other.verify(audited), lambda: list(other.events()), other.summary):
        with pytest.raises(RecordingInvalid, match="this is recording rec_1"):
            attempt()


async def test_parts_hold_together(tmp_path: Path) -> None:
    """A part missing at the end, cut in the middle, or audited as sealed and not: refused."""
    directory, audited = await recorded(tmp_path)
    parts = sorted(directory.iterdir())
    last = parts[-1].read_bytes()
    parts[-1].unlink()
    with pytest.raises(RecordingInvalid, match="part 2 was audited and is not there"):
        reader(directory).verify(audited)
    parts[-1].write_bytes(last[: len(last) // 2])
    with pytest.raises(RecordingInvalid, match="leaves were audited"):
        reader(directory).verify(audited)
    cut = replace(audited[-1], leaves=1, root=bytes(32))
    with pytest.raises(RecordingInvalid, match="not those that were audited"):
        reader(directory).verify([cut])
    opened = next(mark for mark in audited if mark.part == 2 and mark.leaves == 1)
    with pytest.raises(RecordingInvalid, match="audited as sealed, but it is torn"):
        reader(directory).verify([replace(opened, final=True)])
    parts[-1].write_bytes(last)
    middle = parts[1].read_bytes()
    parts[1].write_bytes(middle[:-1])
    with pytest.raises(RecordingInvalid, match="part 2 does not continue"):
        reader(directory).verify([audited[0]])


def test_a_part_of_another_history(tmp_path: Path) -> None:
    """A second part that was made after another first one does not continue this one."""
    first = Sealer(HEADER, DEK)
    head = first.preamble + first.end(b"{}", 0)
    (tmp_path / "p0000.grec").write_bytes(head)
    second = Sealer(replace(HEADER, part=1, prev=(2, bytes(32))), DEK)
    (tmp_path / "p0001.grec").write_bytes(second.preamble + second.end(b"{}", 0))
    with pytest.raises(RecordingInvalid, match="part 1 does not continue"):
        reader(tmp_path).verify([PartCheckpoint(rec="rec_1", part=0, leaves=1, root=bytes(32), final=False)])


def lone(directory: Path, plain: bytes, *, end: bytes | None) -> RecordingReader:
    """A recording made by hand, with this end."""
    header = replace(HEADER, sid="ses_1")
    sealer = Sealer(header, DEK)
    data = sealer.preamble + sealer.data(plain, 0, segment=True)
    data += b"" if end is None else sealer.end(end, 1)
    path = directory / "p0000.grec"
    path.write_bytes(data)
    return reader(directory)


def test_an_end_that_does_not_fit(tmp_path: Path) -> None:
    """The end frame's own leaves and root must agree with the frames before it."""
    plain = grec.encode_events([Event(0, Kind.OUT, 0, b"x")])
    with pytest.raises(RecordingInvalid, match="has no end"):
        lone(tmp_path, plain, end=None).summary()
    for end, message in ((b"{", "not JSON"), (b"[]", "does not agree"), (encode({"leaves": 2, "root": ""}), "agree")):
        with pytest.raises(RecordingInvalid, match=message):
            lone(tmp_path, plain, end=end).summary()


def test_damage_after_the_asked_for_time_is_not_met(tmp_path: Path) -> None:
    """Events up to a time need only the frames up to there; reading on meets the damage and names the frame."""
    sealer = Sealer(replace(HEADER, sid="ses_1"), DEK)
    frames = [sealer.data(grec.encode_events([Event(t, Kind.OUT, 0, b"%d" % t)]), t, segment=False) for t in (1, 2, 3)]
    frames[2] = frames[2][:-1] + bytes([frames[2][-1] ^ 1])
    (tmp_path / "p0000.grec").write_bytes(sealer.preamble + b"".join(frames))
    found = reader(tmp_path)
    assert [event.t_us for event in found.events(0, 2)] == [1, 2]
    with pytest.raises(RecordingInvalid, match="frame 2: not authentic"):
        list(found.events())
