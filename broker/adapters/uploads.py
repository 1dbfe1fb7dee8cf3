"""The key that a value is sealed to on its way in: one a process, in memory alone, gone with it.

So a value passes TLS, gRPC and the protobuf runtime only sealed; here it is in one buffer that is zeroed (I-51).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from broker.adapters.xaes import zero
from broker.core.errors import conflict, invalid
from broker.core.hpke import HpkeError, open_into


class UploadKey:
    """ports.Uploads."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()

    def public_key(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    @contextmanager
    def opened(self, upload_key: bytes, sealed: bytes, info: bytes) -> Iterator[bytearray]:
        if upload_key != self.public_key():
            raise conflict("upload_key_gone", "the value was sealed to a key of another process", "seal it again")
        try:
            value = open_into(self._private, sealed, info)
        except HpkeError as error:
            raise invalid(
                "bad_upload", "the value does not open", "seal it to the upload key, for this name"
            ) from error
        try:
            yield value
        finally:
            zero(value)
