"""Secrets by the SDK: values that go in sealed and come out sealed, in buffers that can be zeroed.

Python and its libraries copy what they are given, so this reduces exposure: no `str` or `bytes` is made of a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from grantd.errors import GrantdError, Invalid
from grantd.hpke import HpkeError, open_into, seal
from grantd.records import pae
from grantd.v1 import access_pb2, vault_pb2

GONE: Final = "upload_key_gone"
"""The broker's code for: another process answers now."""


class Opening:
    """One checkout: the key that a value comes back sealed to, and what it is bound to."""

    def __init__(self, *, tenant: str, grant_id: str) -> None:
        self._key = X25519PrivateKey.generate()
        self._tenant, self._grant = tenant, grant_id

    def request(self) -> access_pb2.IssueCredentialRequest:
        """What asks for the value."""
        return access_pb2.IssueCredentialRequest(
            grant_id=self._grant,
            kind=access_pb2.CREDENTIAL_KIND_SECRET,
            secret=access_pb2.SecretWish(public_key=self._key.public_key().public_bytes_raw()),
        )

    def open(self, answer: access_pb2.IssueCredentialResponse) -> bytearray:
        """The value; `zero` it after use. Raises Invalid where it is not what was asked for."""
        parts = (self._tenant, self._grant, answer.credential_id)
        info = pae(b"grantd/secret/checkout/v1", *(part.encode() for part in parts))
        try:
            return open_into(self._key, answer.secret.sealed, info)
        except HpkeError as error:
            raise Invalid("bad_secret", "the broker's answer is not sealed to this call") from error


def sealed(
    value: bytearray, upload: vault_pb2.GetUploadKeyResponse, *, tenant: str, person_id: str, name: str, replaces: int
) -> vault_pb2.PutSecretRequest:
    """What puts a value. Raises Invalid where the broker's key is none."""
    info = pae(b"grantd/secret/put/v1", tenant.encode(), person_id.encode(), name.encode())
    try:
        blob = seal(upload.public_key, value, info)
    except HpkeError as error:
        raise Invalid("bad_upload_key", "the broker's key to seal to is none") from error
    return vault_pb2.PutSecretRequest(name=name, upload_key=upload.public_key, sealed=blob, replaces=replaces)


def again_if_gone(attempt: Callable[[], vault_pb2.PutSecretResponse]) -> vault_pb2.PutSecretResponse:
    """Once more where the broker's process changed between its key and the value."""
    try:
        return attempt()
    except GrantdError as refused:
        if refused.code != GONE:
            raise
        return attempt()


def zero(value: bytearray) -> None:
    """Overwrites every byte in place."""
    value[:] = bytes(len(value))
