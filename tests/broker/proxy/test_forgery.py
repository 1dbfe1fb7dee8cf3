"""Who is let in: one certificate of the ingress CA, whose row says the same, signed for this very connection (I-24)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import asyncssh
import pytest
from asyncssh.constants import MSG_USERAUTH_FAILURE, MSG_USERAUTH_SUCCESS
from asyncssh.packet import String
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.cert import Ca
from broker.core.errors import Refusal
from broker.core.grant import EndReason
from broker.core.identity import IdentityStatus
from broker.core.sshcert import CERT_KIND
from broker.core.sshcert import parse as parse_certificate
from broker.core.sshwire import WireError
from broker.proxy.certificate import certificate_of, shown
from tests.broker.proxy.forge import FOREVER, NOW, Forged, packed
from tests.broker.proxy.world import NO, Gate, Pass, expire
from tests.broker.rpc.agent import identified
from tests.broker.rpc.world import TENANT

PK_OK = 60
THE_ANSWER = (MSG_USERAUTH_FAILURE, String(b"publickey") + NO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One forgery, and which of the three rules refuses it: the bytes, the CA, or the row."""

    rule: str
    make: Callable[[Forged, Gate, Pass], bytes]


def by(rule: str, /, *, ca: str = "ingress", **fields: object) -> Shape:
    """A certificate with other fields, signed by one of the house's CAs."""
    return Shape(rule=rule, make=lambda good, gate, _: _with(good, fields).signed(gate.house.signer.keys.ssh[Ca(ca)]))


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


def _flipped(good: Forged, gate: Gate, mine: Pass) -> bytes:
    blob = bytearray(mine.certificate)
    blob[-1] ^= 1
    return bytes(blob)


def _of_egress(good: Forged, gate: Gate, mine: Pass) -> bytes:
    return replace(good, principals=packed(b"grantd:t1:x:deploy")).signed(gate.house.signer.keys.ssh[Ca.EGRESS])


def _pair(name: bytes, value: bytes = b"") -> bytes:
    return packed(name, value)


PTY = _pair(b"permit-pty")
SOURCE = _pair(b"source-address", packed(b"127.0.0.1/32"))
SHAPES = {
    "another CA": Shape(rule="ca", make=_stranger),
    "the egress CA": by("ca", ca="egress"),
    "a true egress certificate": Shape(rule="ca", make=_of_egress),
    "the host CA": by("ca", ca="host"),
    "the ingress CA's name, another's signature": Shape(rule="bytes", make=_claimed),
    "a certificate as CA key": Shape(rule="bytes", make=_nested),
    "signed by itself": Shape(rule="ca", make=_self_signed),
    "a certificate as the certified key": Shape(rule="bytes", make=_certified_certificate),
    "one bit of the signature": Shape(rule="bytes", make=_flipped),
    "host type": by("ca", kind=2),
    "type 0": by("bytes", kind=0),
    "type 3": by("bytes", kind=3),
    "no principals": by("row", principals=b""),
    "an empty principal": by("row", principals=packed(b"")),
    "two principals": by("row", principals=packed(b"deploy+web1", b"root+web1")),
    "the same principal twice": by("row", principals=packed(b"deploy+web1", b"deploy+web1")),
    "another principal": by("row", principals=packed(b"root+web1")),
    "a principal that ends too early": by("bytes", principals=b"\x00\x00\x00\x99deploy+web1"),
    "expired": by("row", after=NOW - 600, before=NOW - 60),
    "ends now": by("row", before=NOW - 1),
    "not yet valid": by("row", after=NOW + 86_400, before=NOW + 86_700),
    "ends before it begins": by("row", after=NOW + 300, before=NOW - 300),
    "ten years": by("row", before=NOW + 315_360_000),
    "for ever": by("row", after=0, before=FOREVER),
    "a known critical option": by("row", critical=SOURCE),
    "force-command": by("row", critical=_pair(b"force-command", packed(b"id"))),
    "an unknown critical option": by("row", critical=_pair(b"grantd-root@example")),
    "a critical option twice": by("bytes", critical=SOURCE + SOURCE),
    "an unknown extension": by("row", extensions=_pair(b"permit-everything")),
    "agent forwarding": by("row", extensions=_pair(b"permit-agent-forwarding") + PTY),
    "an extension twice": by("bytes", extensions=PTY + PTY),
    "extensions out of order": by("bytes", extensions=PTY + _pair(b"permit-X11-forwarding")),
    "bytes in the reserved field": by("bytes", reserved=b"x"),
    "bytes left over": by("bytes", trailing=b"\x00"),
    "serial 0": by("row", serial=0),
    "an unknown serial": by("row", serial=12345),
    "no key id": by("row", key_id=b""),
    "an unknown grant": by("row", key_id=b"gr_aaaaaaaaaaaaaaaaaaaaaaaaaa"),
    "a key id with an escape": by("row", key_id=b"\x1b[2J\n"),
    "a key id that is not text": by("bytes", key_id=b"\xff\xfe"),
    "100 kB of key id": by("row", key_id=b"A" * 100_000),
    "RSA's name": by("kind", name=b"ssh-rsa-cert-v01@openssh.com"),
    "ECDSA's name": by("kind", name=b"ecdsa-sha2-nistp256-cert-v01@openssh.com"),
    "a signature under RSA's name": by("bytes", signature_name=b"rsa-sha2-512"),
    "a point of small order": by("bytes", point=b"\x01" + b"\x00" * 31),
    "a point of 31 bytes": by("bytes", point=b"\x07" * 31),
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
    """I-07, I-08, M1, M3, F01: all these shapes; offered and signed, the answer is byte for byte the same for all."""
    good = forged_from(mine)
    for name, shape in SHAPES.items():
        blob = shape.make(good, front, mine)
        assert await _rule(front, mine, blob) == shape.rule, name
        client = await front.raw()
        client.offer(mine.user, blob)
        assert await client.next() == THE_ANSWER, name
        client.sign(replace(mine, certificate=blob))
        assert await client.next() == THE_ANSWER, name
        client.abort()


async def _rule(front: Gate, mine: Pass, blob: bytes) -> str:
    """Which rule refuses it."""
    if not blob.startswith(packed(CERT_KIND)):
        return "kind"
    try:
        parse_certificate(blob)
    except Refusal:
        return "bytes"
    try:
        certificate = certificate_of(blob, ingress_cas=front.door.ingress_cas)
    except WireError:
        return "ca"
    with pytest.raises(Refusal, match="access denied"):
        await front.door.admit(shown(certificate, mine.user))
    return "row"


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
