"""What the signer cannot see in its own journal, the broker sees: rows rolled back together with their head (I-32)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.adapters.signer_heads import SignerHeads
from broker.core.errors import Fault
from broker.core.ids import SYSTEM_TENANT
from broker.core.signing import AskHead, Signed
from broker.signer.authority import Authority
from broker.signer.hours import Hours
from broker.signer.journal import Journal
from broker.signer.keys import load_keys, make_keys
from broker.signer.proof import Prover
from broker.signer.trust import TrustFile
from tests.broker.service.world import House

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Signer:
    """A journal and its authority, which a test can stop, roll back and start again."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        make_keys(self.keys, NOW)
        self.start()

    def start(self) -> None:
        """Opens the journal as a signer does."""
        self.journal = Journal(self.keys)
        self.authority = Authority(
            load_keys(self.keys, owner=os.geteuid()),
            self.journal,
            Prover(
                TrustFile(self.keys),
                self.journal.used,
                self.journal.opened,
                Hours(lambda: 0.0, self.journal.since_opened),
            ),
            lambda: NOW,
        )

    def sign(self, times: int) -> None:
        """So many rows more."""
        for _ in range(times):
            self.journal.append({"kind": "ssh"})

    async def ask(self, since: int) -> bytes:
        """As the client does."""
        answer = self.authority.answer(AskHead(since=since))
        assert isinstance(answer, Signed)
        return answer.blob


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Signer]:
    """One with three rows behind the first."""
    made = Signer(tmp_path)
    made.sign(3)
    yield made
    made.authority.stop()


@pytest.fixture
def heads(signer: Signer, house: House, tmp_path: Path) -> SignerHeads:
    """What the broker keeps of it."""
    return SignerHeads(ask=signer.ask, store=house.store, folder=tmp_path / "heads", meter=house.meter)


async def audited(house: House) -> list[str]:
    """What the log of `_system` says of the signer."""
    return [name for name in await house.events(SYSTEM_TENANT) if name.startswith("signer.")]


def alarm(house: House) -> list[tuple[str, dict[str, str]]]:
    """How the gauge was set last is in the fake's order; here it is enough that it was."""
    return [each for each in house.meter.counted if each[0] == "signer_journal_broken"]


async def test_a_growing_journal_is_kept(signer: Signer, heads: SignerHeads, house: House) -> None:
    """Each new head is an event with its size; nothing new is none, and a restart of the signer changes nothing."""
    await heads.look(NOW)
    await heads.look(NOW)
    assert await audited(house) == ["signer.head_recorded"]
    signer.sign(300)
    signer.authority.stop()
    signer.start()
    await heads.look(NOW)
    assert await audited(house) == ["signer.head_recorded"] * 2


@pytest.mark.parametrize("how", ["rolled back", "another branch", "begun anew"])
async def test_a_journal_that_was_rolled_back_is_an_alarm(
    signer: Signer, heads: SignerHeads, house: House, tmp_path: Path, how: str
) -> None:
    """Rows and head put back together look whole to the signer; the kept head says otherwise, once in the log."""
    signer.authority.stop()
    shutil.copytree(signer.keys, tmp_path / "early")
    signer.start()
    signer.sign(5)
    await heads.look(NOW)
    signer.authority.stop()
    if how != "begun anew":
        shutil.rmtree(signer.keys)
        shutil.copytree(tmp_path / "early", signer.keys)
    else:
        for path in signer.keys.glob("journal.*"):
            path.unlink()
    signer.start()
    signer.sign(9 if how == "another branch" else 1)
    for _ in range(2):
        await heads.look(NOW)
    assert await audited(house) == ["signer.head_recorded", "signer.head_mismatched"]
    assert len(alarm(house)) == 3


async def test_no_answer_is_no_alarm(heads: SignerHeads, signer: Signer, house: House, tmp_path: Path) -> None:
    """A signer that cannot be asked is a fault of the moment; a kept head that is damaged says so."""

    async def gone(since: int) -> bytes:
        raise Fault("the signer cannot be reached")

    with pytest.raises(Fault, match="reached"):
        await SignerHeads(ask=gone, store=house.store, folder=tmp_path / "heads", meter=house.meter).look(NOW)
    await heads.look(NOW)
    (tmp_path / "heads/latest").write_bytes(b"x")
    with pytest.raises(Fault, match="not a head"):
        await heads.look(NOW)
    assert await audited(house) == ["signer.head_recorded"]
