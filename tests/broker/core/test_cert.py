"""Certificates that must never exist are refused before signing, and what was signed is compared again (I-06, I-07)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from broker.core.cert import (
    EGRESS_LIFE,
    INGRESS_MAX_LIFE,
    MAX_FORCE_COMMAND_BYTES,
    SERVER_LIFE,
    SKEW,
    X509_LIFE,
    Ca,
    CertMismatch,
    CertSpec,
    X509Spec,
    check,
    check_x509,
    client_uri,
    must_match,
)
from broker.core.ids import TenantId, render
from broker.core.sshwire import ed25519_blob
from broker.signer.sign import sign_ssh
from tests.broker.ssh_keys import GRANT, NOW, PRINCIPAL, egress, ingress, new_public_key

FOREVER = datetime.max.replace(tzinfo=NOW.tzinfo)
IDENTITY = render("agent", bytes(16))


def host(now: datetime = NOW) -> CertSpec:
    """A good specification for the gateway's own host key."""
    return replace(
        ingress(now), ca=Ca.HOST, key_id="gateway.example", principals=("gateway.example",), permit_pty=False
    )


def client() -> X509Spec:
    """A good specification for an agent's client certificate."""
    return X509Spec(
        uri=client_uri(TenantId("t1"), IDENTITY),
        hosts=(),
        not_before=NOW - SKEW,
        not_after=NOW + timedelta(hours=24),
        server=False,
        serial=2**64 + 7,
    )


def server() -> X509Spec:
    """A good specification for the broker's TLS server certificate."""
    return replace(client(), uri="", hosts=("localhost", "127.0.0.1", "::1", "broker-1.example"), server=True)


@pytest.mark.parametrize("spec", [egress(), egress(permit_pty=True), egress(force_command=""), ingress(), host()])
def test_what_grantd_asks_for_passes(spec: CertSpec) -> None:
    """Every kind of specification that the core makes is signed, at once and ten seconds later."""
    check(spec, NOW)
    check(spec, NOW + timedelta(seconds=10))


@pytest.mark.parametrize(
    "addresses",
    [
        "192.0.2.1",
        "2001:db8::1",
        "192.0.2.1,2001:db8:1::/48",
        "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
        "10.0.0.0/8," * 9 + "10.0.0.0/8",
    ],
)
def test_the_addresses_of_a_gateway_pass(addresses: str) -> None:
    """I-06: one or a few hosts, or the private networks; named twice they are no more."""
    check(replace(egress(), source_address=addresses), NOW)


BAD_EGRESS: list[tuple[str, dict[str, Any]]] = [
    ("anybody (M1)", {"principals": ()}),
    ("empty principal", {"principals": ("",)}),
    ("two principals", {"principals": (PRINCIPAL, PRINCIPAL + "2")}),
    ("root", {"principals": ("root",)}),
    ("comma", {"principals": (PRINCIPAL + ",root",)}),
    ("newline", {"principals": (PRINCIPAL + "\nroot",)}),
    ("no login", {"principals": (PRINCIPAL.rpartition(":")[0] + ":",)}),
    ("number as login", {"principals": (PRINCIPAL.rpartition(":")[0] + ":0",)}),
    ("no tenant", {"principals": (PRINCIPAL.replace(":t1:", "::"),)}),
    ("a grant for a target", {"principals": (f"grantd:t1:{GRANT}:deploy",)}),
    ("a gateway user", {"principals": ("deploy+web1",)}),
    ("serial 0 (M3)", {"serial": 0}),
    ("negative serial", {"serial": -1}),
    ("65-bit serial", {"serial": 2**64}),
    ("empty key id", {"key_id": ""}),
    ("huge key id (M3)", {"key_id": "g" * 200_000}),
    ("key id with ESC (M3)", {"key_id": "gr_\x1b[2J"}),
    ("key id with newline (M3)", {"key_id": f"{GRANT}\n"}),
    ("key id of a person", {"key_id": render("person", bytes(16))}),
    ("10 years (M3)", {"valid_before": NOW + timedelta(days=3650)}),
    ("forever (M3)", {"valid_before": FOREVER}),
    ("one second too long", {"valid_before": NOW + EGRESS_LIFE + timedelta(seconds=1)}),
    ("already over", {"valid_before": NOW}),
    ("TTL -1", {"valid_before": NOW - timedelta(seconds=1)}),
    ("from the epoch", {"valid_after": NOW - timedelta(days=20_000)}),
    ("from tomorrow", {"valid_after": NOW + timedelta(days=1)}),
    ("no zone", {"valid_after": NOW.replace(tzinfo=None)}),
    ("no source address (M3)", {"source_address": ""}),
    ("all of IPv4", {"source_address": "0.0.0.0/0"}),
    ("all of IPv6", {"source_address": "192.0.2.1,::/0"}),
    ("all of IPv4 in halves", {"source_address": "0.0.0.0/1,128.0.0.0/1"}),
    ("all of IPv6 in halves", {"source_address": "::/1,8000::/1"}),
    ("a hole in the Internet", {"source_address": ",".join(f"{n}.0.0.0/8" for n in range(256) if n != 127)}),
    ("every other network", {"source_address": ",".join(f"{n}.0.0.0/8" for n in range(0, 256, 2))}),
    ("a 128th of IPv4 in pieces", {"source_address": ",".join(f"{2 + n // 256}.{n % 256}.0.0/16" for n in range(512))}),
    ("an IPv6 /15", {"source_address": "192.0.2.1,2000::/15"}),
    ("host bits", {"source_address": "192.0.2.1/24"}),
    ("names for addresses", {"source_address": "gateway.example"}),
    ("empty item", {"source_address": "192.0.2.1,"}),
    ("space", {"source_address": "192.0.2.1, 192.0.2.2"}),
    ("zone", {"source_address": "fe80::1%eth0"}),
    ("wildcard", {"source_address": "192.0.2.*"}),
    ("NUL in the command", {"force_command": "id\0"}),
    ("a command sshd drops", {"force_command": "x" * (MAX_FORCE_COMMAND_BYTES + 1)}),
    ("a lone surrogate", {"force_command": "\udcff"}),
    ("the X.509 CA", {"ca": Ca.X509}),
    ("an egress certificate by the ingress CA", {"ca": Ca.INGRESS}),
    ("an egress certificate by the host CA", {"ca": Ca.HOST}),
]
BAD_INGRESS: list[tuple[str, dict[str, Any]]] = [
    ("anybody", {"principals": ()}),
    ("login alone", {"principals": ("deploy",)}),
    ("no login", {"principals": ("+web1",)}),
    ("two targets", {"principals": ("deploy+web1+web2",)}),
    ("an egress principal", {"principals": (PRINCIPAL,)}),
    ("key id of a target", {"key_id": render("target", bytes(16))}),
    ("a day and a second", {"valid_before": NOW + INGRESS_MAX_LIFE + timedelta(seconds=1)}),
    ("a command", {"force_command": "id"}),
    ("an address", {"source_address": "192.0.2.1"}),
    ("an ingress certificate by the egress CA", {"ca": Ca.EGRESS}),
]
BAD_HOST: list[tuple[str, dict[str, Any]]] = [
    ("anybody", {"principals": ()}),
    ("all hosts", {"principals": ("*",)}),
    ("a terminal", {"permit_pty": True}),
    ("a command", {"force_command": "id"}),
    ("a year", {"valid_before": NOW + timedelta(days=365)}),
]


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(replace(good, **change), id=f"{good.ca}: {name}")
        for good, bad in ((egress(), BAD_EGRESS), (ingress(), BAD_INGRESS), (host(), BAD_HOST))
        for name, change in bad
    ],
)
def test_what_must_never_be_signed_is_refused(spec: CertSpec) -> None:
    """Every shape that sshd or asyncssh would honour and grantd never means is refused (M1, M3, I-06, I-07)."""
    with pytest.raises(CertMismatch, match="certificate refused"):
        check(spec, NOW)


BAD_CLIENT: list[tuple[str, dict[str, Any]]] = [
    ("nobody", {"uri": ""}),
    ("another scheme", {"uri": f"spiffe://t1/{IDENTITY}"}),
    ("no tenant", {"uri": f"grantd:///{IDENTITY}"}),
    ("no identity", {"uri": "grantd://t1/"}),
    ("more path", {"uri": f"grantd://t1/{IDENTITY}/x"}),
    ("a host", {"hosts": ("localhost",)}),
    ("a server", {"server": True}),
    ("serial 0", {"serial": 0}),
    ("161-bit serial", {"serial": 2**160}),
    ("25 hours", {"not_after": NOW + X509_LIFE + timedelta(seconds=1)}),
    ("over", {"not_after": NOW}),
    ("back-dated", {"not_before": NOW - timedelta(minutes=5)}),
    ("post-dated", {"not_before": NOW + timedelta(seconds=1)}),
]
BAD_SERVER: list[tuple[str, dict[str, Any]]] = [
    ("no host", {"hosts": ()}),
    ("17 hosts", {"hosts": tuple(f"h{n}" for n in range(17))}),
    ("wildcard", {"hosts": ("*.example",)}),
    ("upper case", {"hosts": ("Broker.example",)}),
    ("NUL", {"hosts": ("a\0b",)}),
    ("too long", {"hosts": ("a" * 64,)}),
    ("zone", {"hosts": ("fe80::1%eth0",)}),
    ("an identity", {"uri": client().uri}),
    ("a year", {"not_after": NOW + timedelta(days=365)}),
    ("a client of many days", {"server": False, "not_after": NOW + SERVER_LIFE}),
]


def test_good_x509_specifications_pass() -> None:
    """A client of 24 hours, one of grantd's own tenant, and a server of 90 days."""
    check_x509(client(), NOW)
    check_x509(replace(client(), uri=client_uri(TenantId("_system"), IDENTITY)), NOW)
    check_x509(replace(server(), not_after=NOW + SERVER_LIFE), NOW)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(replace(good, **change), id=name)
        for good, bad in ((client(), BAD_CLIENT), (server(), BAD_SERVER))
        for name, change in bad
    ],
)
def test_what_must_never_be_an_x509_certificate_is_refused(spec: X509Spec) -> None:
    """Whoever is named, for how long, and for which purpose: one answer each."""
    with pytest.raises(CertMismatch, match="certificate refused"):
        check_x509(spec, NOW)


# ---- what was signed
CA_KEY = Ed25519PrivateKey.generate()
CA_BLOB = ed25519_blob(CA_KEY.public_key().public_bytes_raw())


@pytest.mark.parametrize("spec", [egress(), egress(permit_pty=True), egress(force_command=""), ingress(), host()])
def test_what_was_signed_matches(spec: CertSpec) -> None:
    """A certificate made from a specification matches it, fractions of seconds aside."""
    key = new_public_key()
    must_match(spec, sign_ssh(spec, key, CA_KEY), public_key=key, ca_key=CA_BLOB)


@pytest.mark.parametrize(
    "change",
    [
        {"serial": 1},
        {"key_id": render("grant", bytes(16))},
        {"principals": (PRINCIPAL + "x",)},
        {"principals": (PRINCIPAL, "root")},
        {"valid_after": NOW - timedelta(seconds=60)},
        {"valid_before": NOW + timedelta(seconds=61)},
        {"source_address": "192.0.2.8"},
        {"source_address": ""},
        {"force_command": "uname -a; id"},
        {"force_command": ""},
        {"permit_pty": True},
        {"ca": Ca.HOST},
    ],
)
def test_any_other_certificate_does_not_match(change: dict[str, Any]) -> None:
    """One field more, less or different: raised, whichever it is (I-07)."""
    spec, key = egress(), new_public_key()
    with pytest.raises(CertMismatch):
        must_match(spec, sign_ssh(replace(spec, **change), key, CA_KEY), public_key=key, ca_key=CA_BLOB)


def test_another_key_or_ca_does_not_match() -> None:
    """The certificate is for the key that was asked for, by the CA of its purpose (I-06)."""
    spec, key = egress(), new_public_key()
    made = sign_ssh(spec, key, CA_KEY)
    with pytest.raises(CertMismatch):
        must_match(spec, made, public_key=new_public_key(), ca_key=CA_BLOB)
    with pytest.raises(CertMismatch):
        must_match(spec, sign_ssh(spec, key, Ed25519PrivateKey.generate()), public_key=key, ca_key=CA_BLOB)


@given(st.data())
def test_no_edited_certificate_matches(data: st.DataObject) -> None:
    """A flipped bit anywhere in a certificate is CertMismatch, never another error, never a match."""
    spec, key = egress(), new_public_key()
    made = bytearray(sign_ssh(spec, key, CA_KEY))
    at = data.draw(st.integers(0, len(made) * 8 - 1))
    made[at // 8] ^= 1 << at % 8
    with pytest.raises(CertMismatch):
        must_match(spec, bytes(made), public_key=key, ca_key=CA_BLOB)
