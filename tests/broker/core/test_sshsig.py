"""A person's signature counts, and nothing that only looks like it (I-10, I-13)."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from broker.core import sshsig
from broker.core.errors import Blame
from broker.core.sshsig import BadSignature, Presence, from_armour, presence, verify
from broker.core.sshwire import Reader, fingerprint_of, parse_line, string
from tests.broker import ssh_keys
from tests.broker.ssh_keys import NAMESPACE, SoftwareToken

MESSAGE = b"\x00\x00\x00\x01the record\n\xff"
KINDS = ["ed25519", "ecdsa"]


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """A signature by stock ssh-keygen over MESSAGE, and the key line that made it."""
    private = ssh_keys.keygen(tmp_path_factory.mktemp("keys"), request.param)
    return from_armour(ssh_keys.keygen_sign(private, MESSAGE)), ssh_keys.line_of(private)


def test_a_signature_of_ssh_keygen_counts(made: tuple[bytes, str]) -> None:
    """The fingerprint says who of the allowed signed; comments in the lines do not matter."""
    signature, line = made
    other = parse_line("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3ngjK6sC8dnwg1asyihp0/UIIwIJ6SU8FfQGKnVo0w").line()
    assert verify(signature, MESSAGE, NAMESPACE, [other, line]) == parse_line(line).fingerprint()
    assert verify(signature, MESSAGE, NAMESPACE, [parse_line(line).line()]) == parse_line(line).fingerprint()


def test_sha256_signatures_count_too(tmp_path: Path) -> None:
    """ssh-keygen -O hashalg=sha256 makes signatures that count."""
    private = ssh_keys.keygen(tmp_path, "ed25519")
    signature = from_armour(ssh_keys.keygen_sign(private, MESSAGE, hash_name="sha256"))
    verify(signature, MESSAGE, NAMESPACE, [ssh_keys.line_of(private)])


def test_every_flipped_bit_is_refused(made: tuple[bytes, str]) -> None:
    """No bit of a signature is free: each one flipped is BadSignature, never another error, never a yes."""
    signature, line = made
    for index in range(len(signature) * 8):
        flipped = bytearray(signature)
        flipped[index // 8] ^= 1 << index % 8
        with pytest.raises(BadSignature):
            verify(bytes(flipped), MESSAGE, NAMESPACE, [line])


def test_every_truncation_is_refused(made: tuple[bytes, str]) -> None:
    """A signature cut anywhere, or with a tail, is refused."""
    signature, line = made
    for wrong in [signature + b"\0", *(signature[:size] for size in range(len(signature)))]:
        with pytest.raises(BadSignature):
            verify(wrong, MESSAGE, NAMESPACE, [line])


@pytest.mark.parametrize(
    "wrong",
    [
        {"message": MESSAGE + b"\0"},
        {"message": b""},
        {"namespace": "grantd-sign-in@v1"},
        {"namespace": ""},
        {"allowed": []},
        {"allowed": [SoftwareToken(key=Ed25519PrivateKey.generate()).line()]},
        {"allowed": ["ssh-ed25519", ""]},
        {"signature": b""},
        {"signature": bytes(5_000)},
    ],
)
def test_another_message_namespace_or_key_is_refused(made: tuple[bytes, str], wrong: dict[str, Any]) -> None:
    """A signature counts for one message, one purpose and the people named."""
    signature, line = made
    right: dict[str, Any] = {"signature": signature, "message": MESSAGE, "namespace": NAMESPACE, "allowed": [line]}
    verify(**right)
    with pytest.raises(BadSignature):
        verify(**(right | wrong))


def test_rsa_is_refused(tmp_path: Path) -> None:
    """An RSA signature is refused even where somebody listed its key."""
    private = ssh_keys.keygen(tmp_path, "rsa")
    signature = from_armour(ssh_keys.keygen_sign(private, MESSAGE))
    with pytest.raises(BadSignature):
        verify(signature, MESSAGE, NAMESPACE, [ssh_keys.line_of(private)])


def test_the_refusal_has_a_stable_code() -> None:
    """Machines see one code, people one sentence with a way out."""
    refusal = BadSignature()
    assert (refusal.code, refusal.blame) == ("bad_signature", Blame.FORBIDDEN)
    assert refusal.way_out


# ---- FIDO2 keys
TOKEN = SoftwareToken(key=Ed25519PrivateKey.generate())


@pytest.mark.parametrize("flags", [0x01, 0x05])
def test_a_touched_token_counts_here_and_for_openssh(tmp_path: Path, flags: int) -> None:
    """What we take for an authenticator's signature, stock ssh-keygen -Y verify takes too."""
    signature = TOKEN.sign(MESSAGE, flags=flags)
    assert verify(signature, MESSAGE, NAMESPACE, [TOKEN.line()]) == fingerprint_of(TOKEN.blob())
    assert ssh_keys.keygen_accepts(tmp_path, TOKEN.line(), signature, MESSAGE)


@pytest.mark.parametrize(("flags", "verified"), [(0x01, False), (0x05, True)])
def test_a_token_says_how_its_holder_took_part(flags: int, *, verified: bool) -> None:
    """Touched, and asked for a PIN or not: what a policy may demand of an approver."""
    assert presence(TOKEN.sign(MESSAGE, flags=flags)) == Presence(security_key=True, user_verified=verified)


def test_a_key_in_a_file_says_nothing_of_its_holder(made: tuple[bytes, str]) -> None:
    """Malware with the file could have signed."""
    assert presence(made[0]) == Presence(security_key=False, user_verified=False)


@pytest.mark.parametrize("flags", [0x00, 0x04, 0x41, 0x81])
def test_an_untouched_token_does_not_count(flags: int) -> None:
    """Without the user's presence, or with flags nobody defined, a token's signature is refused though it is right."""
    with pytest.raises(BadSignature):
        verify(TOKEN.sign(MESSAGE, flags=flags), MESSAGE, NAMESPACE, [TOKEN.line()])


def test_every_flipped_bit_of_a_tokens_signature_is_refused() -> None:
    """Flags and counter are signed too."""
    signature = TOKEN.sign(MESSAGE, flags=1)
    for index in range(len(signature) * 8):
        flipped = bytearray(signature)
        flipped[index // 8] ^= 1 << index % 8
        with pytest.raises(BadSignature):
            verify(bytes(flipped), MESSAGE, NAMESPACE, [TOKEN.line()])


# ---- second spellings, which OpenSSH's own parser lets pass
def _rebuilt(
    signature: bytes, *, reserved: bytes = b"", hash_name: bytes | None = None, made: bytes | None = None
) -> bytes:
    reader = Reader(signature[10:])
    key, namespace, _, name, inner = (reader.string() for _ in range(5))
    parts = (key, namespace, reserved, hash_name or name, inner if made is None else made)
    return signature[:10] + b"".join(string(part) for part in parts)


def test_a_rebuilt_signature_is_the_same(made: tuple[bytes, str]) -> None:
    """The builder of the next tests changes nothing by itself."""
    assert _rebuilt(made[0]) == made[0]


def test_reserved_bytes_and_other_hashes_are_refused(made: tuple[bytes, str]) -> None:
    """Reserved stays empty; sha1 and sha384 are no hashes for this."""
    signature, line = made
    for wrong in (
        _rebuilt(signature, reserved=b"x"),
        *(_rebuilt(signature, hash_name=h) for h in (b"sha1", b"sha384")),
    ):
        with pytest.raises(BadSignature):
            verify(wrong, MESSAGE, NAMESPACE, [line])


def test_a_signature_of_another_kind_than_its_key_is_refused(made: tuple[bytes, str]) -> None:
    """The kind inside must be the key's."""
    signature, line = made
    for kind in (b"ssh-rsa", b"rsa-sha2-512", b"ssh-ed25519-cert-v01@openssh.com"):
        with pytest.raises(BadSignature):
            verify(_rebuilt(signature, made=string(kind) + string(bytes(64))), MESSAGE, NAMESPACE, [line])


def test_padded_ecdsa_numbers_are_refused(tmp_path: Path) -> None:
    """r and s have one spelling; zero and negative ones have none."""
    private = ssh_keys.keygen(tmp_path, "ecdsa")
    signature, line = from_armour(ssh_keys.keygen_sign(private, MESSAGE)), ssh_keys.line_of(private)
    inner = Reader(sshsig.parse(signature).made)
    inner.string()
    numbers = Reader(inner.string())
    r, s = numbers.string(), numbers.string()
    kind = string(b"ecdsa-sha2-nistp256")
    verify(_rebuilt(signature, made=kind + string(string(r) + string(s))), MESSAGE, NAMESPACE, [line])
    for first, second in [(b"\0" + r, s), (r, b"\0" + s), (b"", s), (r, b"\0"), (b"\xff" + r, s)]:
        wrong = _rebuilt(signature, made=kind + string(string(first) + string(second)))
        with pytest.raises(BadSignature):
            verify(wrong, MESSAGE, NAMESPACE, [line])


# ---- armour
@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN SSH SIGNATURE-----",
        "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n",
        "U1NIU0lH\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\nU1NI U0lH\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\nU1NIU0l\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\n" + "QUFB" * 20 + "\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\n" + ("QUFB" * 19 + "\n") * 200 + "-----END SSH SIGNATURE-----\n",
        "\n-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\ntrailing",
        "-----BEGIN SSH SIGNATURE-----\nU1NI\u00e9U0lH\n-----END SSH SIGNATURE-----\n",
    ],
)
def test_other_armour_is_refused(text: str) -> None:
    """Head, tail, plain base64 and lengths are as ssh-keygen writes them."""
    with pytest.raises(BadSignature):
        from_armour(text)


@given(st.binary(max_size=600))
def test_armour_is_undone(signature: bytes) -> None:
    """What is armoured in lines of 70 or 76 characters comes back."""
    body = base64.encodebytes(signature).decode()
    assert from_armour(f"-----BEGIN SSH SIGNATURE-----\n{body}-----END SSH SIGNATURE-----\n") == signature


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    """No matter what bytes come as a signature, the answer is BadSignature, never any other error."""
    for prefix in (b"", b"SSHSIG\x00\x00\x00\x01"):
        with pytest.raises(BadSignature):
            verify(prefix + data, MESSAGE, NAMESPACE, [TOKEN.line()])
