"""An auditor with public keys and files finds every change, offline, and learns which row it is (I-32, I-35)."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder import bundle, checkpoint, tiles
from recorder.checkpoint import Checkpoint
from recorder.entry import Disclosure, disclose, encode_entry
from recorder.errors import ProofError, RecordingInvalid
from recorder.grec import Kind
from recorder.merkle import leaf_hash, root_of
from recorder.reader import scan_file
from recorder.track import PartCheckpoint
from recorder.verify import verify_bundle, verify_checkpoint, verify_paths, verify_recording
from recorder.verify_log import tenant_of
from tests.recorder.recordings import DONE, QUICK, START, meta, store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ORIGIN = "grantd.example/c1/audit/t1"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
VKEY = checkpoint.vkey(ORIGIN, PUBLIC)
ROWS = 700  # two full bundles and a partial one


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verification never opens a socket."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("verification went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def row(number: int, *told: Disclosure, **fields: int | str) -> bytes:
    """One entry of tenant t1."""
    base: dict[str, int | bool | str] = {
        "id": f"0190163d8694739b8000{number:012x}",
        "t": 1_763_769_600_000_000 + number,
        "code": "SE2008I",
        "ten": "t1",
    }
    return encode_entry(base | fields, told, number.to_bytes(16))


def signed(entries: list[bytes], origin: str = ORIGIN) -> bytes:
    """The log's own checkpoint over these rows."""
    head = Checkpoint(origin=origin, size=len(entries), root=root_of(map(leaf_hash, entries)), time_s=1)
    return checkpoint.sign(head, public_key=PUBLIC, signer=KEY.sign)


def secret(number: int) -> Disclosure:
    """A personal field of row `number`."""
    return disclose(number.to_bytes(16), "user.name", f"person {number}")


def rows() -> list[bytes]:
    """A log with disclosures on every hundredth row."""
    return [row(number, *([secret(number)] if number % 100 == 0 else [])) for number in range(ROWS)]


def disclosures() -> list[tuple[int, bytes]]:
    """The disclosures of `rows`."""
    return [(number, secret(number).text) for number in range(0, ROWS, 100)]


def write(directory: Path, entries: list[bytes], told: list[tuple[int, bytes]] | None = None) -> Path:
    """A bundle of these rows, signed."""
    bundle.write_bundle(
        directory, entries=entries, checkpoint=signed(entries), vkeys=[VKEY], disclosures=told, recordings=()
    )
    return directory


def problems(directory: Path, **options: object) -> str:
    """What the verifier says is wrong."""
    report = verify_bundle(directory, **options)  # type: ignore[arg-type]
    assert report.ok == (not report.problems)
    return "\n".join(report.problems)


def test_a_good_bundle(tmp_path: Path) -> None:
    """A bundle as written verifies, and says which log, size and root, and whose keys were used."""
    report = verify_bundle(write(tmp_path / "b", rows(), disclosures()))
    assert report.ok, report.problems
    assert report.state.startswith(f"{ORIGIN} size {ROWS} root ")
    assert any("pinned" in note for note in report.notes)
    trusted = verify_bundle(tmp_path / "b", vkeys=[VKEY])
    assert trusted.ok
    assert trusted.notes == ()
    hidden = verify_bundle(write(tmp_path / "h", rows()), vkeys=[VKEY])
    assert hidden.ok
    assert hidden.notes == ("no disclosures in this bundle: personal fields stay hidden",)


def test_an_empty_log(tmp_path: Path) -> None:
    """A log of no rows verifies too."""
    assert verify_bundle(write(tmp_path / "b", [], [])).ok


def flip(entries: list[bytes]) -> list[bytes]:
    """One field of row 300 changed."""
    return [*entries[:300], row(300, secret(300), ten="t1", agent="ag_1"), *entries[301:]]


ATTACKS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "edit": (flip, "row 300: "),
    "delete": (lambda entries: [*entries[:300], *entries[301:]], "row 300: "),
    "insert": (lambda entries: [*entries[:300], row(9999), *entries[300:]], "row 300: "),
    "swap": (lambda entries: [*entries[:300], entries[301], entries[300], *entries[302:]], "row 301: "),
    "repeat": (lambda entries: [*entries[:300], entries[299], *entries[301:]], "row 300: repeats the event of row 299"),
    "tail cut": (lambda entries: entries[:-1], "rows 512 to 699: "),
    "delete all": (lambda _entries: [], "rows 0 to 255: "),
    "other tenant": (lambda entries: [*entries[:300], row(300, ten="t2"), *entries[301:]], "belongs to tenant t2"),
    "garbage": (lambda entries: [*entries[:300], b"{}", *entries[301:]], "row 300: entry of an unknown version"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_changed_log_is_found_and_the_row_named(tmp_path: Path, attack: str) -> None:
    """Rows changed behind the signature: the verifier names the first row that is wrong."""
    change, message = ATTACKS[attack]
    good = write(tmp_path / "good", rows(), disclosures())
    bad = change(rows())
    shutil.rmtree(good / "tile" / "entries")
    for index in range(0, len(bad), tiles.WIDTH):
        chunk = bad[index : index + tiles.WIDTH]
        path = good / tiles.tile_path("entries", index // tiles.WIDTH, len(chunk))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiles.encode_entries(chunk))
    found = problems(good)
    assert message in found
    assert f"are not the {ROWS} that were signed" in found


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_consistent_forgery_needs_the_key(tmp_path: Path, attack: str) -> None:
    """With rows and tiles rewritten alike, the signature is what no longer fits."""
    change, _ = ATTACKS[attack]
    entries = change(rows())
    directory = tmp_path / "b"
    bundle.write_bundle(
        directory, entries=entries, checkpoint=signed(rows()), vkeys=[VKEY], disclosures=None, recordings=()
    )
    assert "that were signed" in problems(directory)


def test_every_byte_of_a_small_bundle_counts(tmp_path: Path) -> None:
    """Each byte of each file of a bundle, flipped, is found."""
    directory = write(tmp_path / "b", [row(0, secret(0)), row(1), row(2)], [(0, secret(0).text)])
    for path in sorted(directory.rglob("*")):
        if path.is_dir():
            continue
        whole = path.read_bytes()
        for position in range(len(whole)):
            damaged = bytearray(whole)
            damaged[position] ^= 1
            path.write_bytes(bytes(damaged))
            assert problems(directory), f"{path.name} byte {position}"
        path.write_bytes(whole)
    assert not problems(directory)


def test_rewritten_and_signed_anew(tmp_path: Path) -> None:
    """With the real key a rewritten log verifies alone; against any earlier pin it does not (rollback, fork)."""
    pin = tmp_path / "pinned"
    pin.write_bytes(signed(rows()))
    forked = write(tmp_path / "forked", flip(rows()))
    shorter = write(tmp_path / "shorter", rows()[:-1])
    longer = write(tmp_path / "longer", [*rows(), row(ROWS)])
    assert verify_bundle(forked).ok
    assert "the first 700 rows are not those it signed" in problems(forked, pins=[pin.read_bytes()])
    assert "it signed 700 rows, 699 are here" in problems(shorter, pins=[pin.read_bytes()])
    assert not problems(longer, pins=[pin.read_bytes()])
    assert [report.ok for report in verify_paths([forked, longer, pin])] == [False, True, True]
    other = signed(rows(), origin="grantd.example/c1/audit/t2")
    assert not problems(longer, pins=[other])
    assert "not a signed note" in problems(longer, pins=[b"garbage"])


def test_another_key_proves_nothing(tmp_path: Path) -> None:
    """Against the keys an auditor pinned, a bundle with keys of its own fails."""
    directory = write(tmp_path / "b", rows())
    stranger = Ed25519PrivateKey.from_private_bytes(b"\x06" * 32).public_key().public_bytes_raw()
    assert "not signed by the log" in problems(directory, vkeys=[checkpoint.vkey(ORIGIN, stranger)])
    (directory / "vkeys").unlink()
    assert "No such file" in problems(directory)


def test_disclosures_are_checked(tmp_path: Path) -> None:
    """A changed, foreign, malformed or silently missing disclosure is found; an erasure on record explains it."""
    wrong = [*disclosures()[1:], (0, disclose(bytes(16), "user.name", "somebody else").text)]
    found = problems(write(tmp_path / "wrong", rows(), wrong))
    assert "row 0: disclosure on line 7 is not what the row committed to" in found
    assert "row 0: a disclosure is missing" in found
    assert "row 100: a disclosure is missing" in problems(write(tmp_path / "missing", rows(), disclosures()[2:]))
    erased = [*rows(), row(ROWS, code="AU5001I", ranges="0,90-110")]
    report = verify_bundle(write(tmp_path / "erased", erased, disclosures()[2:]), vkeys=[VKEY])
    assert report.ok, report.problems
    assert report.notes == ("2 rows erased per row 700",)
    before = [row(0, code="AU5001I", ranges="0-700"), *rows()[1:]]
    found = problems(write(tmp_path / "before", before, disclosures()[2:]))
    assert "row 100: a disclosure is missing, and no row says that it was erased" in found
    vague = [*rows(), row(ROWS, code="AU5001I", ranges="all")]
    assert "row 700: does not say which rows" in problems(write(tmp_path / "vague", vague))
    garbage = write(tmp_path / "garbage", rows(), disclosures())
    lines = [b"{", b"[]", b'{"seq":0}', b'{"seq":0,"text":1}', b'{"seq":0,"text":"x"}', b"[" * 100_000]
    (garbage / "disclosures.jsonl").write_bytes(b"\n".join(lines))
    assert problems(garbage).count("not a disclosure") == len(lines)


def test_damaged_files(tmp_path: Path) -> None:
    """Missing, cut, extra and oversize tiles are named."""
    directory = write(tmp_path / "b", rows())
    first = directory / tiles.tile_path("entries", 0)
    whole = first.read_bytes()
    first.write_bytes(whole[:-1])
    assert "rows 0 to 255: tile/entries/000: entry bundle ends inside an entry" in problems(directory)
    first.write_bytes(tiles.encode_entries(tiles.decode_entries(whole)[:-1]))
    assert "row 255: tile/entries/000 holds 255 rows, not 256" in problems(directory)
    first.write_bytes(whole)
    (directory / "tile/0/000").write_bytes(b"short")
    assert "tile/0/000: hash tile ends inside a hash" in problems(directory)
    (directory / "tile/0/000").write_bytes(bytes(32))
    assert "tile/0/000: holds 1 hashes" in problems(directory)
    (directory / "tile/0/000").write_bytes(bytes(32 * 256))
    assert "236 more differ from hash tile 0" in problems(directory)
    (directory / "tile/0/000").unlink()
    assert "tile/0/000: No such file" in problems(directory)
    fresh = write(tmp_path / "c", rows())
    (fresh / "tile/entries/003").write_bytes(b"")
    assert "tile/entries/003: not part of a log of 700 rows" in problems(fresh)
    (fresh / "tile/entries/003").unlink()
    tile = fresh / "tile/1/000.p/2"
    tile.write_bytes(bytes(64))
    assert "rows 0 to 255: not what hash tile 1 says" in problems(fresh)


# -- recordings -------------------------------------------------------------------------------------------------------


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


def test_reports_print_plainly(tmp_path: Path) -> None:
    """A file name that holds an escape sequence reaches no terminal as one."""
    (report,) = verify_paths([tmp_path / "evil\x1b]0;title\x07"])
    text = "\n".join(report.lines())
    assert "FAILED" in text
    assert "\\x1b]0;title\\x07" in text
    assert "\x1b" not in text


def test_bundles_are_new_and_plain(tmp_path: Path) -> None:
    """A bundle is never written over another, and no id leads out of it."""
    write(tmp_path / "b", rows()[:3])
    with pytest.raises(FileExistsError):
        write(tmp_path / "b", rows()[:3])
    with pytest.raises(RecordingInvalid):
        bundle.write_bundle(
            tmp_path / "c", entries=[], checkpoint=signed([]), vkeys=[VKEY], disclosures=None, recordings=[("../x", [])]
        )


def test_tile_paths() -> None:
    """Names follow the tile specification."""
    assert tiles.tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tiles.tile_path(2, 5, 7) == "tile/2/005.p/7"
    assert tiles.tile_path("entries", 1000) == "tile/entries/x001/000"
    with pytest.raises(ProofError):
        tiles.decode_entries(b"\x00")


@pytest.mark.parametrize(
    ("origin", "tenant"), [(ORIGIN, "t1"), (ORIGIN + "/e2", "t1"), ("c/audit/_system", "_system"), ("other", "")]
)
def test_tenants_of_origins(origin: str, tenant: str) -> None:
    """The tenant is read from the origin, epochs and all."""
    assert tenant_of(origin) == tenant


def test_upper_tiles_fit_the_lower(tmp_path: Path) -> None:
    """A log of more than 65536 rows has three levels of tiles, and all of them agree."""
    stack = tiles.TileStack()
    written: dict[str, bytes] = {}
    leaves = [leaf_hash(number.to_bytes(4)) for number in range(256 * 256 + 5)]
    for leaf in leaves:
        written.update(stack.append(leaf))
    written.update(stack.partial())
    assert written["tile/2/000.p/1"] == root_of(leaves[: 256 * 256])
    assert written["tile/1/000"][:32] == root_of(leaves[:256])
    assert written["tile/0/256.p/5"] == b"".join(leaves[-5:])
    assert json.dumps(sorted(written)).count("tile/0/") == 257
