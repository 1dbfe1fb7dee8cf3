"""The keys of the four CAs: made once, loaded strictly, never handed out (I-06, I-53, I-54). Public halves leave.

Files: `ingress.key`, `egress.key`, `host.key` (Ed25519), `x509.key` (P-256), all PKCS #8 PEM, and `x509.crt`. Keys that
a rotation made are called `ingress.2.key` and so on; broker.signer.table says which of them count.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

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
from broker.core.generation import Generation, UnknownGeneration, signing
from broker.core.keymaterial import KEY_BYTES, must_be_strong
from broker.core.sshwire import ed25519_blob
from broker.signer import files
from broker.signer.private import KeyFault, must_be_private, read_private, sync
from broker.signer.table import Table, certificate_file, key_file, read_table, sweep

SSH_CAS = (Ca.INGRESS, Ca.EGRESS, Ca.HOST)
CA_LIFE = timedelta(days=3650)
__all__ = ["SSH_CAS", "CaKeys", "KeyFault", "load_ed25519", "load_keys", "make_key", "make_keys", "pem", "public_half"]

PrivateKey: TypeAlias = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class CaKeys:
    """The keys, loaded and checked. Has no repr and no comparison, so nothing prints or leaks them by accident."""

    directory: Path
    ssh: dict[Ca, Ed25519PrivateKey]
    """What signs now."""
    x509_key: ec.EllipticCurvePrivateKey
    x509_certificate: x509.Certificate
    egress: Mapping[int, Ed25519PrivateKey]
    """Every generation that is believed, for checks of targets."""
    generations: Mapping[Ca, tuple[Generation, ...]]

    def public(self, ca: Ca) -> bytes:
        """What signs now: SSH wire blob of an SSH CA, DER certificate of the X.509 CA."""
        return signing(self.generations[ca]).public

    def egress_of(self, number: int) -> Ed25519PrivateKey:
        """The egress key of one generation. Raises UnknownGeneration."""
        if number not in self.egress:
            raise UnknownGeneration("there is no such generation of the egress CA")
        return self.egress[number]


def make_keys(directory: Path, now: datetime) -> None:
    """Makes all four keys in `directory` (0700, made if missing), files 0400. Never overwrites: O_EXCL.

    Raises:
        KeyFault: the directory is not private, or a key is already there.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyFault(f"{directory}: cannot be made") from error
    must_be_private(directory, directory.lstat(), os.geteuid())
    for ca in (Ca.X509, *SSH_CAS):
        make_key(directory, ca, 1, now)


def make_key(directory: Path, ca: Ca, number: int, now: datetime) -> None:
    """Makes the key of one generation, on disk when this returns. Raises KeyFault: it is already there."""
    if ca is Ca.X509:
        x509_key = ec.generate_private_key(ec.SECP256R1())
        _write(certificate_file(directory, number), _self_signed(x509_key, now).public_bytes(Encoding.PEM))
        _write(key_file(directory, ca, number), pem(x509_key))
    else:
        _write(key_file(directory, ca, number), pem(Ed25519PrivateKey.generate()))
    sync(directory)


def load_keys(directory: Path, *, owner: int) -> CaKeys:
    """The keys of `directory`, whose every file must belong to uid `owner` and to nobody else's eyes.

    Raises:
        KeyFault: missing, readable by others, another owner, a link, another kind of key, two the same.
        WeakKey: a sample or constant key.
    """
    try:
        must_be_private(directory, directory.lstat(), owner)
    except OSError as error:
        raise KeyFault(f"{directory}: no signer keys here, run `grantd init`") from error
    table = read_table(directory, owner)
    sweep(directory, table)
    ssh = {(ca, row.number): load_ed25519(key_file(directory, ca, row.number), owner)
           for ca in SSH_CAS for row in table[ca]}  # fmt: skip
    # one CA per purpose: a shared key would make what an agent holds valid on targets (I-06)
    if len({_raw_public(key) for key in ssh.values()}) != len(ssh):
        raise KeyFault(f"{directory}: two CAs share a key")
    roots = {row.number: _load_root(directory, row.number, owner) for row in table[Ca.X509]}
    publics = {name: ed25519_blob(_raw_public(key)) for name, key in ssh.items()}
    publics |= {(Ca.X509, number): root[1].public_bytes(Encoding.DER) for number, root in roots.items()}
    generations = _generations(table, publics)
    x509_key, certificate = roots[signing(generations[Ca.X509]).number]
    return CaKeys(
        directory=directory,
        ssh={ca: ssh[ca, signing(generations[ca]).number] for ca in SSH_CAS},
        x509_key=x509_key,
        x509_certificate=certificate,
        egress={number: key for (ca, number), key in ssh.items() if ca is Ca.EGRESS},
        generations=generations,
    )


def public_half(directory: Path, ca: Ca, number: int, *, owner: int) -> bytes:
    """SSH wire blob of a key that lies there; of the X.509 CA its certificate, DER. Raises KeyFault, WeakKey."""
    if ca is Ca.X509:
        return _load_root(directory, number, owner)[1].public_bytes(Encoding.DER)
    return ed25519_blob(_raw_public(load_ed25519(key_file(directory, ca, number), owner)))


def _generations(table: Table, publics: Mapping[tuple[Ca, int], bytes]) -> dict[Ca, tuple[Generation, ...]]:
    return {
        ca: tuple(
            Generation(
                number=row.number, public=publics[ca, row.number], stage=row.stage, since=row.since, voucher=row.voucher
            )
            for row in rows
        )
        for ca, rows in table.items()
    }


def _load_root(directory: Path, number: int, owner: int) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = _load_p256(key_file(directory, Ca.X509, number), owner)
    return key, _load_certificate(certificate_file(directory, number), owner, key)


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


def _write(path: Path, data: bytes) -> None:
    try:
        files.make(path, data)
    except FileExistsError as error:
        raise KeyFault(f"{path}: is already there, keys are never overwritten") from error


def _load_private(path: Path, owner: int) -> object:
    try:
        return load_pem_private_key(read_private(path, owner), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFault(f"{path}: not an unencrypted PKCS #8 key") from error


def _load_certificate(path: Path, owner: int, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(read_private(path, owner))
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise KeyFault(f"{path}: not the certificate of a CA") from error
    if certificate.public_key() != key.public_key():
        raise KeyFault(f"{path}: belongs to another key")
    return certificate


def pem(key: PrivateKey) -> bytes:
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
