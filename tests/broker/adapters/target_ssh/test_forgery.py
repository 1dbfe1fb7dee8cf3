"""The same forgeries at a target: its own sshd refuses them, each for the reason that its log gives (I-06, I-24)."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

import asyncssh
import pytest
from asyncssh.constants import MSG_USERAUTH_FAILURE, MSG_USERAUTH_SUCCESS
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.core.cert import Ca, principal_of
from broker.core.ids import GrantId, TargetId
from broker.core.sshcert import CERT_KIND
from tests.broker.adapters.target_ssh.world import TENANT, World, new_id, world
from tests.broker.proxy.forge import FOREVER, NOW, Forged, packed
from tests.broker.proxy.world import Pass, Raw, raw
from tests.e2e.programs import wait_until
from tests.forgeries import told
from tests.peers_sshd import StartSshd

pytestmark = pytest.mark.sshd
CONFIG = "LogLevel DEBUG3\nMaxAuthTries 500\nLoginGraceTime 600"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forger:
    """A target, a key of one's own, and a certificate for it that the target would take."""

    target: World
    key: Ed25519PrivateKey
    good: Forged

    @property
    def ca(self) -> Ed25519PrivateKey:
        return self.target.signer.keys[Ca.EGRESS]

    def certificate(self) -> bytes:
        return self.good.signed(self.ca)

    async def log_in(self, client: Raw, blob: bytes) -> int:
        """The type of the answer; 0 where sshd hung up."""
        shown = Pass(key=self.key, certificate=blob, user=self.target.login, grant=GrantId("none"))
        return await client.log_in(shown)


Make = Callable[[Forger], bytes]


def by(*, ca: Ca = Ca.EGRESS, **fields: object) -> Make:
    """The good certificate with other fields, signed by one of grantd's CAs."""
    return lambda one: replace(one.good, **fields).signed(one.target.signer.keys[ca])  # type: ignore[arg-type]


def cut(keep: Callable[[bytes], bytes]) -> Make:
    """The good certificate's bytes, changed."""
    return lambda one: keep(one.certificate())


def _claimed(one: Forger) -> bytes:
    blob = base64.b64decode(one.target.signer.line(Ca.EGRESS).split()[1])
    return replace(one.good, ca_blob=blob).signed(Ed25519PrivateKey.generate())


def _other_body(one: Forger) -> bytes:
    return one.certificate().replace(one.good.key_id, one.good.key_id[::-1])


def _other_ca_kind(kind: str) -> Make:
    return lambda one: replace(one.good, ca_blob=asyncssh.generate_private_key(kind).public_data).signed(one.key)


def _real(kind: str) -> Make:
    def make(one: Forger) -> bytes:
        pem = one.ca.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        ca, key = asyncssh.import_private_key(pem), asyncssh.generate_private_key(kind)
        return ca.generate_user_certificate(key, "x", principals=[one.good.principals[4:].decode()]).public_data

    return make


def _others(login: str) -> Make:
    """A true certificate of the egress CA, for another login or target than the one that is asked for."""
    return lambda one: replace(
        one.good, principals=packed(principal_of(TENANT, one.target.target.id, login).encode())
    ).signed(one.ca)


def _pair(name: bytes, value: bytes = b"") -> bytes:
    return packed(name, value)


SOURCE = _pair(b"source-address", packed(b"127.0.0.1/32"))
COMMAND = _pair(b"force-command", packed(b"id"))
CA, SIGNED, OTHER = "its CA is not trusted", "incorrect signature", "key type mismatch"
PRINCIPAL, FORMAT, KIND = "does not contain an authorized principal", "invalid format", "key type does not match"
ADDRESS, CONTENTS = "not from a permitted source address", "source-address contents invalid"
POSSESSION = "not signed by the certified key"
TYPE, LATE, EARLY = "unknown/unsupported certificate type", "expired", "not yet valid"
BY_CHANCE = ""
"""Read as the key of another kind, it is damaged in one way or another."""
LET_IN = "let in: signed by the egress CA, and read as if it were well made"
"""The signer makes none of these, whatever it is asked for: it reads back what it signed (core/cert.py, must_match)."""
SHAPES: dict[str, tuple[str, Make]] = {
    # ---- whose it is
    "another CA": (CA, lambda one: one.good.signed(Ed25519PrivateKey.generate())),
    "the ingress CA": (CA, by(ca=Ca.INGRESS)),
    "the host CA": (CA, by(ca=Ca.HOST)),
    "the host CA, host type": (CA, by(ca=Ca.HOST, kind=2)),
    "the egress CA's name, another's signature": (SIGNED, _claimed),
    "a certificate as CA key": (
        "invalid certificate signing key", lambda one: replace(one.good, ca_blob=one.certificate()).signed(one.key),
    ),
    "signed by itself": (CA, lambda one: one.good.signed(one.key)),
    "an RSA key as CA": (KIND, _other_ca_kind("ssh-rsa")),
    "an ECDSA key as CA": (KIND, _other_ca_kind("ecdsa-sha2-nistp256")),
    "a CA key of small order": (SIGNED, by(ca_blob=packed(b"ssh-ed25519", b"\x01" + b"\x00" * 31))),
    "no CA key": ("invalid certificate signing key", by(ca_blob=b"\x00")),
    "a certificate as the certified key": (
        FORMAT, lambda one: replace(one.good, point=one.certificate()).signed(one.ca),
    ),
    "a point of small order": (POSSESSION, by(point=b"\x01" + b"\x00" * 31)),
    "a point of 31 bytes": (FORMAT, by(point=b"\x07" * 31)),
    "another's key": (POSSESSION, by(point=Ed25519PrivateKey.generate().public_key().public_bytes_raw())),
    # ---- the signature
    "one bit of the signature": (SIGNED, cut(lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]))),
    "a signature over another body": (SIGNED, _other_body),
    "a signature under RSA's name": (KIND, by(signature_name=b"rsa-sha2-512")),
    "a signature under no name": (KIND, by(signature_name=b"")),
    # ---- what it is
    "host type": ("not a user certificate", by(kind=2)),
    "type 0": (TYPE, by(kind=0)),
    "type 3": (TYPE, by(kind=3)),
    "type 2^32 - 1": (TYPE, by(kind=2**32 - 1)),
    "RSA's name": (BY_CHANCE, by(name=b"ssh-rsa-cert-v01@openssh.com")),
    "ECDSA's name": (BY_CHANCE, by(name=b"ecdsa-sha2-nistp256-cert-v01@openssh.com")),
    "the name in capitals": ("unknown or unsupported key type", by(name=b"SSH-ED25519-CERT-V01@OPENSSH.COM")),
    "a certified RSA key": (OTHER, _real("ssh-rsa")),
    "a certified ECDSA key": (OTHER, _real("ecdsa-sha2-nistp256")),
    "the plain key": (OTHER, lambda one: packed(b"ssh-ed25519", one.key.public_key().public_bytes_raw())),
    # ---- principals
    "no principals": (PRINCIPAL, by(principals=b"")),
    "an empty principal": (PRINCIPAL, by(principals=packed(b""))),
    "another login's principal": (PRINCIPAL, _others("root2")),
    "another target's principal": (PRINCIPAL, lambda one: replace(
        one.good, principals=packed(principal_of(TENANT, TargetId(new_id("target")), one.target.login).encode())
    ).signed(one.ca)),
    "an agent's principal": (PRINCIPAL, by(principals=packed(b"root+web1"))),
    "the login's name": (PRINCIPAL, lambda one: replace(
        one.good, principals=packed(one.target.login.encode())).signed(one.ca)),
    "a principal with NUL": (LET_IN, lambda one: replace(
        one.good, principals=packed(one.good.principals[4:] + b"\0")).signed(one.ca)),
    "a principal in capitals": (PRINCIPAL, lambda one: replace(
        one.good, principals=packed(one.good.principals[4:].upper())).signed(one.ca)),
    "a principal that ends too early": (FORMAT, by(principals=b"\x00\x00\x00\x99deploy+web1")),
    "a principal of 2^32 - 1 bytes": (FORMAT, by(principals=b"\xff\xff\xff\xffdeploy+web1")),
    # ---- validity
    "expired": (LATE, by(after=NOW - 600, before=NOW - 60)),
    "ends now": (LATE, by(before=NOW - 1)),
    "no time at all": (LATE, by(after=NOW - 30, before=NOW - 30)),
    "ends at 0": (LATE, by(after=0, before=0)),
    "not yet valid": (EARLY, by(after=NOW + 86_400, before=NOW + 86_700)),
    "ends before it begins": (EARLY, by(after=NOW + 86_400, before=NOW - 300)),
    "begins at 2^64 - 1": (EARLY, by(after=FOREVER, before=FOREVER)),
    # ---- options
    "an unknown critical option": (
        'critical option "grantd-root@example" is not supported', by(critical=_pair(b"grantd-root@example")),
    ),
    "another's source-address": (ADDRESS, by(critical=_pair(b"source-address", packed(b"192.0.2.0/24")))),
    "an empty source-address": (CONTENTS, by(critical=_pair(b"source-address", packed(b"")))),
    "a source-address that is none": (CONTENTS, by(critical=_pair(b"source-address", packed(b"everywhere")))),
    "source-address twice": ("has multiple source-address options", by(critical=SOURCE + SOURCE)),
    "force-command twice": ("has multiple force-command options", by(critical=COMMAND + COMMAND)),
    "a critical option without a name": ('critical option "" is not supported', by(critical=_pair(b""))),
    "bytes behind a critical option's value": (
        'option "force-command" corrupt (extra data)', by(critical=_pair(b"force-command", packed(b"id") + b"x")),
    ),
    "a critical option that ends too early": (FORMAT, by(critical=packed(b"source-address"))),
    "force-command as an extension": (LET_IN, by(extensions=COMMAND)),
    # ---- the envelope
    "bytes in the reserved field": (LET_IN, by(reserved=b"x")),
    "bytes left over": (FORMAT, by(trailing=b"\x00")),
    "one byte short": (FORMAT, cut(lambda blob: blob[:-1])),
    "half of it": (FORMAT, cut(lambda blob: blob[: len(blob) // 2])),
    "its name alone": (FORMAT, cut(lambda _: packed(CERT_KIND))),
    "132 kB of key id": ("longer than any message", by(key_id=b"A" * 132_000)),
}  # fmt: skip


@pytest.fixture
async def forger(sshd_factory: StartSshd) -> AsyncIterator[Forger]:
    """One sshd that says why, and takes as many tries on a connection as there are."""
    async with world(sshd_factory, config=CONFIG) as made:
        key = Ed25519PrivateKey.generate()
        principal = principal_of(TENANT, made.target.id, made.login).encode()
        good = Forged(
            point=key.public_key().public_bytes_raw(), serial=7, key_id=new_id("grant").encode(),
            principals=packed(principal), critical=COMMAND + SOURCE, extensions=b"",
        )  # fmt: skip
        yield Forger(target=made, key=key, good=good)


WHY = (
    (r"parse key: (.+?)(?: \[preauth\])?$", r"\1"),
    (r"Certificate (?:invalid: )?(.+)$", r"\1"),
    (ADDRESS, ADDRESS),
    (r"CA [A-Z0-9]+ \S+ is not listed", CA),
    (r"Failed publickey for .* ED25519-CERT", POSSESSION),
    (r"key type mismatch", "key type mismatch"),
    (r"bad msg_len", "longer than any message"),
)
"""What OpenSSH says, the most telling first, and what of it is shown."""


def why(said: str) -> str:
    """The reason in what sshd logged of one try; empty as long as there is none."""
    for pattern, shown in WHY:
        if (found := re.search(pattern, said, re.MULTILINE)) is not None:
            return found.expand(shown)
    return ""


async def test_the_unchanged_fields_are_let_in(forger: Forger) -> None:
    """The forgeries below differ from this one in a single thing."""
    client = await raw(forger.target.target.port)
    assert await forger.log_in(client, forger.certificate()) == MSG_USERAUTH_SUCCESS
    client.abort()


async def test_forged_certificates_are_refused_by_the_targets_own_sshd(forger: Forger) -> None:
    """M1, M3, F01: each by the rule that its log names; three that only the signer's own key makes are let in."""
    rules = dict[str, str]()
    client = await raw(forger.target.target.port)
    for name, (_, make) in SHAPES.items():
        seen = len(forger.target.sshd.log())
        answer = await forger.log_in(client, make(forger))
        rules[name] = LET_IN if answer == MSG_USERAUTH_SUCCESS else await refusal(forger, seen)
        if answer != MSG_USERAUTH_FAILURE:
            client.abort()
            client = await raw(forger.target.target.port)
    client.abort()
    told("SSH certificates at a target's sshd", rules)
    assert all(rules.values())
    assert rules == {name: rule or rules[name] for name, (rule, _) in SHAPES.items()}


async def refusal(forger: Forger, seen: int) -> str:
    """Why sshd said no, from where its log was before the try; it writes after it answered."""

    def said() -> str:
        return forger.target.sshd.log()[seen:]

    await asyncio.to_thread(wait_until, lambda: "authenticated 0" in said() or "bad msg_len" in said(), 30)
    return why(said())
