"""An auditor with public keys and files finds every change, offline, and learns which row it is (I-32, I-35)."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder import bundle, checkpoint, tiles
from recorder.entry import disclose
from recorder.errors import ProofError, RecordingInvalid
from recorder.merkle import leaf_hash, root_of
from recorder.verify import verify_bundle, verify_paths
from recorder.verify_log import tenant_of
from tests.recorder.bundles import (
    ORIGIN,
    ROWS,
    VKEY,
    disclosures,
    problems,
    row,
    rows,
    secret,
    signed,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_network")


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
