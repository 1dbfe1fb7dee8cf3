"""Changing the root key in its file while brokers run (formats.md 3.2): three names, two of which hold both keys.

`root.key.next` is made and readable by everybody before it counts; one rename makes it `root.key`, and the old one has
its name `root.key.previous` before that. Killed at any step and run again, it goes on from there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.key_file import RootKeyFault, make_key_file, sync_directory
from broker.adapters.root_key import NEXT, PREVIOUS, RootKeys
from broker.adapters.vault import Roots
from broker.core.keymaterial import KEY_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFiles:
    """The root key file and its two neighbours."""

    path: Path
    owner: int
    """Uid that all of them belong to: this process's own."""

    @property
    def next(self) -> Path:
        return self.path.with_name(f"{self.path.name}.{NEXT}")

    @property
    def previous(self) -> Path:
        return self.path.with_name(f"{self.path.name}.{PREVIOUS}")

    def read(self) -> Roots:
        """All of them. Raises RootKeyFault, WeakKey."""
        return RootKeys(self.path, {}, owner=self.owner).read()

    def prepare(self) -> None:
        """Makes the next key, where there is none yet. Nothing seals with it."""
        if not os.path.lexists(self.next):
            make_key_file(self.next)
        self.read()  # whatever is wrong with any of them is wrong before anything changes

    def swap(self) -> None:
        """Makes the next key the primary one, and the primary one the previous.

        Raises:
            RootKeyFault: the change before this one was not finished.
        """
        before = self.read()
        if before.previous:
            raise RootKeyFault(f"{self.previous}: is still there, finish that change first: grantd vault retire-root")
        if not os.path.lexists(self.previous):  # there it is the primary one itself: killed between the two lines
            os.link(self.path, self.previous, follow_symlinks=False)
            sync_directory(self.path.parent)
        self.next.rename(self.path)
        sync_directory(self.path.parent)

    def forget(self) -> None:
        """Overwrites and removes the previous key. A copy of it elsewhere, and every backup, is not reached.

        Raises:
            RootKeyFault: there is none: what has its name is the primary one, in the middle of a change.
        """
        if not self.read().previous:
            raise RootKeyFault(f"{self.previous}: there is no former root key")
        descriptor = _writable(self.previous)
        try:
            os.pwrite(descriptor, bytes(KEY_BYTES), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.previous.unlink()
        sync_directory(self.path.parent)


def _writable(path: Path) -> int:
    # its own permission would stop its owner; a link to elsewhere must not be followed
    path.chmod(0o600)
    return os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
