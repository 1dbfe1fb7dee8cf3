"""The question before each signature: does the log continue the last head that was signed? Reads rows, signs nothing.

Sees a restored backup, a rollback, a fork and a cut tail (M11). What it cannot see, an edited entry under an unchanged
tree, every reader and the offline verifier see: the leaf is the hash of the entry.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from broker.adapters.audit_log import tree
from broker.adapters.audit_log.errors import LogForked
from broker.adapters.audit_log.tree import Head
from broker.adapters.store.schema import audit_checkpoint, audit_entry
from broker.core.ids import TenantId
from recorder.checkpoint import Checkpoint, parse_and_verify
from recorder.errors import NoteError, ProofError
from recorder.merkle import consistency_proof, verify_consistency


def newest_of(notes: list[bytes], vkey: str) -> Checkpoint | None:
    """The greatest of the kept heads, all of them checked. None only if there is none.

    Raises:
        LogForked: a kept head that this log's key did not sign.
    """
    try:
        heads = [parse_and_verify(note, [vkey]) for note in notes]
    except NoteError as error:
        raise LogForked("a kept head is not signed by this log's key") from error
    return max(heads, key=lambda head: head.size, default=None)


def continued(connection: Connection, tenant: TenantId, kept: Checkpoint | None, vkey: str) -> Head:
    """The committed head, proved to continue `kept`, or what other brokers published where this one kept none yet.

    Raises:
        LogForked: it does not, or heads were published and none is kept here.
        LogDamaged: the tree's rows contradict one another.
    """
    head = tree.head(connection, tenant)
    kept = kept or _published_by_others(connection, tenant, vkey)
    if kept is None:
        return head
    if head.size < kept.size:
        raise LogForked(f"the log has {head.size} rows, {kept.size} were signed")
    try:
        proof = consistency_proof(kept.size, head.size, tree.nodes(connection, tenant))
        verify_consistency(kept.size, head.size, proof, kept.root, head.root)
    except ProofError as error:
        raise LogForked(f"the log does not continue its head at {kept.size} rows") from error
    last = connection.execute(select(func.max(audit_entry.c.seq)).where(audit_entry.c.tenant == tenant)).scalar_one()
    if (-1 if last is None else last) != head.size - 1:
        raise LogForked(f"the last entries of {head.size} are missing")
    return head


def _published_by_others(connection: Connection, tenant: TenantId, vkey: str) -> Checkpoint | None:
    """The newest published head, for a broker that joins others. On SQLite there are none: what was kept is lost."""
    notes = select(audit_checkpoint.c.note).where(audit_checkpoint.c.tenant == tenant)
    note = connection.execute(notes.order_by(audit_checkpoint.c.size.desc()).limit(1)).scalar_one_or_none()
    if note is None or not bytes(note).startswith(vkey.split("+", maxsplit=1)[0].encode() + b"\n"):
        return None  # none at all, or none of this epoch
    if connection.dialect.name == "sqlite":
        raise LogForked("heads were published, and none of them is kept outside the database")
    return newest_of([bytes(note)], vkey)


def published_size(connection: Connection, tenant: TenantId) -> int | None:
    """The size of the newest checkpoint in the database."""
    newest = select(func.max(audit_checkpoint.c.size)).where(audit_checkpoint.c.tenant == tenant)
    size: int | None = connection.execute(newest).scalar_one()
    return size
