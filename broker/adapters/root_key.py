"""The root keys: read from exactly one kind of place, refused where they are weak or others can see them (I-54).

One is primary; beside it may stand the one that it replaced and the one that will replace it. Never falls back from one
place to another, never prints a key, never leaves one in the environment.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

import structlog

from broker.adapters.key_file import RootKeyFault, make_key_file, read_key_file
from broker.adapters.vault import Roots, SealingKey
from broker.adapters.xaes import Key, zero
from broker.core.errors import Fault
from broker.core.keymaterial import must_be_strong

__all__ = ["CREDENTIAL", "ENVIRONMENT", "NEXT", "PREVIOUS", "RootKeyFault", "RootKeys", "make_root_key", "root_id"]

ENVIRONMENT: Final = "GRANTD_ROOT_KEY"
"""64 hex digits. For development: the environment of a process is no place for a key."""
ENVIRONMENT_PREVIOUS: Final = "GRANTD_ROOT_KEY_PREVIOUS"
CREDENTIAL: Final = "grantd-root"
NEXT: Final = "next"
PREVIOUS: Final = "previous"
"""Names of the two others: files `root.key.next` and `root.key.previous`, credentials `grantd-root-next` and so on."""
_ROOT = 0
_OWN_ALONE, _NOT_THE_WORLD = 0o077, 0o007

log = structlog.get_logger()
make_root_key = make_key_file


class RootKeys:
    """Where this process's root keys are. Read at the start, and again while it runs: files may be replaced."""

    def __init__(self, path: Path | None, environ: MutableMapping[str, str], *, owner: int) -> None:
        """Finds the one kind of place that has them: `path`, systemd credentials, or the environment.

        Args:
            path: the configured file, belonging to `owner`; None where none is configured.
            environ: os.environ; the keys are removed from it whatever happens.
            owner: this process's uid.

        Raises:
            RootKeyFault: no place, or more than one.
            WeakKey: one in the environment is not 32 bytes, or constant, counted, sampled or published ones.
        """
        given = {name: environ.pop(name, None) for name in (ENVIRONMENT, ENVIRONMENT_PREVIOUS)}
        credential = _credential(environ)
        if sum(place is not None for place in (path, credential, given[ENVIRONMENT])) > 1:
            raise RootKeyFault("more than one root key is configured (file, credential, environment): keep one")
        self._path, self._credential, self._owner = path, credential, owner
        self._held = None if given[ENVIRONMENT] is None else _from_environment(given)

    def read(self) -> Roots:
        """The root keys as they lie there now.

        Raises:
            RootKeyFault: there is none, or a file that others can read, write or replace.
            WeakKey: not 32 bytes, or constant, counted, sampled or published ones.
        """
        if self._held is not None:
            return self._held
        if self._path is not None:
            return self._beside(self._path, ".", owners={self._owner}, others=_OWN_ALONE)
        if self._credential is not None:
            # systemd hands credentials over read-only, from root, to one uid by an access list that shows as group bits
            return self._beside(self._credential, "-", owners={self._owner, _ROOT}, others=_NOT_THE_WORLD)
        raise RootKeyFault("there is no root key: run `grantd init`, or configure where it is")

    def _beside(self, path: Path, joint: str, *, owners: set[int], others: int) -> Roots:
        def one(place: Path) -> SealingKey:
            return _sealing(read_key_file(place, owners=owners, others=others), place)

        def side(name: str) -> tuple[SealingKey, ...]:
            place = path.with_name(f"{path.name}{joint}{name}")
            return (one(place),) if os.path.lexists(place) else ()

        # in this order a change of files between the looks shows a key twice, and never not at all: the new one is
        # moved from `next` to the first place, the old one has its name `previous` before it loses the first place
        coming, primary, previous = side(NEXT), one(path), side(PREVIOUS)
        return _apart(primary, previous, coming)


def root_id(key: bytes | bytearray) -> str:
    """The id of a root key, which stands in every blob that it wraps: the wrong key is named at once, never tried."""
    digest = hashlib.sha256(b"grantd/root-id/v1")
    digest.update(key)  # apart, so that no joined copy of the key is made
    return f"rk_{digest.hexdigest()[:16]}"


def _apart(primary: SealingKey, previous: tuple[SealingKey, ...], coming: tuple[SealingKey, ...]) -> Roots:
    """A key that stands in two places, in the middle of a change, is what the first of them says."""
    return Roots(
        primary=primary,
        previous=tuple(key for key in previous if key.id != primary.id),
        coming=tuple(key for key in coming if key.id != primary.id),
    )


def _sealing(material: bytearray, place: object) -> SealingKey:
    try:
        must_be_strong(material)
    except Fault as fault:
        zero(material)
        raise type(fault)(f"{place}: {fault.what}") from None
    return SealingKey(root_id(material), Key(material))


def _credential(environ: MutableMapping[str, str]) -> Path | None:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    found = Path(directory) / CREDENTIAL if directory else None
    return found if found is not None and found.exists() else None


def _from_environment(given: MutableMapping[str, str | None]) -> Roots:
    log.warning("vault.root_key_in_environment", advice="for development only: use a file or a systemd credential")
    made = {name: _sealing(_from_hex(name, text), name) for name, text in given.items() if text is not None}
    previous = made.get(ENVIRONMENT_PREVIOUS)
    return _apart(made[ENVIRONMENT], (previous,) if previous is not None else (), ())


def _from_hex(name: str, text: str) -> bytearray:
    try:
        return bytearray.fromhex(text)
    except ValueError as error:
        raise RootKeyFault(f"{name} must be 64 hex digits") from error
