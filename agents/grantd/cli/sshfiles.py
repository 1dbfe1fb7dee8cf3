"""What a stock `ssh` needs to use a grant: a key, the certificate, the gateway's host CA, as private files.

The key is made here and is good for nothing at the target itself. What the broker says is taken only in the exact form
that ssh's files have: a name never becomes a line of configuration.
"""

from __future__ import annotations

import base64
import re
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
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}\+[a-z0-9][a-z0-9._-]{0,62}")
_CERTIFICATE: Final = re.compile(r"ssh-ed25519-cert-v01@openssh\.com [A-Za-z0-9+/]+=*")
_KNOWN_HOSTS: Final = re.compile(r"@cert-authority (\S{1,2000}) (ssh-ed25519 [A-Za-z0-9+/]+=*)")

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

    def options(self) -> list[str]:
        """The words that make ssh use them; nothing of the machine's own set-up can lead the connection elsewhere."""
        options = {
            "CertificateFile": self.certificate,
            "UserKnownHostsFile": self.known_hosts,
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
        }
        words = ["-p", str(self.port), "-i", str(self.key)]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        return words

    def command(self) -> str:
        """The command line, to be pasted into a POSIX shell and followed by a remote command."""
        return shlex.join(["ssh", *self.options(), f"{self.user}@{self.host}"])


def write(directory: Path, issue: Issue) -> SshFiles:
    """Make or reuse the grant's key, get a certificate for it, write the files (0600, in a directory 0700)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_path = directory / _KEY
    if not key_path.exists():
        replace_file(key_path, _new_key())
    told = issue(_public(key_path.read_bytes()))
    host, port = _gateway(told.gateway_address)
    files = files_in(directory, user=_exactly(_USER, told.gateway_user, "user name").group(), host=host, port=port)
    certificate = _exactly(_CERTIFICATE, told.ssh_certificate.strip(), "certificate").group()
    hosts = "\n".join(line.group() for line in _known_hosts(told.gateway_known_hosts))
    replace_file(files.certificate, certificate.encode() + b"\n")
    replace_file(files.known_hosts, hosts.encode() + b"\n")
    return files


def files_in(directory: Path, *, user: str, host: str, port: int) -> SshFiles:
    """The files of a directory, by their names."""
    return SshFiles(
        key=directory / _KEY,
        certificate=directory / f"{_KEY}-cert.pub",
        known_hosts=directory / "known_hosts",
        user=user,
        host=host,
        port=port,
    )


def host_cas(known_hosts: str) -> list[str]:
    """The CA's keys out of the broker's known_hosts lines: two while a key follows another. Raises Invalid."""
    return [line.group(2) for line in _known_hosts(known_hosts)]


def _known_hosts(text: str) -> list[re.Match[str]]:
    return [_exactly(_KNOWN_HOSTS, line, "host key line") for line in text.strip().split("\n")]


def _gateway(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = _exactly(_HOST, host, "gateway address").group()
    if not (port.isascii() and port.isdecimal() and 0 < int(port) <= _MAX_PORT):
        raise Invalid("bad_gateway", "the broker named a gateway address that ssh cannot use")
    return host.strip("[]"), int(port)


def _exactly(form: re.Pattern[str], text: str, what: str) -> re.Match[str]:
    found = form.fullmatch(text)
    if found is None:
        raise Invalid("bad_gateway", f"the broker named a {what} that ssh cannot use")
    return found


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _public(private: bytes) -> bytes:
    key = serialization.load_ssh_private_key(private, password=None)
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])
