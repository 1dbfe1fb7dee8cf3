"""Keys that follow one another, and keys that do not (I-06)."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest

from broker.core.cert import Ca
from broker.core.clock import EPOCH
from broker.core.generation import (
    Generation,
    Stage,
    Step,
    UnknownGeneration,
    WrongStep,
    after,
    must_follow,
    signing,
    voucher_record,
)
from broker.signer.keys import CaKeys, load_keys, make_keys
from broker.signer.rotation import rotated
from tests.broker.ssh_keys import NOW


@pytest.fixture(params=list(Ca))
def ca(request: pytest.FixtureRequest) -> Ca:
    """Each of the four."""
    made: Ca = request.param
    return made


@pytest.fixture
def started(tmp_path: Path, ca: Ca) -> CaKeys:
    """Keys whose one CA has a key to come."""
    make_keys(tmp_path / "keys", NOW)
    return rotated(load_keys(tmp_path / "keys", owner=os.geteuid()), ca, Step.START, NOW)


def test_a_key_that_is_vouched_for_is_believed(started: CaKeys, ca: Ca) -> None:
    """Whoever knew the first key believes the second, and both later; so does whoever slept through the switch."""
    first, second = started.generations[ca]
    must_follow(ca, {1: first.public}, (first,))
    must_follow(ca, {1: first.public}, (first, second))
    must_follow(ca, {1: first.public}, (replace(second, stage=Stage.SIGNING),))
    must_follow(ca, {1: first.public, 2: second.public}, (replace(second, stage=Stage.SIGNING),))


def test_a_key_that_nobody_vouches_for_is_not(started: CaKeys, ca: Ca, tmp_path: Path) -> None:
    """Other keys at the signer's socket are a fault, whatever number they go by (I-06)."""
    first, second = started.generations[ca]
    make_keys(tmp_path / "others", NOW)
    others = rotated(load_keys(tmp_path / "others", owner=os.geteuid()), ca, Step.START, NOW).generations[ca]
    told: list[tuple[Generation, ...]] = [
        (others[0],),
        (first, others[1]),
        (first, replace(second, voucher=b"")),
        (first, replace(second, voucher=others[1].voucher)),
        (first, replace(second, number=3)),
        (first, replace(second, public=others[1].public)),
        (replace(second, stage=Stage.SIGNING), replace(first, stage=Stage.OLD)),
        (),
        (first, first),
        (replace(first, stage=Stage.OLD),),
        (first, replace(second, stage=Stage.SIGNING)),
    ]
    for each in told:
        with pytest.raises(UnknownGeneration):
            must_follow(ca, {1: first.public}, each)


def test_a_voucher_is_for_one_ca_number_and_key(started: CaKeys, ca: Ca) -> None:
    """The record of one is the record of no other."""
    public = started.generations[ca][1].public
    records = {voucher_record(*each) for each in itertools.product(Ca, (1, 2), (public, public[:-1]))}
    assert len(records) == 16


def test_steps_come_in_their_order() -> None:
    """Start, switch, finish; anything else is refused and says so."""
    states = {
        Step.START: [Stage.SIGNING],
        Step.SWITCH: [Stage.SIGNING, Stage.NEXT],
        Step.FINISH: [Stage.OLD, Stage.SIGNING],
    }
    for step, stages in itertools.product(Step, states.values()):
        if states[step] == stages:
            after(stages, step)
        else:
            with pytest.raises(WrongStep):
                after(stages, step)


def test_one_signs() -> None:
    """Not none, and not two."""
    one = Generation(number=1, public=b"k", stage=Stage.SIGNING, since=EPOCH, voucher=b"")
    assert signing([one]) is one
    for wrong in ([], [one, one], [replace(one, stage=Stage.NEXT)]):
        with pytest.raises(UnknownGeneration):
            signing(wrong)
