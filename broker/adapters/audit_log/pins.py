"""Signed heads kept outside the database: what the broker itself holds against a restored or rewritten log (M11, I-32).

Files: `<folder>/<tenant>/latest`, `<folder>/<tenant>/<size>` at most one a minute (the history an operator copies
elsewhere), `<folder>/<tenant>/vkey`; `<folder>/<tenant>/epoch` once a log was begun anew, with what was kept before in
`<folder>/<tenant>/e<n>`. Never judges a note: the guard does. All calls block on the disk.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from broker.core.ids import SYSTEM_TENANT, TenantId, is_tenant

_LATEST: Final = "latest"
_VKEY: Final = "vkey"
_EPOCH: Final = "epoch"
_HISTORY_S: Final = 60  # seconds between two kept sizes: a busy log signs every second, for years
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class Pins:
    """The folder of heads, 0700; made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept_s: dict[TenantId, int] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def tenants(self) -> list[TenantId]:
        """Every log that ever had a head here, also if the database has forgotten its tenant."""
        names = sorted(path.name for path in self._folder.iterdir() if path.is_dir())
        return [TenantId(name) for name in names if is_tenant(name) or name == SYSTEM_TENANT]

    def newest(self, tenant: TenantId) -> list[bytes]:
        """The candidates for the newest note: `latest` and the greatest size. Empty if there never was one."""
        folder = self._folder / tenant
        if not folder.is_dir():
            return []
        aside = folder / f"e{self.epoch(tenant) - 1}"
        present = [path.name for path in _heads(folder) if not _is_in(aside, path)]
        sizes = [name for name in present if _SIZE.fullmatch(name)]
        names = [_LATEST] if _LATEST in present else []
        names += [max(sizes, key=int)] if sizes else []
        return [(folder / name).read_bytes() for name in names]

    def epoch(self, tenant: TenantId) -> int:
        """How often the log was begun anew after a restore; 0 for most."""
        path = self._folder / tenant / _EPOCH
        return int(path.read_text(encoding="ascii")) if path.exists() else 0

    def begin_epoch(self, tenant: TenantId) -> int:
        """Lays the heads of the present epoch aside, in `e<n>`, and begins the next; returns its number.

        The number is the one step that counts. Stopped before it, every head is where it was, the log as broken as
        before; stopped after it, what is still to be removed is known by lying in `e<n>` as well.
        """
        folder, epoch = self._folder / tenant, self.epoch(tenant)
        aside = folder / f"e{epoch}"
        aside.mkdir(mode=0o700, exist_ok=True)
        heads = _heads(folder)
        for path in heads:
            (aside / path.name).unlink(missing_ok=True)
            os.link(path, aside / path.name)
        _sync_folder(aside)
        put(folder / _EPOCH, b"%d\n" % (epoch + 1))
        _sync_folder(folder)
        for path in heads:
            path.unlink()
        _sync_folder(folder)
        self._kept_s.pop(tenant, None)
        return epoch + 1

    def keep(self, tenant: TenantId, note: bytes, *, size: int, at_s: int) -> None:
        """Durable when this returns. OSError when the disk says no: then the head must not be published."""
        folder = self._folder / tenant
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            _sync_folder(self._folder)
        if at_s - self._kept_s.get(tenant, -_HISTORY_S) >= _HISTORY_S:
            put(folder / str(size), note)
            self._kept_s[tenant] = at_s
        put(folder / _LATEST, note)
        _sync_folder(folder)

    def keep_vkey(self, tenant: TenantId, vkey: str) -> None:
        """The verifier key beside the heads, so that one copy of the folder can be checked anywhere."""
        folder = self._folder / tenant
        wanted = vkey.encode() + b"\n"
        if not (folder / _VKEY).exists() or (folder / _VKEY).read_bytes() != wanted:
            folder.mkdir(mode=0o700, exist_ok=True)
            put(folder / _VKEY, wanted)
            _sync_folder(folder)


def put(path: Path, data: bytes) -> None:
    """Replace the file whole: a reader sees the old bytes or the new ones, also after a power cut."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor, opened with our own flags
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)


def _heads(folder: Path) -> list[Path]:
    """The heads and the key beside them; not what an earlier epoch left in its own folder."""
    return [path for path in folder.iterdir() if path.name in (_LATEST, _VKEY) or _SIZE.fullmatch(path.name)]


def _is_in(aside: Path, path: Path) -> bool:
    """Whether it is the very file that was laid aside: its removal was cut short."""
    other = aside / path.name
    return other.exists() and other.samefile(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
