"""What a certificate that keeps a target's list is good for: writing that list, and nothing else (I-06, I-62)."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pytest

from broker.core.cert import Ca, CertSpec, principal_of
from broker.core.generation import Step
from broker.core.ids import TargetId, TenantId, render
from broker.core.krl import read_header
from broker.core.looks import Look
from broker.core.revoking import MAX_GRANTS, list_of, write_command
from broker.core.signing import AskGenerations, Refused, Signed, SignKrl, SignSsh, Told
from broker.core.signwire import decode_ask, encode_ask, frame
from broker.core.sshcert import parse
from broker.core.wrapper import read_force_command
from broker.signer.authority import Authority
from tests.broker.signer.world import OWNER, furnish, open_authority, rotate, rotation
from tests.broker.ssh_keys import GRANT, TARGET, egress, ingress, new_public_key

OTHER_TARGET = TargetId(render("target", bytes(16)))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority in the middle of a rotation of the egress CA."""
    directory = tmp_path_factory.mktemp("signer") / "keys"
    furnish(directory)
    made = open_authority(directory)
    assert isinstance(made.answer(rotate(rotation(Ca.EGRESS, Step.START, 2), OWNER)), Told)
    return made


def push() -> CertSpec:
    """A good specification."""
    return replace(egress(), key_id=TARGET, force_command="")


def asked(authority: Authority, spec: CertSpec, *grants: str) -> Signed | Refused | Told:
    """What a question for it gets."""
    ask = SignKrl(spec=spec, public_key=new_public_key(), grants=grants)
    assert decode_ask(encode_ask(ask)) == ask
    return authority.answer(ask)


def many(number: int) -> list[str]:
    """So many ids of grants, in order."""
    return sorted(render("grant", index.to_bytes(16, "big")) for index in range(number))


def test_the_signer_makes_the_command_itself(authority: Authority) -> None:
    """It carries a list of these grants under every generation, made now, for this target alone."""
    made, told = asked(authority, push(), GRANT), authority.answer(AskGenerations(ca=Ca.EGRESS))
    assert isinstance(made, Signed)
    assert isinstance(told, Told)
    certificate = parse(made.blob)
    assert certificate.key_id == TARGET
    wanted = list_of(push(), [GRANT], [each.public for each in told.generations])
    assert len(told.generations) == 2
    assert certificate.critical["force-command"] == write_command(wanted)
    script = read_force_command(certificate.critical["force-command"]).command
    found = re.search(rb"printf %s ([A-Za-z0-9+/=]+) ", script)
    assert found is not None
    sent = base64.b64decode(found[1])
    assert sent == wanted
    assert read_header(sent).comment == f"grantd {TARGET}"


def test_it_is_signed_for_nothing_else(authority: Authority) -> None:
    """Another command (even a check's, even a good list's), a terminal, another target, a grant's id: refused."""
    good = push()
    bad = [
        replace(good, force_command="id"),
        replace(good, force_command=Look.NOTHING.value),
        replace(good, force_command=write_command(b"")),
        replace(good, permit_pty=True),
        replace(good, principals=(principal_of(TenantId("t1"), OTHER_TARGET, "deploy"),)),
        replace(good, principals=()),
        replace(good, source_address=""),
        replace(good, key_id=GRANT),
        ingress(),
    ]
    for spec in bad:
        assert isinstance(asked(authority, spec, GRANT), Refused), spec
    assert isinstance(asked(authority, good), Signed)


@pytest.mark.parametrize(
    "grants",
    [
        ("'; id; '",), (TARGET,), ("",), (GRANT, GRANT), tuple(reversed(many(2))), tuple(many(MAX_GRANTS + 1)),
        (GRANT + "\n",),
    ],
)  # fmt: skip
def test_what_is_no_grant_is_not_listed(authority: Authority, grants: tuple[str, ...]) -> None:
    """Nor a grant twice, nor out of order, nor more than fit: nothing of the asker's text reaches a shell."""
    assert isinstance(asked(authority, push(), *grants), Refused)


def test_the_longest_list_fits(authority: Authority) -> None:
    """With two keys in force, into the certificate and into the protocol."""
    grants = many(MAX_GRANTS)
    assert isinstance(asked(authority, push(), *grants), Signed)
    frame(encode_ask(SignKrl(spec=push(), public_key=new_public_key(), grants=tuple(grants))))


def test_the_ordinary_question_does_not_write_lists(authority: Authority) -> None:
    """I-06: with a target's id as key id it gets nothing, whatever command it names."""
    spec = replace(push(), force_command=write_command(b""))
    told = authority.answer(SignSsh(spec=spec, public_key=new_public_key(), record=b"", signatures=()))
    assert isinstance(told, Refused)
