"""Python imports this by itself at its start, where this folder is on PYTHONPATH: nothing of it is in the product.

Keys to which values are sealed exist in one process alone, so no test could look for one. Here each is made from bytes
that are written to the file KNOWN_AT first, 32 each; the buffer that they were in is zeroed.
"""

from __future__ import annotations

import os
from pathlib import Path

PLACE = os.environ.get("KNOWN_AT", "")

if PLACE:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    def generate() -> X25519PrivateKey:
        """As the real one, and told."""
        raw = bytearray(32)
        with Path("/dev/urandom").open("rb", buffering=0) as chance:
            chance.readinto(raw)
        made = X25519PrivateKey.from_private_bytes(raw)
        descriptor = os.open(PLACE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, raw)
        os.close(descriptor)
        raw[:] = bytes(32)
        return made

    X25519PrivateKey.generate = generate  # type: ignore[method-assign]
