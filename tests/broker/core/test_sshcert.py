"""Certificates are read in one way only; whatever else others would make of them is refused (I-07, F01)."""

from __future__ import annotations

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import Refusal
from broker.core.sshcert import CERT_KIND, HOST, USER, parse
from broker.core.sshwire import ed25519_blob, string
from tests.broker.ssh_keys import PRINCIPAL

CA = Ed25519PrivateKey.generate()
CA_BLOB = ed25519_blob(CA.public_key().public_bytes_raw())
POINT = Ed25519PrivateKey.generate().public_key().public_bytes_raw()


def _option(name: bytes, value: bytes | None) -> bytes:
    return string(name) + string(b"" if value is None else string(value))


def _made(
    kind: int = USER,
    principals: bytes = string(PRINCIPAL.encode()),
    critical: bytes = _option(b"force-command", b"id") + _option(b"source-address", b"192.0.2.7"),
    extensions: bytes = _option(b"permit-pty", None),
    reserved: bytes = b"",
    ca_blob: bytes = CA_BLOB,
    name: bytes = CERT_KIND,
    signature_kind: bytes = b"ssh-ed25519",
    tail: bytes = b"",
) -> bytes:
    """A certificate rightly signed by CA over whatever fields are given."""
    signed = b"".join(
        [
            string(name),
            string(bytes(32)),
            string(POINT),
            (77).to_bytes(8, "big"),
            kind.to_bytes(4, "big"),
            string(b"gr_x"),
            string(principals),
            (1_000).to_bytes(8, "big"),
            (1_060).to_bytes(8, "big"),
            string(critical),
            string(extensions),
            string(reserved),
            string(ca_blob),
        ]
    )
    return signed + string(string(signature_kind) + string(CA.sign(signed))) + tail


def test_every_field_is_read() -> None:
    """The fields are those of PROTOCOL.certkeys, in its order."""
    certificate = parse(_made())
    assert certificate.public_key == ed25519_blob(POINT)
    assert (certificate.serial, certificate.kind, certificate.key_id) == (77, USER, "gr_x")
    assert (certificate.principals, certificate.valid_after, certificate.valid_before) == ((PRINCIPAL,), 1_000, 1_060)
    assert dict(certificate.critical) == {"force-command": "id", "source-address": "192.0.2.7"}
    assert dict(certificate.extensions) == {"permit-pty": ""}
    assert certificate.ca_key == CA_BLOB
    assert parse(_made(kind=HOST)).kind == HOST


def test_a_ca_that_was_seen_before_lends_its_name_to_nobody() -> None:
    """I-07: however often a CA's key was met, only its own signature over these very bytes passes."""
    made = _made()
    assert parse(made) == parse(made)
    body = made[: -len(string(string(b"ssh-ed25519") + string(bytes(64))))]
    strange = string(string(b"ssh-ed25519") + string(Ed25519PrivateKey.generate().sign(body)))
    for forged in (body + strange, made.replace(b"gr_x", b"gr_y")):
        with pytest.raises(Refusal) as caught:
            parse(forged)
        assert caught.value.rule == "not signed by the key that it names as its CA"


@pytest.mark.parametrize(
    "blob",
    [
        _made(kind=0),
        _made(kind=3),
        _made(critical=_option(b"force-command", b"id") * 2),
        _made(critical=_option(b"source-address", b"::1") + _option(b"force-command", b"id")),
        _made(critical=_option(b"", b"id")),
        _made(critical=string(b"force-command") + string(string(b"id") + b"\0")),
        _made(critical=string(b"force-command") + string(b"id")),
        _made(extensions=_option(b"permit-pty", None) * 2),
        _made(principals=string(b"root")[:-1]),
        _made(principals=string(b"\xff\xfe")),
        _made(reserved=b"x"),
        _made(ca_blob=_made()),
        _made(ca_blob=string(b"ssh-rsa") + string(b"\x03") + string(bytes(256))),
        _made(name=b"ssh-rsa-cert-v01@openssh.com"),
        _made(name=b"ssh-ed25519"),
        _made(signature_kind=b"ssh-rsa"),
        _made(tail=b"\0"),
        _made()[:-1],
        b"",
        bytes(200_000),
    ],
)
def test_other_shapes_are_refused(blob: bytes) -> None:
    """Though the CA signed them: duplicates, disorder, a certificate as CA, other kinds, tails, no UTF-8."""
    with pytest.raises(Refusal) as refused:
        parse(blob)
    assert refused.value.code == "bad_certificate"


@given(st.data())
def test_a_flipped_bit_is_refused(data: st.DataObject) -> None:
    """The signature covers everything before it, and its own bytes have one spelling."""
    blob = bytearray(_made())
    at = data.draw(st.integers(0, len(blob) * 8 - 1))
    blob[at // 8] ^= 1 << at % 8
    with pytest.raises(Refusal):
        parse(bytes(blob))


@given(st.binary(max_size=500))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    """No matter what bytes come, the answer is the one refusal, never another error."""
    for blob in (data, string(CERT_KIND) + data):
        with contextlib.suppress(Refusal):
            parse(blob)
            pytest.fail("bytes nobody signed were taken for a certificate")
