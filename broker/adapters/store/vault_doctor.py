"""Holds what lies in the vault of one tenant against the keys and against the audit log. Changes nothing.

A writer of the database can put an old row back, with its old version: the seal holds, since it was real once. The log
pins each secret's newest blob (`secret.updated`) and each key that was destroyed, so the two disagree (formats.md 3.1).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select

from broker.adapters.store.keys import KeyRowsSql
from broker.adapters.store.schema import audit_entry, audit_pending, recording_key, secret, tenant_key
from broker.adapters.vault import Vault
from broker.core.errors import Fault
from broker.core.ids import RecordingId, TenantId
from broker.service.ports import Finding
from recorder.codes import BY_NAME

_UPDATED: Final = BY_NAME["secret.updated"].code
_DELETED: Final = BY_NAME["secret.deleted"].code
_DESTROYED: Final = BY_NAME["key.destroyed"].code
_SHREDDED: Final = BY_NAME["key.shredded"].code
_TOLD: Final = tuple(code.encode() for code in (_UPDATED, _DELETED, _DESTROYED, _SHREDDED))
_SAMPLE: Final = 1_000
"""Recording keys that are tried; each costs 20 microseconds, and there may be millions."""


@dataclass(slots=True)
class _Said:
    """What the log says there is."""

    blobs: dict[str, tuple[int, str] | None] = field(default_factory=dict)
    """Digest of a secret's name -> (version, SHA-256 of its blob); None once it was deleted."""
    destroyed: set[tuple[str, int]] = field(default_factory=set)
    shredded: bool = False


def examine(conn: Connection, tenant: TenantId, vault: Vault) -> list[Finding]:
    """What is right and what is wrong, in one consistent view."""
    said = _said(conn, tenant)
    return [*_keys(conn, tenant, vault, said), *_secrets(conn, tenant, vault, said), *_recordings(conn, tenant, vault)]


def _keys(conn: Connection, tenant: TenantId, vault: Vault, said: _Said) -> Iterator[Finding]:
    rows = conn.execute(select(tenant_key).where(tenant_key.c.tenant == tenant)).all()
    for root_id, count in sorted(Counter(row.root_id for row in rows).items()):
        known = vault.roots.of_id(root_id) is not None
        advice = "" if known else "its root key is not among those that can be read here"
        yield _found(f"{count} key(s) under root key {root_id}", advice)
    for row in rows:
        if (row.purpose, row.version) in said.destroyed or said.shredded:
            yield _found(
                f"key {row.purpose} {row.version}", "the audit log says that it was destroyed: it was put back"
            )


def _secrets(conn: Connection, tenant: TenantId, vault: Vault, said: _Said) -> Iterator[Finding]:
    rows = conn.execute(select(secret).where(secret.c.tenant == tenant)).all()
    keys, wrong, seen = KeyRowsSql(conn, tenant, vault), 0, set()
    for row in rows:
        name = hashlib.sha256(row.name.encode()).hexdigest()
        seen.add(name)
        advice = _against(said.blobs.get(name), row, known=name in said.blobs) or _opens(
            lambda row=row: keys.use_secret(row.name, bool)
        )
        if advice:
            wrong += 1
            yield _found(f"secret {row.name} version {row.version}", advice)
    for name in sorted(n for n, held in said.blobs.items() if held is not None and n not in seen and not said.shredded):
        wrong += 1
        yield _found(f"secret {name[:16]}...", "the audit log knows it, and its row is gone")
    if not wrong:
        yield _found(f"{len(rows)} secret(s) open and are what the audit log says", "")


def _recordings(conn: Connection, tenant: TenantId, vault: Vault) -> Iterator[Finding]:
    keys = KeyRowsSql(conn, tenant, vault)
    newest = select(recording_key.c.recording).where(recording_key.c.tenant == tenant).limit(_SAMPLE)
    names = list(conn.execute(newest).scalars())
    broken = [name for name in names if _opens(lambda name=name: keys.recording_key(RecordingId(name)))]
    yield _found(f"{len(names)} recording key(s) tried", f"{len(broken)} do not open" if broken else "")


def _against(told: tuple[int, str] | None, row: Any, *, known: bool) -> str:  # noqa: ANN401  a row
    """What is wrong with a row, by the log; empty where nothing is."""
    if not known:
        return ""  # older than the entries that pin blobs
    if told is None:
        return "the audit log says that it was deleted: it was put back"
    version, digest = told
    if (row.version, hashlib.sha256(row.blob).hexdigest()) == (version, digest):
        return ""
    return f"is not the newest: the audit log says version {version}, sealed as {digest[:16]}..."


def _opens(use: Any) -> str:  # noqa: ANN401  whatever it gives, it gives
    try:
        use()
    except Fault as fault:
        return fault.what
    return ""


def _said(conn: Connection, tenant: TenantId) -> _Said:
    """Walks the log once, and what waits for its place in it."""
    said = _Said()
    placed = select(audit_entry.c.entry).where(audit_entry.c.tenant == tenant).order_by(audit_entry.c.seq)
    waiting = select(audit_pending.c.entry).where(audit_pending.c.tenant == tenant).order_by(audit_pending.c.n)
    for rows in (placed, waiting):
        for entry in conn.execute(rows, execution_options={"yield_per": _SAMPLE}).scalars():
            data = bytes(entry)
            if any(code in data for code in _TOLD):
                _learn(said, json.loads(data))
    return said


def _learn(said: _Said, entry: dict[str, Any]) -> None:
    match entry["code"]:
        case code if code == _UPDATED:
            said.blobs[entry["secret"]] = (int(entry["version"]), str(entry["blob"]))
        case code if code == _DELETED:
            said.blobs[entry["secret"]] = None
        case code if code == _DESTROYED:
            said.destroyed.add((str(entry["purpose"]), int(entry["version"])))
        case code if code == _SHREDDED:
            said.shredded = True
        case _:
            pass


def _found(what: str, advice: str) -> Finding:
    return Finding(ok=not advice, what=f"{what}: {advice}" if advice else what, advice=advice)
