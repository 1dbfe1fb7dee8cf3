"""What a check's certificate is good for: a look, and nothing that a session could want (I-06, I-20)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.cert import Ca, CertSpec, principal_of
from broker.core.generation import Step
from broker.core.ids import TargetId, TenantId, render
from broker.core.looks import FORCED, Look
from broker.core.signing import AskGenerations, Refused, Signed, SignProbe, SignSsh, Told
from broker.core.sshcert import parse
from broker.signer.authority import Authority
from tests.broker.signer.world import OWNER, furnish, open_authority, rotate, rotation
from tests.broker.ssh_keys import TARGET, egress, ingress, new_public_key

OTHER = principal_of(TenantId("t1"), TargetId(render("target", bytes(16))), "deploy")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority in the middle of a rotation of the egress CA."""
    directory = tmp_path_factory.mktemp("signer") / "keys"
    furnish(directory)
    made = open_authority(directory)
    assert isinstance(made.answer(rotate(rotation(Ca.EGRESS, Step.START, 2), OWNER)), Told)
    return made


def check_of(look: Look = Look.NOTHING) -> CertSpec:
    """A good specification of a check."""
    return replace(egress(), key_id=TARGET, force_command=look.value)


def asked(authority: Authority, spec: CertSpec, generation: int = 1) -> Signed | Refused | Told:
    """What a question for it gets."""
    return authority.answer(SignProbe(spec=spec, public_key=new_public_key(), generation=generation))


def test_a_check_is_signed_by_the_generation_that_is_asked_for(authority: Authority) -> None:
    """Each look, by what signs now and by what is to come: so a target can be asked whether it knows the next key."""
    told = authority.answer(AskGenerations(ca=Ca.EGRESS))
    assert isinstance(told, Told)
    for look in Look:
        for each in told.generations:
            made = asked(authority, check_of(look), each.number)
            assert isinstance(made, Signed)
            assert parse(made.blob).ca_key == each.public
            assert parse(made.blob).critical["force-command"] == look.value
    assert len(FORCED) == len(Look)


def test_a_check_can_do_nothing_else(authority: Authority) -> None:
    """Another command, a terminal, another target, a grant's id, another CA, a key that is not there: refused."""
    good = check_of()
    bad = [
        replace(good, force_command="id"),
        replace(good, force_command=""),
        replace(good, permit_pty=True),
        replace(good, principals=(OTHER,)),
        egress(force_command=Look.NOTHING.value),
        ingress(),
    ]
    for spec in bad:
        assert isinstance(asked(authority, spec), Refused)
    for number in (0, 3, -1):
        assert isinstance(asked(authority, good, number), Refused)


def test_a_check_is_not_asked_for_like_a_session(authority: Authority) -> None:
    """With a target's id as key id the ordinary question gets nothing, whatever command it names."""
    for spec in (check_of(), replace(check_of(), force_command="id")):
        told = authority.answer(SignSsh(spec=spec, public_key=new_public_key(), record=b"", signatures=()))
        assert told == Refused(why="certificate refused: a check is asked for as one")
