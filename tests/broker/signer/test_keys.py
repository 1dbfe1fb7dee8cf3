"""The CA keys start nothing unless they are strong, private, four different ones (I-06, I-53, I-54)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from broker.core.cert import Ca
from broker.core.errors import Fault
from broker.core.sshwire import KeyKind, parse_blob
from broker.signer.keys import KeyFault, load_keys, make_keys
from tests.broker.ssh_keys import NOW

SAMPLE = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with fresh keys."""
    make_keys(tmp_path / "signer", NOW)
    return tmp_path / "signer"


def load(directory: Path) -> object:
    """As the signer loads them."""
    return load_keys(directory, owner=os.geteuid())


def replace(path: Path, data: bytes) -> None:
    """Other content under the same name, as private as before."""
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o400)


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_fresh_keys_are_private_and_four(directory: Path) -> None:
    """Files 0400 in a directory 0700; ingress, egress and host have nothing in common (I-06)."""
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = sorted(directory.iterdir())
    assert [file.name for file in files] == ["egress.key", "host.key", "ingress.key", "x509.crt", "x509.key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o400}
    keys = load_keys(directory, owner=os.geteuid())
    blobs = {keys.public(ca) for ca in (Ca.INGRESS, Ca.EGRESS, Ca.HOST)}
    assert len(blobs) == 3
    assert {parse_blob(blob).kind for blob in blobs} == {KeyKind.ED25519}


def test_keys_are_never_overwritten(directory: Path) -> None:
    """A second init leaves every byte as it was."""
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    with pytest.raises(KeyFault, match="never overwritten"):
        make_keys(directory, NOW)
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before


def test_keys_are_not_made_where_others_look(tmp_path: Path) -> None:
    """A directory that others may enter gets no keys."""
    tmp_path.chmod(0o755)
    with pytest.raises(KeyFault, match="others may read"):
        make_keys(tmp_path, NOW)
    assert not list(tmp_path.iterdir())


def test_keys_do_not_print(directory: Path) -> None:
    """Neither repr nor comparison shows a key (I-36)."""
    keys = load_keys(directory, owner=os.geteuid())
    assert "Ed25519" not in repr(keys)
    assert keys != load_keys(directory, owner=os.geteuid())


@pytest.mark.parametrize("name", ["ingress.key", "egress.key", "host.key", "x509.key", "x509.crt"])
@pytest.mark.parametrize("mode", [0o440, 0o404, 0o644, 0o620, 0o601])
def test_a_file_that_others_can_use_starts_nothing(directory: Path, name: str, mode: int) -> None:
    """One bit for group or world on one file is enough to refuse (I-54)."""
    (directory / name).chmod(mode)
    with pytest.raises(KeyFault, match="others may read"):
        load(directory)


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o755])
def test_a_directory_that_others_can_enter_starts_nothing(directory: Path, mode: int) -> None:
    """So is one bit on the directory."""
    directory.chmod(mode)
    with pytest.raises(KeyFault, match="others may read"):
        load(directory)


def test_another_owner_starts_nothing(directory: Path) -> None:
    """Keys of another user are not the signer's."""
    with pytest.raises(KeyFault, match="belongs to uid"):
        load_keys(directory, owner=os.geteuid() + 1)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


BREAK: dict[str, Callable[[Path], object]] = {
    "missing file": lambda d: (d / "egress.key").unlink(),
    "empty": lambda d: replace(d / "egress.key", b""),
    "not a key": lambda d: replace(d / "egress.key", b"changeme"),
    "truncated": lambda d: replace(d / "egress.key", (d / "egress.key").read_bytes()[:60]),
    "other kind": lambda d: replace(d / "egress.key", (d / "x509.key").read_bytes()),
    "other kind x509": lambda d: replace(d / "x509.key", (d / "egress.key").read_bytes()),
    "P-384": lambda d: replace(d / "x509.key", pem(ec.generate_private_key(ec.SECP384R1()))),
    "encrypted": lambda d: replace(
        d / "host.key",
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        ),
    ),
    "constant": lambda d: replace(d / "host.key", pem(Ed25519PrivateKey.from_private_bytes(b"\7" * 32))),
    "counted": lambda d: replace(d / "host.key", pem(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))),
    "sample": lambda d: replace(d / "host.key", pem(Ed25519PrivateKey.from_private_bytes(SAMPLE))),
    "small P-256": lambda d: replace(d / "x509.key", pem(ec.derive_private_key(1, ec.SECP256R1()))),
    "one CA for two": lambda d: replace(d / "egress.key", (d / "ingress.key").read_bytes()),
    "other certificate": lambda d: replace(d / "x509.key", pem(ec.generate_private_key(ec.SECP256R1()))),
    "no certificate": lambda d: replace(d / "x509.crt", b"-----BEGIN CERTIFICATE-----\n"),
    "a link": lambda d: (d / "egress.key").symlink_to((d / "egress.key").rename(d / "e")),
    "a directory": lambda d: _directory(d / "egress.key"),
    "a pipe": lambda d: _pipe(d / "egress.key"),
}


@pytest.mark.parametrize("name", BREAK)
def test_keys_that_are_not_as_made_start_nothing(directory: Path, name: str) -> None:
    """Missing, damaged, encrypted, sample, constant, shared or linked keys are refused by name of file (I-54)."""
    load(directory)
    BREAK[name](directory)
    with pytest.raises(Fault) as refused:
        load(directory)
    assert "PRIVATE" not in refused.value.what


def test_no_directory_says_what_to_do(tmp_path: Path) -> None:
    """The first start without init names the remedy."""
    with pytest.raises(KeyFault, match="grantd init"):
        load(tmp_path / "nothing")
