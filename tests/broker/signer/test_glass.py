"""What somebody with the broker, or with the signer's clock, tries against a sealed credential's once and its hour.

The signer's own code, its files and its journal, by the questions that its socket takes (I-05, I-62).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.core.cert import CertSpec
from broker.core.glass import GLASS_NAMESPACE, GlassUse
from broker.core.ids import TenantId, render
from broker.core.records import APPROVAL_NAMESPACE, timed_nonce
from broker.core.signing import OpenGlass, SignSsh
from broker.core.signwire import decode_ask, encode_ask
from broker.signer.authority import Authority
from broker.signer.journal import Journal
from tests.broker.signer.sealed import ASK, FIRST, SEALED, SPARE, ask, record, sealed_directory, use, why
from tests.broker.signer.world import MANAGER, OWNER, READ, WRITE, Signatory, open_authority
from tests.broker.ssh_keys import NOW, ingress, new_public_key

MINUTE = timedelta(minutes=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A signer that believes in one sealed credential, and in a spare one."""
    return sealed_directory(tmp_path / "keys")


class Clocks:
    """The signer's two, moved by hand: somebody else may turn the one on the wall."""

    def __init__(self) -> None:
        self.wall, self.mono = NOW, 100.0

    def passes(self, time: timedelta) -> None:
        self.wall += time
        self.mono += time.total_seconds()

    def open(self, directory: Path) -> Authority:
        return open_authority(directory, lambda: self.wall, lambda: self.mono)

    def ask(self, command: bytes = WRITE) -> SignSsh:
        """An action of this moment, as the wall says, under the use of the beginning."""
        now = self.wall
        made = record(
            command, nonce=timed_nonce(now, now.isoformat().encode()[-12:]), not_after=NOW + timedelta(hours=1)
        )
        asked, late = ask(made), now - NOW
        return replace(asked, spec=_later(asked, late))


def _later(asked: SignSsh, late: timedelta) -> CertSpec:
    spec = asked.spec
    return replace(spec, valid_after=spec.valid_after + late, valid_before=spec.valid_before + late)


def test_a_question_without_its_key_spends_none(directory: Path) -> None:
    """A broker in other hands names it beside a certificate that needs no proof: it is not spent by that."""
    authority = open_authority(directory)
    word = use(request_id=use().request_id[:-1] + "a").encoded()
    door = SignSsh(spec=ingress(), public_key=new_public_key(), record=b"", signatures=(), access=word)
    assert why(authority, door) == ""
    read = replace(ASK.ask(record(READ, login="reader")), access=word)
    assert why(authority, read) != ""
    assert why(authority, ask()) == ""
    authority.stop()


def test_a_clock_that_is_set_back_gives_no_second_hour(directory: Path) -> None:
    """The hour passes on a clock that nobody sets; also where nothing at all was asked meanwhile."""
    clocks = Clocks()
    authority = clocks.open(directory)
    assert why(authority, clocks.ask()) == ""
    clocks.passes(59 * MINUTE)
    assert why(authority, clocks.ask()) == ""
    clocks.passes(2 * MINUTE)
    clocks.wall = NOW + 2 * MINUTE
    assert "the hour of its sealed credential" in why(authority, clocks.ask(b"touch /tmp/late"))
    authority.stop()


def test_nor_does_one_that_is_set_back_across_a_start(directory: Path) -> None:
    """What the journal says of the time since is believed more than the wall."""
    clocks = Clocks()
    first = clocks.open(directory)
    assert why(first, clocks.ask()) == ""
    clocks.passes(61 * MINUTE)
    door = replace(ingress(clocks.wall), serial=7)
    assert why(first, SignSsh(spec=door, public_key=new_public_key(), record=b"", signatures=())) == ""
    first.stop()
    clocks.wall, clocks.mono = NOW + MINUTE, 5.0
    second = clocks.open(directory)
    assert "the hour of its sealed credential" in why(second, clocks.ask())
    second.stop()


def test_a_clock_that_ran_ahead_before_costs_nothing(directory: Path) -> None:
    """A row of a day to come, from before it was opened: the credential of the night still opens."""
    clocks = Clocks()
    clocks.wall += timedelta(days=1)
    first = clocks.open(directory)
    door = replace(ingress(clocks.wall), serial=7)
    assert why(first, SignSsh(spec=door, public_key=new_public_key(), record=b"", signatures=())) == ""
    first.stop()
    clocks.wall = NOW
    second = clocks.open(directory)
    assert why(second, clocks.ask()) == ""
    clocks.passes(MINUTE)
    assert why(second, clocks.ask()) == ""
    second.stop()


def test_it_is_spent_where_the_signer_dies_before_it_signed(directory: Path) -> None:
    """The row of its opening is on the disk and the certificate's is not: the same word goes on, no other does."""
    before = (directory / "journal.checkpoint").read_bytes()
    authority = open_authority(directory)
    assert why(authority, ask()) == ""
    authority.stop()
    journal, head = directory / "journal.log", directory / "journal.checkpoint"
    *rows, last, _ = journal.read_bytes().split(b"\n")
    assert b'"kind":"ssh"' in last
    assert b'"kind":"glass"' in rows[-1]
    journal.write_bytes(b"\n".join(rows) + b"\n" + last[:40])
    head.write_bytes(before)
    second = open_authority(directory)
    again = use(at=NOW + timedelta(seconds=1))
    assert "a sealed credential that was not used yet" in why(second, ask(opening=again))
    assert why(second, ask()) == ""
    second.stop()


def opening(word: GlassUse | None = None, by: Signatory = SEALED, namespace: str = GLASS_NAMESPACE) -> OpenGlass:
    """The question that spends it."""
    said = (word or use()).encoded()
    return OpenGlass(use=said, signature=by.sign(said, namespace))


def test_it_is_spent_at_the_signer_before_anything_is_done(directory: Path) -> None:
    """An hour in which nothing above the tier ran is an hour all the same, for whichever broker's books come back."""
    first = open_authority(directory)
    assert why(first, opening()) == ""
    assert why(first, opening()) == ""
    first.stop()
    second, again = open_authority(directory), use(at=NOW + timedelta(seconds=1))
    assert "a sealed credential that was not used yet" in why(second, opening(again))
    assert "a sealed credential that was not used yet" in why(second, ask(opening=again))
    assert why(second, ask()) == ""
    second.stop()


WRONG = {
    "signed by another sealed key": (opening(by=SPARE), "signed by its sealed credential"),
    "signed by the person's own key": (opening(by=MANAGER), "signed by its sealed credential"),
    "in the approvers' namespace": (opening(namespace=APPROVAL_NAMESPACE), "signed by its sealed credential"),
    "no word of a use": (replace(opening(), use=b""), "signed by its sealed credential"),
    "one that nobody made": (opening(use(render("glass", b"x" * 16))), "a sealed credential that an owner made"),
    "another tenant's": (opening(use(tenant="t2")), "a sealed credential that an owner made"),
    "for somebody else": (opening(use(person=OWNER.id)), "a sealed credential of who asked"),
    "from an hour ago": (opening(use(at=NOW - 60 * MINUTE)), "the hour of its sealed credential"),
    "of a minute to come": (opening(use(at=NOW + MINUTE)), "the hour of its sealed credential"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_spends_none(directory: Path, wrong: tuple[OpenGlass, str]) -> None:
    """Only its own key's word for its own person, of this hour; anything else leaves it as it was."""
    authority = open_authority(directory)
    question, rule = wrong
    assert decode_ask(encode_ask(question)) == question
    assert rule in why(authority, question)
    assert why(authority, opening(use(at=NOW - MINUTE))) == ""
    authority.stop()


def test_one_tenants_credential_is_not_anothers(tmp_path: Path) -> None:
    """Two tenants that drew the same id: what the one spends is not spent of the other."""
    journal = Journal(tmp_path)
    journal.append({"kind": "glass", "t": 1, "tenant": "t2", "glass": FIRST, "use": "ab" * 32})
    assert journal.opened(TenantId("t2"), FIRST) == bytes.fromhex("ab" * 32)
    assert journal.opened(TenantId("t1"), FIRST) is None
    journal.close()
    again = Journal(tmp_path)
    assert again.opened(TenantId("t2"), FIRST) is not None
    again.close()
