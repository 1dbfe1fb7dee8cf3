"""What the settings stand for before there is a house: limits, places and names, the vault, the rows under it.

Also for the commands at the broker's host, which open the store beside a running broker.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from broker.adapters.root_key import RootKeys
from broker.adapters.server_identity import hosts_of
from broker.adapters.store.audit import AuditRowsSql
from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.tx import RowSource
from broker.adapters.vault import Vault
from broker.config import Settings
from broker.core.ids import TenantId
from broker.service.ports import Entropy
from broker.service.world import Limits, Places


def limits_of(settings: Settings) -> Limits:
    """Of this process."""
    given = settings.limits
    return Limits(
        sessions_per_grant=given.sessions_per_grant,
        sessions_per_process=given.sessions_per_process,
        max_output_bytes=given.max_output_mib << 20,
    )


def places_of(settings: Settings) -> Places:
    """Where clients are told to go; no port is 0 (`with_ports`)."""
    return Places(
        grpc=settings.grpc.told(),
        join=settings.join.told(),
        freeze=settings.freeze.told(),
        gateway=settings.ssh.told(),
        gateway_names=(settings.ssh.told_host(), *settings.ssh.names),
    )


def names_of(settings: Settings) -> tuple[str, ...]:
    """The names in the broker's TLS certificate."""
    told = (settings.grpc.told_host(), settings.join.told_host(), settings.freeze.told_host())
    bound = (settings.grpc.host, settings.join.host, settings.freeze.host)
    return hosts_of(*told, *bound, *settings.server_names)


def rows_over(vault: Vault, *, broker: str, entropy: Entropy, noted: Callable[[TenantId], None]) -> RowSource:
    """Keys under this vault, and entries of the log whose values they seal. `noted`: as AuditRowsSql takes it."""

    def keys(conn: Connection, tenant: TenantId) -> KeyRowsSql:
        return KeyRowsSql(conn, tenant, vault)

    def audit(conn: Connection, tenant: TenantId) -> AuditRowsSql:
        return AuditRowsSql(
            connection=conn, tenant=tenant, broker=broker, entropy=entropy, sealer=keys(conn, tenant), noted=noted
        )

    return RowSource(keys=keys, audit=audit)


def open_vault(settings: Settings) -> Vault:
    """The vault under the configured root keys. Raises RootKeyFault, WeakKey."""
    keys = RootKeys(_root_key(settings), os.environ, owner=os.geteuid())
    return Vault(keys.read(), read=keys.read)


def _root_key(settings: Settings) -> Path | None:
    """The configured file, else the default one if it is there; else a credential or the environment must have it."""
    if settings.root_key is not None:
        return settings.root_key
    return settings.root_key_file if settings.root_key_file.exists() else None


def with_ports(settings: Settings) -> Settings:
    """Port 0 becomes a free port now: clients are told real ones before anything listens."""
    changed = {
        name: address.model_copy(update={"port": _free_port(address.host)})
        for name in ("grpc", "join", "ssh", "metrics", "freeze")
        if not (address := getattr(settings, name)).port
    }
    return settings.model_copy(update=changed)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
