"""What a stock `ssh` needs to use a grant: a key, the certificate, the gateway's host CA, as private files.

One directory a grant, below the profile. The key is made here and is good for nothing at the target itself.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from grantd.errors import Invalid
from grantd.profile import replace_file
from grantd.v1.access_pb2 import IssueCredentialResponse

_KEY: Final = "id_ed25519"
_MAX_PORT: Final = 65535

Issue = Callable[[bytes], IssueCredentialResponse]
"""Public key in SSH wire form -> the credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshFiles:
    """Files of one grant, ready for ssh."""

    key: Path
    certificate: Path
    known_hosts: Path
    user: str
    host: str
    port: int

    def command(self) -> str:
        """The command line, to be pasted into a POSIX shell and followed by a remote command."""
        options = {
            "CertificateFile": self.certificate,
            "UserKnownHostsFile": self.known_hosts,
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
        }
        words = ["ssh", "-p", str(self.port), "-i", str(self.key)]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        return shlex.join([*words, f"{self.user}@{self.host}"])


def write(directory: Path, issue: Issue) -> SshFiles:
    """Make or reuse the grant's key, get a certificate for it, write the files (0600, in a directory 0700)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_path = directory / _KEY
    if not key_path.exists():
        replace_file(key_path, _new_key())
    told = issue(_public(key_path.read_bytes()))
    host, _, port = told.gateway_address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _MAX_PORT or host.startswith("-") or not host.isprintable():
        raise Invalid("bad_gateway", "the broker named a gateway address that ssh cannot use")
    files = SshFiles(
        key=key_path,
        certificate=directory / f"{_KEY}-cert.pub",
        known_hosts=directory / "known_hosts",
        user=told.gateway_user,
        host=host.strip("[]"),
        port=int(port),
    )
    replace_file(files.certificate, told.ssh_certificate.strip().encode() + b"\n")
    replace_file(files.known_hosts, told.gateway_known_hosts.strip().encode() + b"\n")
    return files


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _public(private: bytes) -> bytes:
    key = serialization.load_ssh_private_key(private, password=None)
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])
