"""Pulls of the kill switch that the database has not taken: a file each in a folder of the broker's own.

Written whole or not at all and durable before anybody is told (I-61). A file that cannot be read is a freeze of its
tenant: nobody lifts one by damaging it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from broker.core.clock import from_micros, micros
from broker.core.errors import StoreFault
from broker.core.ids import TenantId, is_tenant
from broker.service.ports import FreezeOrder

log = structlog.get_logger()
_EVERY: Final = "_all"
_SUFFIX: Final = ".json"
_FIELDS: Final = ("by", "name", "reason")
_FAILED: Final = "a freeze could not be kept on disk"


class FreezeFiles:
    """FreezeSpool over `folder`, which it makes (0700)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, order: FreezeOrder) -> None:
        content = {name: getattr(order, name) for name in _FIELDS} | {"v": 1, "at_us": micros(order.at)}
        path = self._path(order.tenant)
        beside = path.with_suffix(".new")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(content).encode())
                file.flush()
                os.fsync(file.fileno())
            beside.rename(path)
            self._settle()
        except OSError as error:
            raise StoreFault(_FAILED) from error

    def drop(self, tenant: TenantId | None) -> None:
        try:
            self._path(tenant).unlink(missing_ok=True)
            if self._folder.exists():
                self._settle()
        except OSError as error:
            raise StoreFault(_FAILED) from error

    def all(self) -> Sequence[FreezeOrder]:
        paths = sorted(self._folder.glob("*" + _SUFFIX)) if self._folder.exists() else []
        return [order for path in paths if (order := _order(path)) is not None]

    def _path(self, tenant: TenantId | None) -> Path:
        return self._folder / f"{tenant or _EVERY}{_SUFFIX}"

    def _settle(self) -> None:
        """The name is as durable as the content."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _order(path: Path) -> FreezeOrder | None:
    name = path.name.removesuffix(_SUFFIX)
    if name != _EVERY and not is_tenant(name):
        log.error("freeze.stray_file", file=path.name)
        return None
    tenant = None if name == _EVERY else TenantId(name)
    try:
        table = json.loads(path.read_bytes())
        by, who, reason = (str(table[field]) for field in _FIELDS)
        return FreezeOrder(tenant=tenant, by=by, name=who, reason=reason, at=from_micros(int(table["at_us"])))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        log.exception("freeze.unreadable_file", file=path.name)
        return FreezeOrder(tenant=tenant, by="unknown", name="", reason="its file cannot be read", at=_written_at(path))


def _written_at(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
    except OSError:
        return datetime.fromtimestamp(0, tz=UTC)
