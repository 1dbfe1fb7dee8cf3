"""Broker and signer understand one another exactly, or not at all."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.cert import Ca, CertSpec, X509Spec
from broker.core.generation import Generation, Stage
from broker.core.records import pae, unpae
from broker.core.signing import (
    Answer,
    Ask,
    AskCa,
    AskGenerations,
    AskHead,
    AskTrust,
    Learn,
    OpenGlass,
    Refused,
    RotateCa,
    Signed,
    SignKrl,
    SignProbe,
    SignSsh,
    SignX509,
    Told,
)
from broker.core.signwire import (
    HEADER_BYTES,
    MAX_FRAME,
    MAX_RECORD_BYTES,
    MAX_SIGNATURES,
    FrameError,
    body_bytes,
    decode_answer,
    decode_ask,
    encode_answer,
    encode_ask,
    frame,
)
from broker.core.sshwire import WireError
from tests.broker.core.test_cert import client
from tests.broker.ssh_keys import egress, new_public_key

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  hypothesis wants bounds without a zone
SPECS = st.builds(
    CertSpec,
    ca=st.sampled_from(Ca),
    key_id=TEXT,
    serial=st.integers(-(2**70), 2**70),
    principals=st.lists(TEXT, max_size=3).map(tuple),
    valid_after=TIMES,
    valid_before=TIMES,
    source_address=TEXT,
    force_command=TEXT,
    permit_pty=st.booleans(),
)
X509_SPECS = st.builds(
    X509Spec,
    uri=TEXT,
    hosts=st.lists(TEXT, max_size=3).map(tuple),
    not_before=TIMES,
    not_after=TIMES,
    server=st.booleans(),
    serial=st.integers(-1, 2**159),
)
BLOBS = st.lists(st.binary(max_size=60), max_size=3).map(tuple)
KINDS: dict[type[Ask], st.SearchStrategy[Ask]] = {
    SignSsh: st.builds(
        SignSsh,
        spec=SPECS,
        public_key=st.binary(max_size=60),
        record=st.binary(max_size=60),
        signatures=BLOBS,
        access=st.binary(max_size=60),
        access_signatures=BLOBS,
    ),
    SignX509: st.builds(SignX509, spec=X509_SPECS, csr_der=st.binary(max_size=60)),
    SignProbe: st.builds(SignProbe, spec=SPECS, public_key=st.binary(max_size=60), generation=st.integers(0, 2**31)),
    SignKrl: st.builds(
        SignKrl, spec=SPECS, public_key=st.binary(max_size=60), grants=st.lists(TEXT, max_size=3).map(tuple)
    ),
    AskCa: st.builds(AskCa, ca=st.sampled_from(Ca)),
    AskGenerations: st.builds(AskGenerations, ca=st.sampled_from(Ca)),
    RotateCa: st.builds(RotateCa, statement=st.binary(max_size=60), signatures=BLOBS),
    Learn: st.builds(Learn, statement=st.binary(max_size=60), signatures=BLOBS),
    OpenGlass: st.builds(OpenGlass, use=st.binary(max_size=60), signature=st.binary(max_size=60)),
    AskHead: st.builds(AskHead, since=st.integers(0, 2**62)),
    AskTrust: st.builds(AskTrust, tenant=TEXT, subject=TEXT),
}
ASKS = st.one_of(*KINDS.values())
GENERATIONS = st.builds(
    Generation,
    number=st.integers(1, 2**31),
    public=st.binary(max_size=60),
    stage=st.sampled_from(Stage),
    since=TIMES,
    voucher=st.binary(max_size=60),
)
ANSWERS: st.SearchStrategy[Answer] = st.one_of(
    st.builds(Signed, blob=st.binary(max_size=60)),
    st.builds(Refused, why=st.text(st.characters(max_codepoint=127), max_size=20)),
    st.builds(Told, generations=st.lists(GENERATIONS, max_size=2).map(tuple)),
)


@given(ASKS)
def test_questions_come_through_as_asked(ask: Ask) -> None:
    """Every field arrives as it was sent, whether or not it may be signed."""
    assert decode_ask(encode_ask(ask)) == ask


def test_every_question_is_drawn() -> None:
    """No kind of question can be added without being sent through here."""
    assert set(KINDS) == set(get_args(Ask))


@given(ANSWERS)
def test_answers_come_through_as_given(answer: Answer) -> None:
    """So does every answer."""
    assert decode_answer(encode_answer(answer)) == answer


@given(ASKS, st.data())
def test_a_message_has_one_spelling(ask: Ask, data: st.DataObject) -> None:
    """An edited message is refused or means something else; it never means the same."""
    body = bytearray(encode_ask(ask))
    at = data.draw(st.integers(0, len(body) * 8 - 1))
    body[at // 8] ^= 1 << at % 8
    with contextlib.suppress(FrameError):
        assert decode_ask(bytes(body)) != ask


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    """No matter what bytes come, the answer is FrameError or a message of exactly these bytes."""
    for body in (data, pae([b"sign-ssh", data]), pae([b"ca", data]), pae([b"signed", data, data])):
        with contextlib.suppress(FrameError):
            assert encode_ask(decode_ask(body)) == body
        with contextlib.suppress(FrameError):
            assert encode_answer(decode_answer(body)) == body


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"sign-ssh"],
        [b"SIGN-SSH"],
        [b"ca", b"root"],
        [b"ca", b"egress", b""],
        [b"sign-x509", b"", pae([]), b"00", b"0", b"0", b"1", b""],
        [b"sign-x509", b"", pae([]), b"0", b"0", b"true", b"1", b""],
        [b"sign-x509", b"", pae([]), b"0", b"0", b"0", b"+1", b""],
        [b"sign-x509", b"", pae([]), b"9" * 40, b"0", b"0", b"1", b""],
        [b"sign-x509", b"\xff", pae([]), b"0", b"0", b"0", b"1", b""],
        [b"sign-x509", b"", b"\0\0\0\1", b"0", b"0", b"0", b"1", b""],
    ],
)
def test_other_verbs_and_spellings_are_refused(parts: list[bytes]) -> None:
    """Unknown verbs, missing fields, leading zeros, other booleans, endless numbers, no UTF-8."""
    with pytest.raises(FrameError):
        decode_ask(pae(parts))


def test_proofs_are_bounded() -> None:
    """A record and a quorum have their size; more is not looked at."""
    ask = SignSsh(spec=egress(), public_key=new_public_key(), record=bytes(MAX_RECORD_BYTES), signatures=(b"s",) * 16)
    assert decode_ask(encode_ask(ask)) == ask
    for record, signatures in ((bytes(MAX_RECORD_BYTES + 1), ()), (b"", (b"s",) * (MAX_SIGNATURES + 1))):
        why = [record, pae(signatures), b"", pae([])]
        with pytest.raises(FrameError):
            decode_ask(pae([*unpae(encode_ask(replace(ask, record=b"", signatures=())))[:-4], *why]))


MANY, LONG = (b"s",) * (MAX_SIGNATURES + 1), bytes(MAX_RECORD_BYTES + 1)


@pytest.mark.parametrize(
    "wrong",
    [
        SignSsh(spec=egress(), public_key=b"", record=LONG, signatures=()),
        SignSsh(spec=egress(), public_key=b"", record=b"", signatures=MANY),
        SignSsh(spec=egress(), public_key=b"", record=b"", signatures=(), access=LONG),
        SignSsh(spec=egress(), public_key=b"", record=b"", signatures=(), access_signatures=MANY),
        RotateCa(statement=b"", signatures=MANY),
        Learn(statement=b"", signatures=MANY),
        OpenGlass(use=LONG, signature=b""),
    ],
    ids=["record", "signatures", "access", "access signatures", "rotation", "statement", "use"],
)
def test_what_would_not_be_read_is_not_said(wrong: Ask) -> None:
    """The other side hangs up on it, and on everybody who asked behind it: so its bytes are never made."""
    with pytest.raises(FrameError):
        encode_ask(wrong)


@given(TEXT)
def test_a_refusal_is_read_whatever_it_names(why: str) -> None:
    """A path that is not ASCII comes through escaped, and does not end the line that others wait on."""
    told = decode_answer(encode_answer(Refused(why=why)))
    assert told == Refused(why=why.encode("ascii", "backslashreplace").decode())


def test_frames_are_bounded_before_they_are_read() -> None:
    """The header alone tells another version or an oversize body."""
    framed = frame(encode_ask(SignX509(spec=client(), csr_der=b"")))
    assert body_bytes(framed[:HEADER_BYTES]) == len(framed) - HEADER_BYTES
    for header in (
        b"\x02" + framed[1:HEADER_BYTES],
        b"\x01" + (MAX_FRAME + 1).to_bytes(4, "big"),
        b"\x01\xff\xff\xff\xff",
        b"\x01",
        b"",
    ):
        with pytest.raises(FrameError):
            body_bytes(header)
    with pytest.raises(FrameError):
        frame(bytes(MAX_FRAME + 1))


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_pae_is_undone(parts: list[bytes]) -> None:
    """The parts come back, and a tail is refused."""
    assert list(unpae(pae(parts))) == parts
    with pytest.raises(WireError):
        unpae(pae(parts) + b"\0")
    with pytest.raises(WireError):
        unpae(b"\xff\xff\xff\xff" + pae(parts))
