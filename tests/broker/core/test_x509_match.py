"""X.509 certificates carry what was asked for and nothing of the request but its key (I-07, I-24)."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from broker.core.cert import CertMismatch, X509Spec
from broker.core.x509_match import key_of_csr, must_match_x509
from broker.signer.sign import sign_x509
from tests.broker.core.test_cert import client, server
from tests.broker.ssh_keys import NOW


def _ca() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "grantd CA of a test")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=7,
        not_valid_before=NOW - timedelta(days=1),
        not_valid_after=NOW + timedelta(days=30),
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return key, builder.sign(key, hashes.SHA256())


CA_KEY, CA = _ca()
CA_DER = CA.public_bytes(Encoding.DER)
KEY = ec.generate_private_key(ec.SECP256R1())


def csr(key: CertificateIssuerPrivateKeyTypes = KEY) -> bytes:
    """A request full of names that nobody granted."""
    evil = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner"), x509.NameAttribute(NameOID.SURNAME, "root")])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("grantd://t1/owner"), x509.DNSName("*")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(evil).add_extension(names, critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


CSR = csr()


def signed(spec: X509Spec) -> bytes:
    """The certificate that the signer makes of it."""
    return sign_x509(spec, key_of_csr(CSR), CA_KEY, CA)


@pytest.mark.parametrize("spec", [client(), server()])
def test_what_was_signed_matches(spec: X509Spec) -> None:
    """The signer's certificate matches its specification."""
    must_match_x509(spec, signed(spec), csr_der=CSR, ca_der=CA_DER)


def test_a_client_is_its_identity_and_nothing_else() -> None:
    """Empty subject, one URI, client purpose, no CA; not one name of the request."""
    made = x509.load_der_x509_certificate(signed(client()))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.UniformResourceIdentifier(client().uri)]
    assert names.critical
    assert not list(made.subject)
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert made.public_key() == KEY.public_key()


def test_a_server_is_its_hosts() -> None:
    """Names as names, addresses as addresses, server purpose alone."""
    made = x509.load_der_x509_certificate(signed(server()))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "broker-1.example"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]


@pytest.mark.parametrize(
    "other",
    [
        replace(client(), uri=client().uri[:-1] + "b"),
        replace(client(), serial=1),
        replace(client(), not_before=NOW - timedelta(seconds=31)),
        replace(client(), not_after=NOW + timedelta(hours=24, seconds=1)),
        server(),
    ],
)
def test_any_other_certificate_does_not_match(other: X509Spec) -> None:
    """Another name, serial, time or purpose than asked for is raised."""
    with pytest.raises(CertMismatch):
        must_match_x509(client(), signed(other), csr_der=CSR, ca_der=CA_DER)


def test_another_key_ca_or_extension_does_not_match() -> None:
    """Made for another key, by another CA of the same name, or with one extension more."""
    with pytest.raises(CertMismatch):
        must_match_x509(client(), signed(client()), csr_der=csr(ec.generate_private_key(ec.SECP256R1())), ca_der=CA_DER)
    other_key, other = _ca()
    foreign = sign_x509(client(), key_of_csr(CSR), other_key, other)
    with pytest.raises(CertMismatch):
        must_match_x509(client(), foreign, csr_der=CSR, ca_der=CA_DER)
    good = x509.load_der_x509_certificate(signed(client()))
    more = x509.CertificateBuilder(
        issuer_name=good.issuer,
        subject_name=good.subject,
        public_key=KEY.public_key(),
        serial_number=good.serial_number,
        not_valid_before=good.not_valid_before_utc,
        not_valid_after=good.not_valid_after_utc,
    )
    for extension in good.extensions:
        more = more.add_extension(extension.value, critical=extension.critical)
    as_good = more.sign(CA_KEY, hashes.SHA256()).public_bytes(Encoding.DER)
    must_match_x509(client(), as_good, csr_der=CSR, ca_der=CA_DER)
    worse = more.add_extension(x509.PolicyConstraints(0, None), critical=False).sign(CA_KEY, hashes.SHA256())
    with pytest.raises(CertMismatch):
        must_match_x509(client(), worse.public_bytes(Encoding.DER), csr_der=CSR, ca_der=CA_DER)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_only_p256_requests_are_taken(key: CertificateIssuerPrivateKeyTypes) -> None:
    """BoringSSL, and so gRPC, takes P-256 everywhere: nothing else is certified."""
    with pytest.raises(CertMismatch, match="P-256"):
        key_of_csr(csr(key))


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    """Whoever asks for a certificate over a key holds it: the last byte is of the signature."""
    with pytest.raises(CertMismatch):
        key_of_csr(CSR[:-1] + bytes([CSR[-1] ^ 1]))


@given(st.binary(max_size=200) | st.integers(0, len(CSR) - 1).map(lambda n: CSR[:n]))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    """No matter what bytes come as a request or certificate, the answer is CertMismatch."""
    with pytest.raises(CertMismatch):
        key_of_csr(data)
    with pytest.raises(CertMismatch):
        must_match_x509(client(), data, csr_der=CSR, ca_der=CA_DER)


MADE = signed(client())


@given(st.data())
def test_a_flipped_bit_does_not_match(data: st.DataObject) -> None:
    """A certificate edited after signing is CertMismatch, wherever the bit is."""
    made = bytearray(MADE)
    at = data.draw(st.integers(0, len(made) * 8 - 1))
    made[at // 8] ^= 1 << at % 8
    with pytest.raises(CertMismatch):
        must_match_x509(client(), bytes(made), csr_der=CSR, ca_der=CA_DER)


def test_an_oversize_request_is_refused() -> None:
    """A request is small; a long one is not even parsed."""
    with pytest.raises(CertMismatch):
        key_of_csr(CSR + bytes(5_000))
