"""The key that signs the heads of the signer's journal. Signs nothing else, never leaves the process."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.signer.files import make
from broker.signer.keys import KeyFault, load_ed25519, pem
from recorder.checkpoint import Checkpoint, parse_and_verify, sign, vkey

ORIGIN = "grantd/signer/"
_ID_DIGITS = 16


class HeadKey:
    """An Ed25519 key, opened. Its log is named after it: no two signers have one name."""

    __slots__ = ("_private", "_public", "origin", "vkey")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._public = private.public_key().public_bytes_raw()
        self.origin = ORIGIN + hashlib.sha256(self._public).hexdigest()[:_ID_DIGITS]
        self.vkey = vkey(self.origin, self._public)

    @classmethod
    def of(cls, path: Path, *, new: bool) -> Self:
        """The key at `path`; made where there is none and the journal is `new`. Raises KeyFault, WeakKey, OSError."""
        if not path.exists():
            if not new:
                raise KeyFault(f"{path}: is gone, and the journal whose heads it signed is here")
            make(path, pem(Ed25519PrivateKey.generate()))
        return cls(load_ed25519(path, os.geteuid()))

    def __repr__(self) -> str:
        return f"HeadKey({self.origin})"

    def sign(self, head: Checkpoint) -> bytes:
        """The head as a signed note, checked."""
        return sign(head, public_key=self._public, signer=self._private.sign)

    def read(self, note: bytes) -> Checkpoint:
        """A head that this key signed. Raises NoteError."""
        return parse_and_verify(note, [self.vkey])
