"""Who is let in: one certificate of the ingress CA, whose row says the same, signed for this very connection (I-24)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import asyncssh
import pytest
import structlog.testing
from asyncssh.constants import MSG_USERAUTH_FAILURE, MSG_USERAUTH_SUCCESS
from asyncssh.packet import String
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.core.cert import Ca
from broker.core.grant import EndReason
from broker.core.identity import IdentityStatus
from broker.core.sshcert import CERT_KIND, MAX_CERT_BYTES
from broker.core.sshcert import parse as parse_certificate
from tests.broker.proxy.forge import FOREVER, NOW, Forged, packed
from tests.broker.proxy.world import NO, Gate, Pass, expire
from tests.broker.rpc.agent import identified
from tests.broker.rpc.world import TENANT
from tests.forgeries import rule_of, told

PK_OK = 60
THE_ANSWER = (MSG_USERAUTH_FAILURE, String(b"publickey") + NO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One forgery, and the rule that refuses it, as the door's log names it."""

    rule: str
    make: Callable[[Forged, Gate, Pass], bytes]


def by(rule: str, /, *, ca: str = "ingress", **fields: object) -> Shape:
    """A certificate with other fields, signed by one of the house's CAs."""
    return Shape(rule=rule, make=lambda good, gate, _: _with(good, fields).signed(gate.house.signer.keys.ssh[Ca(ca)]))


def cut(rule: str, /, keep: Callable[[bytes], bytes]) -> Shape:
    """A good certificate's bytes, changed."""
    return Shape(rule=rule, make=lambda _, __, mine: keep(mine.certificate))


def _with(good: Forged, fields: dict[str, object]) -> Forged:
    return replace(good, **fields)  # type: ignore[arg-type]


def _stranger(good: Forged, gate: Gate, _: Pass) -> bytes:
    return good.signed(Ed25519PrivateKey.generate())


def _claimed(good: Forged, gate: Gate, _: Pass) -> bytes:
    """Signed by a stranger under the ingress CA's name."""
    return replace(good, ca_blob=gate.door.ingress_cas[0]).signed(Ed25519PrivateKey.generate())


def _nested(good: Forged, gate: Gate, mine: Pass) -> bytes:
    """The shape that let people in elsewhere: the agent's own certificate as the CA (threats.md F01)."""
    return replace(good, ca_blob=mine.certificate).signed(mine.key)


def _self_signed(good: Forged, gate: Gate, mine: Pass) -> bytes:
    return good.signed(mine.key)


def _certified_certificate(good: Forged, gate: Gate, mine: Pass) -> bytes:
    """A certificate where the certified key's point belongs."""
    return replace(good, point=mine.certificate).signed(gate.house.signer.keys.ssh[Ca.INGRESS])


def _flipped(blob: bytes) -> bytes:
    return blob[:-1] + bytes([blob[-1] ^ 1])


def _of_egress(good: Forged, gate: Gate, mine: Pass) -> bytes:
    return replace(good, principals=packed(b"grantd:t1:x:deploy")).signed(gate.house.signer.keys.ssh[Ca.EGRESS])


def _of_another_body(good: Forged, gate: Gate, mine: Pass) -> bytes:
    """A signature that the CA did make: over the certificate as it was, before its principal was changed."""
    signed = mine.certificate.replace(b"deploy+web1", b"root___+web")
    assert signed != mine.certificate
    return signed


def _other_ca_kind(kind: str) -> Callable[[Forged, Gate, Pass], bytes]:
    return lambda good, _, mine: replace(
        good, ca_blob=asyncssh.generate_private_key(kind).public_data
    ).signed(mine.key)  # fmt: skip


def _real(kind: str) -> Callable[[Forged, Gate, Pass], bytes]:
    """A whole certificate for a key of another kind, by a CA of ours."""

    def make(good: Forged, gate: Gate, mine: Pass) -> bytes:
        pem = gate.house.signer.keys.ssh[Ca.INGRESS].private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        key = asyncssh.generate_private_key(kind)
        ca = asyncssh.import_private_key(pem)
        return ca.generate_user_certificate(key, good.key_id.decode(), principals=["deploy+web1"]).public_data

    return make


def _pair(name: bytes, value: bytes = b"") -> bytes:
    return packed(name, value)


PTY = _pair(b"permit-pty")
SOURCE = _pair(b"source-address", packed(b"127.0.0.1/32"))
COMMAND = _pair(b"force-command", packed(b"id"))
CA, SIGNED = "not of the ingress CA", "not signed by the key that it names as its CA"
SHORT, LEFT, ORDER = "ends too early", "bytes left over", "options out of order, twice or without a name"
POINT, KIND = "not an Ed25519 point to trust", "a kind of key that grantd does not accept"
ONE, LATE, EARLY = "not exactly one principal", "no longer valid", "not valid yet"
LONG, OTHER = "it lives longer than its row", "its principal is not its grant's"
OPTION, FLAG, ID = "a critical option", "an extension that is not granted", "the key id is no grant's"
ROW, GRANT, KEY = "no row of that serial", "its row is another grant's", "its row is for another key"
NAME, RAW = "not an Ed25519 certificate", "not an Ed25519 signature"
SHAPES = {
    # ---- whose it is
    "another CA": Shape(rule=CA, make=_stranger),
    "the egress CA": by(CA, ca="egress"),
    "a true egress certificate": Shape(rule=CA, make=_of_egress),
    "the host CA": by(CA, ca="host"),
    "the host CA, host type": by(CA, ca="host", kind=2),
    "the ingress CA's name, another's signature": Shape(rule=SIGNED, make=_claimed),
    "a certificate as CA key": Shape(rule=KIND, make=_nested),
    "signed by itself": Shape(rule=CA, make=_self_signed),
    "an RSA key as CA": Shape(rule=KIND, make=_other_ca_kind("ssh-rsa")),
    "an ECDSA key as CA": Shape(rule="not a plain Ed25519 key", make=_other_ca_kind("ecdsa-sha2-nistp256")),
    "a CA key of small order": by(POINT, ca_blob=packed(b"ssh-ed25519", b"\x01" + b"\x00" * 31)),
    "no CA key": by(SHORT, ca_blob=packed(b"")[:0] + b"\x00"),
    "a certificate as the certified key": Shape(rule=POINT, make=_certified_certificate),
    "a point of small order": by(POINT, point=b"\x01" + b"\x00" * 31),
    "a point beyond the field": by(POINT, point=b"\xff" * 31 + b"\x7f"),
    "a point of 31 bytes": by(POINT, point=b"\x07" * 31),
    "another's key": by(KEY, point=Ed25519PrivateKey.generate().public_key().public_bytes_raw()),
    # ---- the signature
    "one bit of the signature": cut(SIGNED, _flipped),
    "a signature over another body": Shape(rule=SIGNED, make=_of_another_body),
    "a signature under RSA's name": by(RAW, signature_name=b"rsa-sha2-512"),
    "a signature under no name": by(RAW, signature_name=b""),
    # ---- what it is
    "host type": by("not a user certificate", kind=2),
    "type 0": by("neither user nor host", kind=0),
    "type 3": by("neither user nor host", kind=3),
    "type 2^32 - 1": by("neither user nor host", kind=2**32 - 1),
    "RSA's name": by(NAME, name=b"ssh-rsa-cert-v01@openssh.com"),
    "ECDSA's name": by(NAME, name=b"ecdsa-sha2-nistp256-cert-v01@openssh.com"),
    "the name in capitals": by(NAME, name=b"SSH-ED25519-CERT-V01@OPENSSH.COM"),
    "a certified RSA key": Shape(rule=NAME, make=_real("ssh-rsa")),
    "a certified ECDSA key": Shape(rule=NAME, make=_real("ecdsa-sha2-nistp256")),
    "the plain key": Shape(rule=NAME, make=lambda _, __, mine: mine.blob()),
    # ---- principals
    "no principals": by(ONE, principals=b""),
    "an empty principal": by(OTHER, principals=packed(b"")),
    "two principals": by(ONE, principals=packed(b"deploy+web1", b"root+web1")),
    "the same principal twice": by(ONE, principals=packed(b"deploy+web1", b"deploy+web1")),
    "another principal": by(OTHER, principals=packed(b"root+web1")),
    "a principal with NUL": by(OTHER, principals=packed(b"deploy+web1\0")),
    "a principal in capitals": by(OTHER, principals=packed(b"DEPLOY+web1")),
    "a principal that ends too early": by(SHORT, principals=b"\x00\x00\x00\x99deploy+web1"),
    "a principal of 2^32 - 1 bytes": by(SHORT, principals=b"\xff\xff\xff\xffdeploy+web1"),
    # ---- validity
    "expired": by(LATE, after=NOW - 600, before=NOW - 60),
    "ends now": by(LATE, before=NOW - 1),
    "no time at all": by(LATE, after=NOW - 30, before=NOW - 30),
    "ends at 0": by(LATE, after=0, before=0),
    "not yet valid": by(EARLY, after=NOW + 86_400, before=NOW + 86_700),
    "ends before it begins": by(EARLY, after=NOW + 86_400, before=NOW - 300),
    "begins at 2^64 - 1": by(EARLY, after=FOREVER, before=FOREVER),
    "ten years": by(LONG, before=NOW + 315_360_000),
    "the year 36812": by(LONG, before=2**40),
    "for ever": by(LONG, after=0, before=FOREVER),
    # ---- options
    "a known critical option": by(OPTION, critical=SOURCE),
    "an empty source-address": by(OPTION, critical=_pair(b"source-address", packed(b""))),
    "force-command": by(OPTION, critical=COMMAND),
    "an unknown critical option": by(OPTION, critical=_pair(b"grantd-root@example")),
    "a critical option twice": by(ORDER, critical=SOURCE + SOURCE),
    "critical options out of order": by(ORDER, critical=SOURCE + COMMAND),
    "a critical option without a name": by(ORDER, critical=_pair(b"")),
    "bytes behind a critical option's value": by(LEFT, critical=_pair(b"force-command", packed(b"id") + b"x")),
    "a critical option that ends too early": by(SHORT, critical=packed(b"source-address")),
    "an unknown extension": by(FLAG, extensions=_pair(b"permit-everything")),
    "agent forwarding": by(FLAG, extensions=_pair(b"permit-agent-forwarding") + PTY),
    "port forwarding": by(FLAG, extensions=_pair(b"permit-port-forwarding") + PTY),
    "a flag with a value": by(FLAG, extensions=_pair(b"permit-pty", packed(b"x"))),
    "an extension twice": by(ORDER, extensions=PTY + PTY),
    "extensions out of order": by(ORDER, extensions=PTY + _pair(b"permit-X11-forwarding")),
    # ---- which one it is
    "serial 0": by(ROW, serial=0),
    "an unknown serial": by(ROW, serial=12345),
    "serial 2^64 - 1": by(ROW, serial=FOREVER),
    "no key id": by(ID, key_id=b""),
    "another grant's id": by(GRANT, key_id=b"gr_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
    "a key id with an escape": by(ID, key_id=b"\x1b[2J\n"),
    "a key id with NUL behind it": by(ID, key_id=b"gr_aaaaaaaaaaaaaaaaaaaaaaaaaa\0"),
    "a key id that is not text": by("not text where text belongs", key_id=b"\xff\xfe"),
    "100 kB of key id": by(ID, key_id=b"A" * 100_000),
    "132 kB of key id": by("longer than any certificate of grantd", key_id=b"A" * 132_000),
    # ---- the envelope
    "bytes in the reserved field": by("reserved field in use", reserved=b"x"),
    "bytes left over": by(LEFT, trailing=b"\x00"),
    "one byte short": cut(SHORT, lambda blob: blob[:-1]),
    "half of it": cut(SHORT, lambda blob: blob[: len(blob) // 2]),
    "its name alone": cut(SHORT, lambda _: packed(CERT_KIND)),
}


def forged_from(mine: Pass) -> Forged:
    """The fields of a certificate that is admitted; nothing but the nonce is new."""
    real = parse_certificate(mine.certificate)
    return Forged(
        point=mine.key.public_key().public_bytes_raw(), serial=real.serial, key_id=real.key_id.encode(),
        principals=packed(mine.user.encode()), after=real.valid_after, before=real.valid_before,
    )  # fmt: skip


@pytest.fixture
async def mine(front: Gate) -> Pass:
    """A certificate that is admitted."""
    return await front.admit()


async def test_the_unchanged_fields_are_admitted(front: Gate, mine: Pass) -> None:
    """The forgeries below differ from this one in a single thing."""
    blob = forged_from(mine).signed(front.house.signer.keys.ssh[Ca.INGRESS])
    client = await front.raw()
    assert await client.log_in(replace(mine, certificate=blob)) == MSG_USERAUTH_SUCCESS


async def test_forged_certificates_are_refused_in_the_same_words(front: Gate, mine: Pass) -> None:
    """I-07, I-08, M1, M3, F01: each by its own rule, which the log has; offered and signed, the answer is the same."""
    good, rules = forged_from(mine), dict[str, str]()
    for name, shape in SHAPES.items():
        blob = shape.make(good, front, mine)
        client = await front.raw()
        with structlog.testing.capture_logs() as logs:
            client.offer(mine.user, blob)
            assert await client.next() == THE_ANSWER, name
        rules[name] = rule_of(logs, "gateway.refused")
        client.sign(replace(mine, certificate=blob))
        # a message longer than any of ours ends the connection
        assert await client.next() in (THE_ANSWER, *([(0, b"")] if len(blob) > MAX_CERT_BYTES else [])), name
        client.abort()
    told("SSH certificates at the gateway", rules)
    assert rules == {name: shape.rule for name, shape in SHAPES.items()}


async def test_another_grants_serial_or_key_is_not_this_ones(front: Gate, mine: Pass) -> None:
    """I-08: serial, key id and key belong together; two certificates of one's own cannot be mixed."""
    other = await front.admit()
    theirs, good = parse_certificate(other.certificate), forged_from(mine)
    ingress = front.house.signer.keys.ssh[Ca.INGRESS]
    mixed = [
        replace(good, serial=theirs.serial),
        replace(good, key_id=theirs.key_id.encode()),
        replace(good, key_id=theirs.key_id.encode(), serial=theirs.serial),
    ]
    for shape in mixed:
        client = await front.raw()
        assert await client.log_in(replace(mine, certificate=shape.signed(ingress))) == MSG_USERAUTH_FAILURE
    stolen = await front.raw()
    assert await stolen.log_in(replace(other, key=mine.key)) == MSG_USERAUTH_FAILURE


async def test_the_user_name_must_agree_and_gives_nothing(front: Gate, mine: Pass) -> None:
    """I-24: another name is refused, also one that SASLprep would make equal; the bare login is no other name."""
    for user in ("root+web1", "root", "", "deploy+web2", "DEPLOY+web1", "dep\u00adloy+web1", "x" * 1000):
        client = await front.raw()
        client.sign(mine, user=user)
        assert await client.next() == THE_ANSWER, user
        client.abort()


async def test_a_signature_for_another_connection_is_worth_nothing(front: Gate, mine: Pass) -> None:
    """I-24: signed over another session id, over another key, by the plain key's name."""
    first, second = await front.raw(), await front.raw()
    assert await second.log_in(mine, session=first._session_id) == MSG_USERAUTH_FAILURE  # noqa: SLF001
    assert await second.log_in(mine, algorithm=b"ssh-ed25519") == MSG_USERAUTH_FAILURE
    third = await front.raw()
    assert await third.log_in(mine, key=mine.blob(), algorithm=b"ssh-ed25519") == MSG_USERAUTH_FAILURE
    assert await third.log_in(mine) == MSG_USERAUTH_SUCCESS


async def test_a_key_that_was_only_offered_is_not_who_it_is(front: Gate, mine: Pass) -> None:
    """I-24, F28: asks with one certificate and signs with another: the grant is the signed one's."""
    other = await front.admit()
    client = await front.raw()
    client.offer(other.user, other.certificate)
    assert (await client.next())[0] == PK_OK
    assert [connection.admission for connection in front.door._connections] == [None]  # noqa: SLF001
    assert await client.log_in(mine) == MSG_USERAUTH_SUCCESS
    (connection,) = front.door._connections  # noqa: SLF001
    assert connection.admission is not None
    assert connection.admission.grant.id == mine.grant


async def test_nothing_opens_after_an_offer_alone(front: Gate, mine: Pass) -> None:
    """I-24: a PK_OK is no login; a channel asked for then ends the connection."""
    client = await front.raw()
    client.offer(mine.user, mine.certificate)
    assert (await client.next())[0] == PK_OK
    client._auth_complete = True  # noqa: SLF001  it only thinks so
    client.open(0)
    assert await client.next(91, 92) == (0, b"")


async def test_who_is_logged_in_stays_so(front: Gate, mine: Pass) -> None:
    """I-22: a second login on a connection changes nothing: not before a channel, and after one it ends it."""
    other = await front.admit()
    client = await front.entered(mine)
    client.sign(other)
    client.open(0)
    assert (await client.next(51, 52, 91))[0] == 91
    (connection,) = front.door._connections  # noqa: SLF001
    assert connection.admission is not None
    assert connection.admission.grant.id == mine.grant
    client.sign(other)
    assert await client.hung_up()


async def test_a_login_overtaken_by_another_is_forgotten(front: Gate, mine: Pass) -> None:
    """F28: a good signature followed at once by another request for another grant: only one of them is who it is."""
    other = await front.admit()
    client = await front.raw()
    client.sign(other)
    client.sign(mine)
    while (await client.next())[0] not in (0, MSG_USERAUTH_SUCCESS):
        pass
    (connection,) = front.door._connections  # noqa: SLF001
    assert connection.admission is not None
    assert list(front.door._grants.items()) == [(connection.admission.grant.id, 1)]  # noqa: SLF001


METHODS = (
    b"none", b"password", b"keyboard-interactive", b"hostbased", b"gssapi-with-mic", b"gssapi-keyex", b"nonsense", b"",
)  # fmt: skip


async def test_there_is_one_method(front: Gate, mine: Pass) -> None:
    """I-24: whatever else SSH knows is refused in the same words, with whatever it carries."""
    for method in METHODS:
        client = await front.raw()
        for rest in (b"", NO + String(b"secret"), String(b"") + String(b""), String(mine.certificate)):
            client.ask(mine.user, method, rest)
            assert await client.next() == THE_ANSWER, method
        client.abort()


async def test_messages_of_a_server_do_not_let_a_client_in(front: Gate) -> None:
    """F27: a client that says `success` itself, or opens before it is known, is cut, or told it makes no sense."""
    for number in (51, 52, 53, 60, 61, 63, 79, 6, 91, 100):
        client = await front.raw()
        client._auth_complete = True  # noqa: SLF001  it only thinks so
        client.send_packet(number, String(b"publickey") + NO)
        client.open(0)
        assert await client.next(91) == (0, b""), number


@pytest.mark.parametrize("how", ["revoked", "expired", "frozen", "suspended", "rekeyed"])
async def test_a_good_certificate_of_access_that_is_over_is_refused(front: Gate, mine: Pass, how: str) -> None:
    """I-01, I-02, I-35: the row decides at the moment of use, in the same words as for a forgery."""
    house = front.house
    agent = house.people["agent"]
    if how == "revoked":
        await house.cases.ending.end(TENANT, mine.grant, EndReason.REVOKED, by=house.people["owner"].row.id)
    elif how == "expired":
        await expire(front, mine)
    elif how == "frozen":
        await house.cases.freeze.freeze(await identified(house, "owner"), "drill")
    elif how == "suspended":
        await house.change(agent, status=IdentityStatus.SUSPENDED)
    else:
        await house.change(agent, key=b"k" * 32)
    client = await front.raw()
    client.sign(mine)
    assert await client.next() == THE_ANSWER


async def test_keys_of_other_kinds_are_not_looked_at(front: Gate) -> None:
    """F29: RSA and ECDSA keys, and asyncssh's own certificates of them, cost nothing and open nothing."""
    for algorithm in ("ssh-rsa", "ecdsa-sha2-nistp256"):
        key = asyncssh.generate_private_key(algorithm)
        ca = asyncssh.generate_private_key("ssh-ed25519")
        certificate = ca.generate_user_certificate(key, "x", principals=["deploy+web1"])
        client = await front.raw()
        for blob in (key.public_data, certificate.public_data):
            client.offer("deploy+web1", blob, algorithm.encode())
            assert await client.next() == THE_ANSWER
        client.abort()


async def test_nothing_of_this_machines_ssh_set_up_counts(front: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-24: an authorized_keys file in the broker's home admits nobody."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(asyncssh.PermissionDenied):
        await asyncssh.connect(
            "127.0.0.1", front.port, username="root", client_keys=[key], config=None, known_hosts=None, agent_path=None,
        )  # fmt: skip
    assert front.refusals() == []
