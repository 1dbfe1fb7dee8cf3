"""Which public keys enter, and that each has one spelling."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.errors import Refusal
from broker.core.sshwire import KeyKind, Reader, WireError, ed25519_blob, parse_blob, parse_line, string
from tests.broker import ssh_keys

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3ngjK6sC8dnwg1asyihp0/UIIwIJ6SU8FfQGKnVo0w"
P = 2**255 - 19


def _line(name: str, blob: bytes) -> str:
    return f"{name} {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_keys_of_ssh_keygen_are_read(tmp_path: Path, kind: str) -> None:
    """What ssh-keygen makes is accepted, comment and all, and has the fingerprint that ssh-keygen prints."""
    private = ssh_keys.keygen(tmp_path, kind)
    line = ssh_keys.line_of(private)
    key = parse_line(line)
    assert ssh_keys.run("-l", "-f", str(private)).split()[1] == key.fingerprint()
    assert key.line() == " ".join(line.split()[:2])
    assert parse_blob(key.blob) == key


def test_rsa_is_refused(tmp_path: Path) -> None:
    """An RSA key is not an approval key."""
    with pytest.raises(Refusal) as refused:
        parse_line(ssh_keys.line_of(ssh_keys.keygen(tmp_path, "rsa")))
    assert refused.value.code == "bad_public_key"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        ED25519.replace("ssh-ed25519 ", "ecdsa-sha2-nistp256 "),
        f'command="id" {ED25519}',
        f"{ED25519}\n{ED25519}",
        f"{ED25519} com\x1b[2Jment",
        f"{ED25519}A",
        f"{ED25519}=",
        ED25519[:-1],
        ED25519.replace(" ", "  ", 1),
        "x" * 5_000,
    ],
)
def test_lines_with_more_than_a_key_are_refused(line: str) -> None:
    """Options, second lines, control characters, other spellings and lengths: refused with the one code."""
    with pytest.raises(Refusal) as refused:
        parse_line(line)
    assert refused.value.code == "bad_public_key"


@pytest.mark.parametrize("y", [0, 1, P - 1, P, P + 1, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_points_under_which_anybody_signs_are_refused(y: int, sign: int) -> None:
    """Small order and second spellings of a point never become an approval key."""
    point = (y | sign << 255).to_bytes(32, "little")
    with pytest.raises(WireError):
        parse_blob(ed25519_blob(point))


def test_points_of_order_eight_are_refused() -> None:
    """The two non-obvious y coordinates of small order, found anew: those whose double has order four."""
    from broker.core import sshwire  # noqa: PLC0415  a look at a private table

    d = -121665 * pow(121666, -1, P) % P
    for y in sshwire._SMALL_ORDER:  # noqa: SLF001  the table is what is proved
        x2 = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        # doubling on the curve: y' = (y^2 + x^2) / (1 - d x^2 y^2); three times it must be the identity
        for _ in range(3):
            t = d * x2 * y * y % P
            doubled_x2 = 4 * x2 * y * y * pow((1 + t) ** 2, -1, P) % P
            y, x2 = (y * y + x2) * pow(1 - t, -1, P) % P, doubled_x2  # noqa: PLW2901  the walk is over y itself
        assert (x2, y) == (0, 1)


def test_a_compressed_curve_point_is_refused() -> None:
    """One spelling for a P-256 point too."""
    generator = bytes.fromhex("036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
    blob = string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(generator)
    with pytest.raises(WireError):
        parse_blob(blob)


@pytest.mark.parametrize(
    "blob",
    [
        string(b"ecdsa-sha2-nistp256") + string(b"nistp384") + string(b"\x04" + bytes(64)),
        string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(b"\x04" + bytes(64)),
        string(b"ssh-ed25519") + string(bytes(31)),
        string(b"ssh-ed25519") + string(b"\x02" + bytes(31)) + b"\0",
        string(b"sk-ssh-ed25519@openssh.com") + string(b"\x02" + bytes(31)) + string(b"https://example.com"),
        string(b"ssh-dss") + string(b""),
        b"\xff\xff\xff\xff",
        bytes(2_000),
    ],
)
def test_blobs_that_are_no_key_are_refused(blob: bytes) -> None:
    """Other curves, points off the curve, wrong lengths, tails, foreign authenticator keys."""
    with pytest.raises(WireError):
        parse_blob(blob)


def test_authenticator_keys_keep_their_application() -> None:
    """An SK key is known by its application as well."""
    point = parse_line(ED25519).point
    key = parse_blob(string(b"sk-ssh-ed25519@openssh.com") + string(point) + string(b"ssh:work"))
    assert (key.kind, key.application, key.point) == (KeyKind.SK_ED25519, b"ssh:work", point)
    assert parse_line(key.line()) == key


@given(st.binary(max_size=300))
def test_any_bytes_are_a_key_or_refused(blob: bytes) -> None:
    """No matter what bytes come, the answer is a key of exactly these bytes or WireError, never another error."""
    with contextlib.suppress(WireError):
        assert parse_blob(blob).blob == blob


@given(st.text(max_size=200))
def test_any_line_is_a_key_or_refused(line: str) -> None:
    """No matter what text comes, the answer is a key or the one refusal."""
    with contextlib.suppress(Refusal):
        assert line.startswith(parse_line(line).line())


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_strings_are_read_as_written(parts: list[bytes]) -> None:
    """Strings come back in order, and a reader knows when nothing is left."""
    reader = Reader(b"".join(string(part) for part in parts))
    assert [reader.string() for _ in parts] == parts
    reader.end()
    with pytest.raises(WireError):
        reader.u8()


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.data())
def test_a_string_that_is_cut_is_refused(parts: list[bytes], data: st.DataObject) -> None:
    """Wherever the bytes end, in a length or behind it: no string is shorter than it says."""
    whole = b"".join(string(part) for part in parts)
    reader = Reader(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(WireError):
        [reader.string() for _ in parts]


@given(st.binary(max_size=80) | st.sampled_from([ed25519_blob(bytes(32)), string(b"ssh-rsa") + string(bytes(9))]))
def test_a_blob_that_comes_again_is_judged_as_before(blob: bytes) -> None:
    """What is remembered of keys lets nothing in: a refusal is one at every sight."""
    judged = []
    for _ in range(2):
        try:
            judged.append(parse_blob(blob).blob)
        except WireError as error:
            judged.append(str(error).encode())
    assert judged[0] == judged[1]
