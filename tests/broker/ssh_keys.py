"""SSH keys and signatures for tests: made by stock ssh-keygen, or by hand where it would need hardware."""

from __future__ import annotations

import base64
import hashlib
import secrets
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.cert import CertSpec, egress_spec, ingress_spec, principal_of
from broker.core.ids import GrantId, TargetId, TenantId, render
from broker.core.sshsig import MAGIC
from broker.core.sshwire import ed25519_blob, string
from tests import peers

NAMESPACE = "grantd-approval@v1"
NOW = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)
GRANT = GrantId(render("grant", bytes(range(16))))
TARGET = TargetId(render("target", bytes(range(16))))
PRINCIPAL = principal_of(TenantId("t1"), TARGET, "deploy")


def keygen(directory: Path, kind: str) -> Path:
    """A new key pair without passphrase; the path of the private key."""
    path = directory / f"{kind}-{secrets.token_hex(4)}"
    size = ["-b", "3072"] if kind == "rsa" else []
    run("-q", "-t", kind, *size, "-N", "", "-C", "a comment", "-f", str(path))
    return path


def line_of(private: Path) -> str:
    """The OpenSSH public key line beside a private key file."""
    return private.with_suffix(private.suffix + ".pub").read_text().strip()


def keygen_sign(private: Path, message: bytes, *, namespace: str = NAMESPACE, hash_name: str = "sha512") -> str:
    """The armoured signature that `ssh-keygen -Y sign` makes."""
    file = private.parent / secrets.token_hex(4)
    file.write_bytes(message)
    run("-Y", "sign", "-O", f"hashalg={hash_name}", "-f", str(private), "-n", namespace, str(file))
    return file.with_suffix(".sig").read_text()


def keygen_accepts(directory: Path, line: str, signature: bytes, message: bytes, *, namespace: str = NAMESPACE) -> bool:
    """Whether `ssh-keygen -Y verify` takes the binary signature of the one allowed signer."""
    signers, armoured = directory / "signers", directory / "armoured"
    signers.write_text(f'approver namespaces="{namespace}" {line}\n')
    body = base64.encodebytes(signature).decode()
    armoured.write_text(f"-----BEGIN SSH SIGNATURE-----\n{body}-----END SSH SIGNATURE-----\n")
    program = peers.require("ssh-keygen")
    arguments = ["-Y", "verify", "-f", str(signers), "-I", "approver", "-n", namespace, "-s", str(armoured)]
    done = subprocess.run(
        [program, *arguments], input=message, capture_output=True, check=False, env=peers.environment(program)
    )
    return done.returncode == 0


def run(*arguments: str) -> str:
    """ssh-keygen with these arguments; its output. A failure fails the test with what it said."""
    program = peers.require("ssh-keygen")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, env=peers.environment(program)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def new_public_key() -> bytes:
    """The blob of a fresh Ed25519 key."""
    return ed25519_blob(Ed25519PrivateKey.generate().public_key().public_bytes_raw())


def egress(now: datetime = NOW, *, permit_pty: bool = False, force_command: str = "uname -a") -> CertSpec:
    """A good specification for one connection to a target."""
    return egress_spec(
        grant=GRANT,
        serial=secrets.randbits(64) | 1,
        principal=PRINCIPAL,
        source_address="192.0.2.7",
        force_command=force_command,
        permit_pty=permit_pty,
        now=now,
        not_after=now + timedelta(hours=1),
    )


def ingress(now: datetime = NOW) -> CertSpec:
    """A good specification for the gateway."""
    return ingress_spec(
        grant=GRANT,
        serial=secrets.randbits(64) | 1,
        login="deploy",
        target_name="web1",
        now=now,
        not_after=now + timedelta(hours=1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareToken:
    """A FIDO2 authenticator made of software. Source: OpenSSH's PROTOCOL.u2f."""

    key: Ed25519PrivateKey
    application: bytes = b"ssh:"

    def blob(self) -> bytes:
        point = self.key.public_key().public_bytes_raw()
        return string(b"sk-ssh-ed25519@openssh.com") + string(point) + string(self.application)

    def line(self) -> str:
        return f"sk-ssh-ed25519@openssh.com {base64.b64encode(self.blob()).decode()}"

    def sign(self, message: bytes, *, flags: int, namespace: str = NAMESPACE, counter: int = 7) -> bytes:
        """The binary SSHSIG that a touch of the token would make."""
        envelope = string(namespace.encode()) + string(b"") + string(b"sha512")
        signed = MAGIC + envelope + string(hashlib.sha512(message).digest())
        tail = bytes([flags]) + counter.to_bytes(4, "big")
        raw = self.key.sign(hashlib.sha256(self.application).digest() + tail + hashlib.sha256(signed).digest())
        made = string(b"sk-ssh-ed25519@openssh.com") + string(raw) + tail
        return MAGIC + (1).to_bytes(4, "big") + string(self.blob()) + envelope + string(made)
