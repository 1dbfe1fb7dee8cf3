"""The root key: made once, read from exactly one place, refused when it is weak or others can see it (I-54).

Never falls back from one place to another, never prints it, never leaves it in the environment.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

import structlog

from broker.adapters.vault import SealingKey
from broker.adapters.xaes import Key, zero
from broker.core.errors import Fault
from broker.core.keymaterial import KEY_BYTES, must_be_strong

ENVIRONMENT: Final = "GRANTD_ROOT_KEY"
"""64 hex digits. For development: the environment of a process is no place for a key."""
CREDENTIAL: Final = "grantd-root"
_ROOT = 0

log = structlog.get_logger()


class RootKeyFault(Fault):
    """There is no root key to start with, or not one to trust. The message names the place, never the key."""


def make_root_key(path: Path) -> None:
    """Writes 32 random bytes to `path`, mode 0400, in its own private directory. Never overwrites.

    Raises:
        RootKeyFault: something is already there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    except FileExistsError as error:
        raise RootKeyFault(f"{path}: is already there, a root key is never overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(KEY_BYTES))
        file.flush()
        os.fsync(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load_root_key(path: Path | None, environ: MutableMapping[str, str], *, owner: int) -> SealingKey:
    """The root key from the one place that has it: `path`, a systemd credential, or the environment.

    Args:
        path: the configured file, belonging to `owner`; None where none is configured.
        environ: os.environ; GRANTD_ROOT_KEY is removed from it whatever happens.
        owner: this process's uid.

    Raises:
        RootKeyFault: no place, more than one, or a file that others can read.
        WeakKey: not 32 bytes, or constant, counted or published ones.
    """
    from_environment = environ.pop(ENVIRONMENT, None)
    credential = _credential(environ)
    places = [place for place in (path, credential, from_environment) if place is not None]
    if len(places) > 1:
        raise RootKeyFault("more than one root key is configured (file, credential, environment): keep one")
    if path is not None:
        return _sealing(_read(path, owners={owner}, others=0o077))
    if credential is not None:
        # systemd hands credentials over read-only, from root, to one uid by an access list that shows as group bits
        return _sealing(_read(credential, owners={owner, _ROOT}, others=0o007))
    if from_environment is not None:
        log.warning("vault.root_key_in_environment", advice="for development only: use a file or a systemd credential")
        return _sealing(_from_hex(from_environment))
    raise RootKeyFault("there is no root key: run `grantd init`, or configure where it is")


def root_id(key: bytes | bytearray) -> str:
    """The id of a root key, which stands in every blob that it wraps: the wrong key is named at once, never tried."""
    digest = hashlib.sha256(b"grantd/root-id/v1")
    digest.update(key)  # apart, so that no joined copy of the key is made
    return f"rk_{digest.hexdigest()[:16]}"


def _sealing(material: bytearray) -> SealingKey:
    try:
        must_be_strong(material)
    except Fault:
        zero(material)
        raise
    return SealingKey(root_id(material), Key(material))


def _credential(environ: MutableMapping[str, str]) -> Path | None:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    found = Path(directory) / CREDENTIAL if directory else None
    return found if found is not None and found.exists() else None


def _from_hex(text: str) -> bytearray:
    try:
        return bytearray.fromhex(text)
    except ValueError as error:
        raise RootKeyFault(f"{ENVIRONMENT} must be 64 hex digits") from error


def _read(path: Path, *, owners: set[int], others: int) -> bytearray:
    try:
        # not blocking: a pipe in the place of a key must not hold up the start
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RootKeyFault(f"{path}: the root key cannot be opened") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in owners:
            raise RootKeyFault(f"{path}: the root key must be a file of this process's own user")
        if stat.S_IMODE(found.st_mode) & others:
            raise RootKeyFault(f"{path}: others may read the root key, chmod 0400 it")
        if found.st_size != KEY_BYTES:
            raise RootKeyFault(f"{path}: the root key must have exactly {KEY_BYTES} bytes")
        material = bytearray(KEY_BYTES)
        os.readv(descriptor, [material])
        return material
    finally:
        os.close(descriptor)
