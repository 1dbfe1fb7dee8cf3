"""Forged X.509 client certificates at the real mTLS door: no handshake, or refused by their row's rule (I-08, I-24).

TLS checks who signed it and for what; whom it names and whose key it is are the gate's to check. Whoever is refused by
the gate is told the same words for every rule.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import grpc.aio
import structlog.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.core.cert import client_uri
from broker.core.identity import IdentityStatus
from grantd.v1 import identity_pb2
from grantd.v1.identity_pb2_grpc import IdentityServiceStub
from tests.broker.rpc.calls import refusal_of, said
from tests.broker.rpc.world import OTHER_TENANT, TENANT, House, Somebody
from tests.forgeries import rule_of, told

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
TLS = "the handshake"
NOBODY = "no row of that identity"
ONE = "not exactly one identity"


def built(
    house: House, key: Key, names: list[x509.GeneralName], *, ca: tuple[x509.Name, Key] | None = None,
    life: tuple[int, int] = (-30, 600), usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
    authority: bool = False, named: bool = True,
) -> bytes:  # fmt: skip
    """A certificate of any shape, by the house's CA or another."""
    keys, now = house.signer.keys, datetime.now(UTC)
    issuer, ca_key = ca or (keys.x509_certificate.subject, keys.x509_key)
    builder = x509.CertificateBuilder(
        issuer_name=issuer, subject_name=x509.Name([]), public_key=key.public_key(), serial_number=7,
        not_valid_before=now + timedelta(seconds=life[0]), not_valid_after=now + timedelta(seconds=life[1]),
    ).add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)  # fmt: skip
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)  # noqa: FBT003  cryptography's own signature
    if named:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def uri(text: str) -> list[x509.GeneralName]:
    """A name."""
    return [x509.UniformResourceIdentifier(text)]


def forged(house: House, agent: Somebody, owner: Somebody) -> dict[str, tuple[str, bytes, Key]]:
    """Name -> (what should refuse it, certificate, key)."""
    mine = uri(client_uri(TENANT, agent.row.id))
    key, stranger = agent.key, ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "grantd CA 0000000000000000")])
    root = house.signer.keys.x509_certificate.subject
    dns, ip = x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    weak = rsa.generate_private_key(65537, 2048)

    def of(rule: str, names: list[x509.GeneralName] = mine, by: Key = key, **more: object) -> tuple[str, bytes, Key]:
        return rule, built(house, by, names, **more), by  # type: ignore[arg-type]

    between = built(house, key, mine)
    leaf = built(house, stranger, uri(client_uri(TENANT, owner.row.id)), ca=(x509.Name([]), key))
    return {
        # ---- who signed it, when, for what
        "another CA": of(TLS, ca=(own, stranger)),
        "another CA under our CA's name": of(TLS, ca=(root, stranger)),
        "signed by itself": of(TLS, ca=(x509.Name([]), key)),
        "signed by a client's certificate": (TLS, leaf + between, stranger),
        "expired": of(TLS, life=(-600, -60)),
        "not valid yet": of(TLS, life=(600, 1200)),
        "for servers only": of(TLS, usage=ExtendedKeyUsageOID.SERVER_AUTH),
        # ---- whom it names
        "no name": of("not a certificate that names somebody", named=False),
        "a host's name": of(ONE, [dns]),
        "two identities": of(ONE, mine + uri(client_uri(TENANT, owner.row.id))),
        "an identity and a host": of(ONE, [*mine, dns]),
        "an identity and an address": of(ONE, [*mine, ip]),
        "an identity and a mail address": of(ONE, [*mine, x509.RFC822Name("a@example.org")]),
        "another scheme": of(ONE, uri(f"https://{TENANT}/{agent.row.id}")),
        "the scheme in capitals": of(ONE, uri(f"GRANTD://{TENANT}/{agent.row.id}")),
        "no identity": of("not an identity's name", uri(f"grantd://{TENANT}/")),
        "no tenant": of("not an identity's name", uri(f"grantd:///{agent.row.id}")),
        "a path": of("not an identity's name", uri(f"grantd://{TENANT}/../{owner.row.id}")),
        "a query": of("not an identity's name", uri(f"{client_uri(TENANT, agent.row.id)}?role=owner")),
        "the system's tenant": of("not an identity's name", uri(f"grantd://_system/{owner.row.id}")),
        # ---- whose key it is
        "another tenant": of(NOBODY, uri(client_uri(OTHER_TENANT, agent.row.id))),
        "an unknown identity": of(NOBODY, uri(client_uri(TENANT, "ag_aaaaaaaaaaaaaaaaaaaaaaaaaa"))),
        "the owner's name, one's own key": of("its row is for another key", uri(client_uri(TENANT, owner.row.id))),
        "one's own name, another key": of("its row is for another key", by=stranger),
        "an RSA key": of("its row is for another key", by=weak),
    }  # fmt: skip


async def test_each_forged_client_certificate_is_refused_by_its_own_rule(house: House) -> None:
    """I-08, I-24: the genuine shape is let in by the same road before and after, so the test can fail."""
    agent, owner = house.people["agent"], house.people["owner"]
    assert house.rpc is not None

    async def present(certificate: bytes, key: Key) -> object:
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        credentials = grpc.ssl_channel_credentials(house.ca_pem(), private, certificate)
        options = [("grpc.enable_http_proxy", 0), ("grpc.initial_reconnect_backoff_ms", 60_000)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{house.rpc.main_port}", credentials, options=options) as channel:  # type: ignore[union-attr]
            return await IdentityServiceStub(channel).WhoAmI(identity_pb2.WhoAmIRequest(), timeout=20)

    def genuine() -> tuple[bytes, Key]:
        return built(house, agent.key, uri(client_uri(TENANT, agent.row.id))), agent.key

    assert await present(*genuine())
    rules, wanted = dict[str, str](), forged(house, agent, owner)
    for name, (rule, certificate, key) in wanted.items():
        with structlog.testing.capture_logs() as logs:
            code, reason = await refusal_of(present(certificate, key))
            if reason:
                await said(lambda: rule_of(logs, "rpc.served") != "")
        rules[name] = rule_of(logs, "rpc.served") or TLS
        assert (code, reason) == (("UNAVAILABLE", "") if rule is TLS else ("UNAUTHENTICATED", "unknown_identity")), name
    told("X.509 certificates at the mTLS door", rules)
    assert rules == {name: rule for name, (rule, _, _) in wanted.items()}
    assert await present(*genuine())
    await house.change(agent, status=IdentityStatus.SUSPENDED)
    house.cases.identify.forget(agent.row.key)
    assert await refusal_of(present(*genuine())) == ("UNAUTHENTICATED", "unknown_identity")
