"""Revocation lists as OpenSSH itself reads them."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core.krl import HEADER_BYTES, Krl, NoList, Revoked, encode, read_header
from broker.core.sshwire import ed25519_blob, parse_blob
from broker.signer.sign import sign_ssh
from tests import peers
from tests.broker.ssh_keys import GRANT, NOW, egress, new_public_key, run

CA = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_CA = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
SERIALS = st.integers(min_value=1, max_value=2**64 - 1)
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
# runs of neighbours beside single numbers, at both ends of what a serial can be
RUNS = st.lists(st.tuples(SERIALS, st.integers(0, 5)), max_size=5).map(
    lambda runs: tuple(s + n for s, more in runs for n in range(more + 1) if s + n < 2**64)
)


def blob(ca: Ed25519PrivateKey) -> bytes:
    """The public half, as it stands in a list."""
    return ed25519_blob(ca.public_key().public_bytes_raw())


def listed(*key_ids: str, serials: tuple[int, ...] = (), keys: tuple[bytes, ...] = ()) -> Krl:
    """A list under CA."""
    revoked = Revoked(ca_key=blob(CA), key_ids=key_ids, serials=serials)
    return Krl(version=7, generated=NOW, comment="grantd test", certificates=(revoked,), keys=keys)


def refuses(folder: Path, krl: Krl, *, key_id: str = GRANT, serial: int = 5, ca: Ed25519PrivateKey = CA) -> bool:
    """Whether `ssh-keygen -Q` calls a certificate revoked by a list."""
    certificate = sign_ssh(replace(egress(), key_id=key_id, serial=serial), new_public_key(), ca)
    return asked(folder, krl, _line(b"ssh-ed25519-cert-v01@openssh.com", certificate))


def asked(folder: Path, krl: Krl, line: str) -> bool:
    """Whether `ssh-keygen -Q` calls a key or certificate, as a line, revoked by a list."""
    program = peers.require("ssh-keygen")
    file, shown = folder / "krl", folder / "shown.pub"
    file.write_bytes(encode(krl))
    shown.write_text(line)
    done = subprocess.run(
        [program, "-Q", "-f", file, shown], capture_output=True, text=True, check=False, env=peers.environment(program)
    )
    assert done.returncode == 0 or "REVOKED" in done.stdout, done.stderr  # it could read both
    return done.returncode != 0


def _line(kind: bytes, data: bytes) -> str:
    return f"{kind.decode()} {base64.b64encode(data).decode()}\n"


def test_a_revoked_grants_certificate_is_refused(tmp_path: Path) -> None:
    """By its key id and under its CA alone; another grant's, and the same id under another CA, are not (I-62)."""
    krl = listed(GRANT, serials=(1, 9, 10, 11, 12))
    assert refuses(tmp_path, krl)
    assert not refuses(tmp_path, krl, key_id=GRANT[:-1] + "7")
    assert not refuses(tmp_path, krl, ca=OTHER_CA)
    assert [s for s in range(1, 15) if refuses(tmp_path, listed(serials=(1, 9, 10, 11, 12)), serial=s)] == [
        1,
        9,
        10,
        11,
        12,
    ]
    assert not refuses(tmp_path, listed())


def test_a_revoked_ca_key_takes_all_its_certificates_along(tmp_path: Path) -> None:
    """And the plain key; another CA's certificates stay good."""
    krl = Krl(version=1, generated=NOW, comment="", certificates=(), keys=(blob(CA),))
    assert refuses(tmp_path, krl)
    assert not refuses(tmp_path, krl, ca=OTHER_CA)
    assert asked(tmp_path, krl, parse_blob(blob(CA)).line())


def test_openssh_shows_what_was_put_in(tmp_path: Path) -> None:
    """Version, date, comment, runs as ranges, every id once."""
    (tmp_path / "krl").write_bytes(encode(listed("b", "a", "a", serials=(2**64 - 1, 3, 4, 5, 9))))
    said = run("-Q", "-l", "-f", str(tmp_path / "krl"))
    for line in ("# KRL version 7", "# Comment: grantd test", "serial: 9", "serial: 3-5", f"serial: {2**64 - 1}"):
        assert line in said
    assert said.count("id: a") == said.count("id: b") == 1


@given(ids=st.lists(NAMES, max_size=4), serials=RUNS, serial=SERIALS, key_id=NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_what_is_listed_is_refused(
    tmp_path: Path, ids: list[str], serials: tuple[int, ...], serial: int, key_id: str
) -> None:
    """Whatever ids and serials: a certificate is refused if and only if one of its two is on the list."""
    krl = listed(*ids, serials=serials)
    assert refuses(tmp_path, krl, key_id=key_id, serial=serial) == (key_id in ids or serial in serials)
    for each in serials[:1] + serials[-1:]:
        assert refuses(tmp_path, krl, key_id=key_id, serial=each)


@given(version=st.integers(0, 2**64 - 1), seconds=st.integers(0, 2**40), comment=st.text(max_size=50))
def test_a_header_comes_back(version: int, seconds: int, comment: str) -> None:
    """From the beginning of a list alone; from a shorter one, or other bytes, nothing does."""
    generated = datetime.fromtimestamp(min(seconds, 4_000_000_000), UTC)
    data = encode(
        Krl(version=version, generated=generated, comment=comment, certificates=listed(GRANT).certificates, keys=())
    )
    header = read_header(data[:HEADER_BYTES])
    assert (header.version, header.generated, header.comment) == (version, generated, comment)
    for other in (data[:43], b"", b"X" + data[1:], bytes(HEADER_BYTES)):
        with pytest.raises(NoList):
            read_header(other)


@pytest.mark.parametrize("serial", [0, -1, 2**64])
def test_a_serial_that_no_certificate_has(serial: int) -> None:
    """0 means "no serial" to OpenSSH; listed it would be a mistake."""
    with pytest.raises(ValueError, match="serial"):
        encode(listed(serials=(serial,)))
