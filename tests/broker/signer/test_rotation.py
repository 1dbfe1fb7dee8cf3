"""A key that follows another: made, vouched for, switched to, and the old one destroyed (I-06, I-53, I-54)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broker.core.cert import Ca
from broker.core.generation import Stage, Step, WrongStep, must_follow
from broker.signer import rotation, table
from broker.signer.keys import CaKeys, load_keys, make_keys
from broker.signer.private import KeyFault
from broker.signer.rotation import rotated
from broker.signer.table import NAME, certificate_file, key_file
from tests.broker.ssh_keys import NOW

STEPS = (Step.START, Step.SWITCH, Step.FINISH)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with fresh keys."""
    make_keys(tmp_path / "signer", NOW)
    return tmp_path / "signer"


def load(directory: Path) -> CaKeys:
    """As the signer loads them."""
    return load_keys(directory, owner=os.geteuid())


def stages(keys: CaKeys, ca: Ca) -> list[Stage]:
    """What its generations are good for."""
    return [each.stage for each in keys.generations[ca]]


@pytest.mark.parametrize("ca", list(Ca))
def test_each_step_survives_a_restart(directory: Path, ca: Ca) -> None:
    """What the signer said before it was ended is what it says after; files stay private; the other CAs stay."""
    keys = load(directory)
    first, others = keys.public(ca), {other: keys.public(other) for other in Ca if other is not ca}
    for step, wanted in zip(
        STEPS, ([Stage.SIGNING, Stage.NEXT], [Stage.OLD, Stage.SIGNING], [Stage.SIGNING]), strict=True
    ):
        keys = rotated(keys, ca, step, NOW)
        again = load(directory)
        assert stages(keys, ca) == stages(again, ca) == wanted
        assert keys.generations == again.generations
        must_follow(ca, {1: first}, keys.generations[ca])
        assert (keys.public(ca) == first) is (step is Step.START)
        assert {other: keys.public(other) for other in others} == others
        assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in directory.iterdir()} == {0}
    assert not key_file(directory, ca, 1).exists()
    if ca is Ca.X509:
        assert not certificate_file(directory, 1).exists()


def test_rotations_go_on_and_on(directory: Path) -> None:
    """The number of a key is never used twice."""
    keys = load(directory)
    seen = {keys.public(Ca.HOST)}
    for number in range(2, 6):
        for step in STEPS:
            keys = rotated(keys, Ca.HOST, step, NOW)
        assert keys.generations[Ca.HOST][0].number == number
        seen.add(keys.public(Ca.HOST))
    assert len(seen) == 5
    assert sorted(path.name for path in directory.glob("host*")) == ["host.5.key"]


def test_a_step_out_of_order_changes_nothing(directory: Path) -> None:
    """Not even a file."""
    keys = rotated(load(directory), Ca.EGRESS, Step.START, NOW)
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    for step in (Step.START, Step.FINISH):
        with pytest.raises(WrongStep):
            rotated(keys, Ca.EGRESS, step, NOW)
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_breaks_off_is_done_or_not_done(
    directory: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power gone before the table: as before. Power gone after it: as after, and the old key's file goes at a start."""
    keys = load(directory)
    for earlier in STEPS[: STEPS.index(step)]:
        keys = rotated(keys, Ca.EGRESS, earlier, NOW)
    before = stages(keys, Ca.EGRESS)

    def power_cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        tables = iter([table.write_table, power_cut] if step is Step.START else [power_cut])

        def write(where: Path, new: table.Table) -> None:
            next(tables)(where, new)

        patched.setattr(rotation, "write_table", write)
        with pytest.raises(KeyboardInterrupt):
            rotated(keys, Ca.EGRESS, step, NOW)
    assert stages(load(directory), Ca.EGRESS) == before
    with monkeypatch.context() as patched:
        patched.setattr(rotation, "load_keys", power_cut)
        with pytest.raises(KeyboardInterrupt):
            rotated(load(directory), Ca.EGRESS, step, NOW)
    assert key_file(directory, Ca.EGRESS, 1).exists()
    after = stages(load(directory), Ca.EGRESS)
    assert after != before
    assert key_file(directory, Ca.EGRESS, 1).exists() is (step is not Step.FINISH)


def test_a_table_that_is_lost_or_damaged_is_no_way_back(directory: Path) -> None:
    """Without its table a directory with rotated keys is not used: the old key must not come back as if nothing was."""
    keys = load(directory)
    rotated(rotated(keys, Ca.EGRESS, Step.START, NOW), Ca.EGRESS, Step.SWITCH, NOW)
    good = (directory / NAME).read_bytes()
    (directory / NAME).unlink()
    with pytest.raises(KeyFault, match="missing"):
        load(directory)
    for bad in (b"", b"[]", b"{}", good.replace(b"signing", b"old"), good.replace(b'"old"', b'"signing"'),
                good.replace(b'"egress"', b'"other"'), good.replace(b'"number": 2', b'"number": 1')):  # fmt: skip
        (directory / NAME).write_bytes(bad)
        (directory / NAME).chmod(0o400)
        with pytest.raises(KeyFault, match="damaged"):
            load(directory)
        (directory / NAME).unlink()
    (directory / NAME).write_bytes(good)
    with pytest.raises(KeyFault, match="others may read"):
        load(directory)


def test_the_old_key_is_overwritten_before_it_goes(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a removed name leaves behind on the disk is zeros, as far as a file system writes in place."""
    keys = rotated(rotated(load(directory), Ca.HOST, Step.START, NOW), Ca.HOST, Step.SWITCH, NOW)
    path, left = key_file(directory, Ca.HOST, 1), list[bytes]()
    unlink = Path.unlink

    def look(self: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002  pathlib's own signature
        if self == path:
            left.append(self.read_bytes())
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", look)
    rotated(keys, Ca.HOST, Step.FINISH, NOW)
    assert len(left) == 1
    assert set(left[0]) == {0}
