"""User certificates of any shape, byte by byte (PROTOCOL.certkeys): nothing checks what a test wants to forge."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.sshcert import CERT_KIND
from broker.core.sshwire import string

FOREVER = 2**64 - 1


def _now() -> int:
    return int(datetime.now(UTC).timestamp())


NOW = _now()
"""When the tests were read: what is tried long afterwards begins and ends by the moment in which it is made."""


def u64(number: int) -> bytes:
    """Eight bytes."""
    return number.to_bytes(8, "big")


def packed(*values: bytes) -> bytes:
    """SSH strings one after the other."""
    return b"".join(string(value) for value in values)


def plain(key: Ed25519PrivateKey) -> bytes:
    """The blob of a public key."""
    return packed(b"ssh-ed25519", key.public_key().public_bytes_raw())


@dataclass(kw_only=True)
class Forged:
    """The fields of a certificate in the order in which they stand."""

    point: bytes
    serial: int
    key_id: bytes
    principals: bytes
    kind: int = 1
    after: int = field(default_factory=lambda: _now() - 30)
    before: int = field(default_factory=lambda: _now() + 300)
    critical: bytes = b""
    extensions: bytes = field(default_factory=lambda: packed(b"permit-pty", b""))
    reserved: bytes = b""
    name: bytes = CERT_KIND
    ca_blob: bytes | None = None
    signature_name: bytes = b"ssh-ed25519"
    trailing: bytes = b""
    nonce: bytes = field(default_factory=lambda: os.urandom(32))

    def signed(self, ca: Ed25519PrivateKey) -> bytes:
        """The blob."""
        body = (
            packed(self.name, self.nonce, self.point)
            + u64(self.serial)
            + self.kind.to_bytes(4, "big")
            + packed(self.key_id, self.principals)
            + u64(self.after)
            + u64(self.before)
            + packed(self.critical, self.extensions, self.reserved, self.ca_blob or plain(ca))
        )
        return body + string(packed(self.signature_name, ca.sign(body))) + self.trailing
