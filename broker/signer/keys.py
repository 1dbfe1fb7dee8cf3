"""The four CA keys: made once, loaded strictly, never handed out (I-06, I-53, I-54). Only their public halves leave.

Files: `ingress.key`, `egress.key`, `host.key` (Ed25519), `x509.key` (P-256), all PKCS #8 PEM, and `x509.crt`.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from broker.core.cert import SKEW, Ca
from broker.core.errors import Fault
from broker.core.keymaterial import KEY_BYTES, must_be_strong
from broker.core.sshwire import ed25519_blob

SSH_CAS = (Ca.INGRESS, Ca.EGRESS, Ca.HOST)
CA_LIFE = timedelta(days=3650)
X509_CERTIFICATE = "x509.crt"
_MAX_FILE_BYTES = 16 * 1024


class KeyFault(Fault):
    """The keys cannot be used as they lie there; the message names the file, never its content."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class CaKeys:
    """The keys, loaded and checked. Has no repr and no comparison, so nothing prints or leaks them by accident."""

    ssh: dict[Ca, Ed25519PrivateKey]
    x509_key: ec.EllipticCurvePrivateKey
    x509_certificate: x509.Certificate

    def public(self, ca: Ca) -> bytes:
        """SSH wire blob of an SSH CA, DER certificate of the X.509 CA."""
        if ca is Ca.X509:
            return self.x509_certificate.public_bytes(Encoding.DER)
        return ed25519_blob(_raw_public(self.ssh[ca]))


def make_keys(directory: Path, now: datetime) -> None:
    """Makes all four keys in `directory` (0700, made if missing), files 0400. Never overwrites: O_EXCL.

    Raises:
        KeyFault: the directory is not private, or a key is already there.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyFault(f"{directory}: cannot be made") from error
    _must_be_private(directory, directory.lstat(), os.geteuid())
    x509_key = ec.generate_private_key(ec.SECP256R1())
    _write(directory / X509_CERTIFICATE, _self_signed(x509_key, now).public_bytes(Encoding.PEM))
    _write(directory / f"{Ca.X509}.key", pem(x509_key))
    for ca in SSH_CAS:
        _write(directory / f"{ca}.key", pem(Ed25519PrivateKey.generate()))
    _sync(directory)


def load_keys(directory: Path, *, owner: int) -> CaKeys:
    """The keys of `directory`, whose every file must belong to uid `owner` and to nobody else's eyes.

    Raises:
        KeyFault: missing, readable by others, another owner, a link, another kind of key, two the same.
        WeakKey: a sample or constant key.
    """
    try:
        _must_be_private(directory, directory.lstat(), owner)
    except OSError as error:
        raise KeyFault(f"{directory}: no signer keys here, run `grantd init`") from error
    ssh = {ca: load_ed25519(directory / f"{ca}.key", owner) for ca in SSH_CAS}
    # one CA per purpose: a shared key would make what an agent holds valid on targets (I-06)
    if len({_raw_public(key) for key in ssh.values()}) != len(SSH_CAS):
        raise KeyFault(f"{directory}: two CAs share a key")
    x509_key = _load_p256(directory / f"{Ca.X509}.key", owner)
    certificate = _load_certificate(directory / X509_CERTIFICATE, owner, x509_key)
    return CaKeys(ssh=ssh, x509_key=x509_key, x509_certificate=certificate)


def load_ed25519(path: Path, owner: int) -> Ed25519PrivateKey:
    """The key of one file, private to uid `owner`. Raises KeyFault, WeakKey."""
    key = _load_private(path, owner)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFault(f"{path}: not an Ed25519 key")
    must_be_strong(key.private_bytes_raw())
    return key


def _load_p256(path: Path, owner: int) -> ec.EllipticCurvePrivateKey:
    key = _load_private(path, owner)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFault(f"{path}: not a P-256 key")
    must_be_strong(key.private_numbers().private_value.to_bytes(KEY_BYTES, "big"))
    return key


def _load_private(path: Path, owner: int) -> object:
    try:
        return load_pem_private_key(_read_private(path, owner), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFault(f"{path}: not an unencrypted PKCS #8 key") from error


def _load_certificate(path: Path, owner: int, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(_read_private(path, owner))
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise KeyFault(f"{path}: not the certificate of a CA") from error
    if certificate.public_key() != key.public_key():
        raise KeyFault(f"{path}: belongs to another key")
    return certificate


def _read_private(path: Path, owner: int) -> bytes:
    try:
        # not blocking: a pipe in the place of a key must not hold up the start
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFault(f"{path}: cannot be opened") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFault(f"{path}: not a file")
        _must_be_private(path, found, owner)
        return os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def _must_be_private(path: Path, found: os.stat_result, owner: int) -> None:
    if found.st_uid != owner:
        raise KeyFault(f"{path}: belongs to uid {found.st_uid}, not to uid {owner}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KeyFault(f"{path}: others may read it (mode {stat.S_IMODE(found.st_mode):04o}), chmod go= it")


def _write(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    except FileExistsError as error:
        raise KeyFault(f"{path}: is already there, keys are never overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, unencrypted: the file's mode is its lock."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _raw_public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # the name is unlike that of any other installation: trust stores that pick a CA by name find the right one
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"grantd CA {secrets.token_hex(8)}")])
    start = (now - SKEW).replace(microsecond=0)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=start,
        not_valid_after=start + CA_LIFE,
    )
    for extension, critical in _ca_extensions(key):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256())


def _ca_extensions(key: ec.EllipticCurvePrivateKey) -> list[tuple[x509.ExtensionType, bool]]:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage, True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]
