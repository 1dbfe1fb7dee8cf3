"""Every table of grantd: the tenant in every primary and foreign key (I-40), a data class on every column (I-55).

Only describes: rows are written by the modules beside it, changes go through `versions/`. Two pointers are deliberately
no foreign keys, because their other end already points back: access_request.grant_id and action.session_id.
"""

from __future__ import annotations

from sqlalchemy import ForeignKeyConstraint, Index, Table

from broker.adapters.store.columns import (
    BIG,
    BYTES,
    FLAG,
    INT,
    TEXT,
    key,
    metadata,
    number,
    of_tenant,
    p0,
    p1,
    p2,
    refers,
    tenant,
    unique,
)

__all__ = ["metadata"]

tenants = Table("tenants", metadata, tenant(), p2("created_at", BIG))
"""Which tenants there are, and nothing about them: the one table that is listed across tenants."""

# ---- directory ------------------------------------------------------------------------------------------------------
identity = Table(
    "identity",
    metadata,
    tenant(),
    key("id"),
    p2("kind", TEXT),
    p1("name", TEXT),
    p2("role", TEXT),
    p2("owner", TEXT, nullable=True),
    p2("status", TEXT),
    p1("key", BYTES, nullable=True),  # NULL until enrolled, so that many can wait
    p1("approval_keys", TEXT),
    p2("created_at", BIG),
    of_tenant(),
    refers("owner", "identity"),
    unique("kind", "name"),
    unique("key"),
)
team = Table("team", metadata, tenant(), key("id"), p1("name", TEXT), of_tenant(), unique("name"))
identity_team = Table(
    "identity_team",
    metadata,
    tenant(),
    key("identity"),
    key("team"),
    refers("identity", "identity"),
    refers("team", "team"),
)
join_token = Table(
    "join_token",
    metadata,
    tenant(),
    p0("secret_sha256", BYTES, primary_key=True),  # the hash alone (I-53)
    p2("identity", TEXT),
    p2("expires_at", BIG),
    refers("identity", "identity"),
)
target = Table(
    "target",
    metadata,
    tenant(),
    key("id"),
    p1("name", TEXT),
    p1("host", TEXT),
    p2("port", INT),
    p1("host_key", TEXT),
    p2("tier", TEXT),
    p1("labels", TEXT),
    p1("logins", TEXT),
    p2("seal_reads", FLAG),
    p1("source_address", TEXT),
    p2("created_at", BIG),
    p2("kind", TEXT),
    p1("settings", TEXT),
    of_tenant(),
    unique("name"),
)
target_team = Table(
    "target_team",
    metadata,
    tenant(),
    key("target"),
    key("team"),
    refers("target", "target"),
    refers("team", "team"),
)

# ---- access ---------------------------------------------------------------------------------------------------------
access_request = Table(
    "access_request",
    metadata,
    tenant(),
    key("id"),
    p2("requester", TEXT),
    p2("identity", TEXT),
    p1("identity_key", BYTES),
    p2("target_id", TEXT),
    p1("host_key", BYTES),
    p1("login", TEXT),
    p2("ceiling", TEXT),
    p2("flags", TEXT),
    p2("ttl_us", BIG),
    p1("reason", TEXT),
    p1("ticket", TEXT),
    p1("evidence", TEXT),
    p2("policy_version", TEXT),
    p2("nonce", BYTES),
    p2("quorum", INT),
    p2("approver_roles", TEXT),
    p2("state", TEXT),
    p2("created_at", BIG),
    p2("expires_at", BIG),
    p2("grant_id", TEXT, nullable=True),
    p1("note", TEXT),
    refers("requester", "identity"),
    refers("identity", "identity"),
    refers("target_id", "target"),
    Index(None, "tenant", "state", "identity"),
)
access_grant = Table(
    "access_grant",
    metadata,
    tenant(),
    key("id"),
    p2("request_id", TEXT),
    p2("requester", TEXT),
    p2("identity", TEXT),
    p1("identity_key", BYTES),
    p2("target_id", TEXT),
    p1("host_key", BYTES),
    p1("login", TEXT),
    p2("ceiling", TEXT),
    p2("flags", TEXT),
    p2("ttl_us", BIG),
    p2("tier", TEXT),
    p2("state", TEXT),
    p2("approved_at", BIG),
    p2("must_start_by", BIG),
    p2("not_after", BIG, nullable=True),
    p2("ended_at", BIG, nullable=True),
    p2("end_reason", TEXT, nullable=True),
    p2("ended_by", TEXT),
    p2("ends_at", BIG, nullable=True),  # while it is live: when it ends as things stand
    refers("request_id", "access_request"),
    refers("requester", "identity"),
    refers("identity", "identity"),
    refers("target_id", "target"),
    Index(None, "tenant", "state"),
    Index(None, "tenant", "ends_at", "id"),
    Index(None, "tenant", "ended_at"),
    Index(None, "tenant", "identity", "approved_at", "id"),
    Index(None, "tenant", "approved_at", "id"),
)
credential = Table(
    "credential",
    metadata,
    tenant(),
    key("id"),
    p2("grant_id", TEXT),
    p2("kind", TEXT),
    p2("serial", TEXT),
    p1("key", BYTES),
    p2("issued_at", BIG),
    p2("not_after", BIG),
    p2("state", TEXT),
    p2("ended_at", BIG, nullable=True),
    refers("grant_id", "access_grant"),
    unique("kind", "serial"),
    Index(None, "tenant", "state", "grant_id"),
    Index(None, "tenant", "grant_id", "kind"),
)

# ---- actions --------------------------------------------------------------------------------------------------------
action = Table(
    "action",
    metadata,
    tenant(),
    key("id"),
    p2("grant_id", TEXT),
    p2("request_id", TEXT),
    p2("requester", TEXT),
    p2("identity", TEXT),
    p1("identity_key", BYTES),
    p2("target_id", TEXT),
    p1("host_key", BYTES),
    p1("login", TEXT),
    p1("command", BYTES),
    p1("cwd", TEXT),
    p1("env", TEXT),
    p2("stdin_mode", TEXT),
    p1("stdin_sha256", BYTES),
    p2("pty", FLAG),
    p2("command_class", TEXT),
    p2("opaque", FLAG),
    p2("egress", FLAG),
    p2("outlives", FLAG),
    p2("tier", TEXT),
    p1("verification", TEXT, nullable=True),
    p1("rollback", TEXT),
    p2("not_after", BIG),
    p2("policy_version", TEXT),
    p2("nonce", BYTES),
    p1("reason", TEXT),
    p2("quorum", INT),
    p2("approver_roles", TEXT),
    p2("state", TEXT),
    p2("proposed_at", BIG),
    p2("expires_at", BIG),
    p2("session_id", TEXT, nullable=True),
    p2("exit_status", INT, nullable=True),
    p2("exit_signal", TEXT, nullable=True),  # NULL while there is no outcome, empty in one without a signal
    p2("exit_reason", TEXT, nullable=True),
    p1("note", TEXT),
    p1("action_key", BYTES),  # merges retries, cools down denials
    refers("grant_id", "access_grant"),
    refers("request_id", "access_request"),
    refers("requester", "identity"),
    refers("identity", "identity"),
    refers("target_id", "target"),
    Index(None, "tenant", "state", "grant_id"),
    Index(None, "tenant", "action_key"),
    Index(None, "tenant", "grant_id", "proposed_at", "id"),
    Index(None, "tenant", "identity", "proposed_at", "id"),
    Index(None, "tenant", "proposed_at", "id"),
)
approval = Table(
    "approval",
    metadata,
    tenant(),
    key("id"),
    p2("subject", TEXT),
    p2("subject_id", TEXT),
    p2("digest", BYTES),
    p2("person", TEXT),
    p2("role", TEXT),
    p2("verdict", TEXT),
    p1("signature", BYTES),
    p1("key_fingerprint", TEXT),
    p2("at", BIG),
    p1("note", TEXT),
    refers("person", "identity"),
    unique("subject", "subject_id", "person"),
)
approval_spent = Table("approval_spent", metadata, tenant(), key("subject"), key("subject_id"), of_tenant())
"""The one use of whatever approvals a subject has: its own row, so that a late yes cannot make a second one (I-63)."""

session = Table(
    "session",
    metadata,
    tenant(),
    key("id"),
    p2("grant_id", TEXT),
    p2("action_id", TEXT, nullable=True),
    p2("identity", TEXT),
    p2("target_id", TEXT),
    p1("login", TEXT),
    p2("kind", TEXT),
    p2("door", TEXT),
    p2("recording", TEXT),
    p2("state", TEXT),
    p2("opened_at", BIG),
    p2("closed_at", BIG, nullable=True),
    p2("end_reason", TEXT),
    p2("recording_leaves", BIG),
    p2("recording_root", BYTES),
    p2("recording_state", TEXT),
    refers("grant_id", "access_grant"),
    refers("action_id", "action"),
    refers("identity", "identity"),
    refers("target_id", "target"),
    Index(None, "tenant", "state", "grant_id"),
    Index(None, "tenant", "identity", "opened_at", "id"),
    Index(None, "tenant", "opened_at", "id"),
)

# ---- rules and once-only --------------------------------------------------------------------------------------------
policy_version = Table(
    "policy_version",
    metadata,
    tenant(),
    key("n", BIG),  # the highest is current: an older version can be put again
    p2("version", TEXT),
    p2("sources", TEXT),
    p2("put_by", TEXT),
    p2("put_at", BIG),
    of_tenant(),
)
freeze = Table("freeze", metadata, tenant(), p2("frozen_by", TEXT), p1("reason", TEXT), p2("at", BIG), of_tenant())
idempotency = Table(
    "idempotency",
    metadata,
    tenant(),
    key("identity"),
    key("method"),
    key("key"),
    p2("request_sha256", BYTES),
    p2("made", TEXT),
    p2("at", BIG),
    refers("identity", "identity"),
    Index(None, "at"),
)
seen_nonce = Table(
    "seen_nonce",
    metadata,
    tenant(),
    key("purpose"),
    key("nonce", BYTES),
    p2("expires_at", BIG),
    of_tenant(),
    Index(None, "expires_at"),
)
outbox = Table(
    "outbox",
    metadata,
    number("outbox", "id"),
    tenant(),
    p2("kind", TEXT),
    p2("subject", TEXT),
    p2("attempts", INT),
    p2("due_at", BIG),
    p2("why", TEXT, nullable=True),  # the last failure, and since when it fails
    p2("failing_since", BIG, nullable=True),
    of_tenant(),
    Index(None, "tenant", "due_at"),
    Index(None, "tenant", "kind", "subject"),
)

# ---- audit (formats.md 2.2) -----------------------------------------------------------------------------------------
audit_pending = Table(
    "audit_pending",
    metadata,
    number("audit_pending", "n"),
    tenant(),
    p2("id", TEXT),
    p2("entry", BYTES),  # the exact leaf: opaque facts and salted digests
    p1("disclosures", BYTES),  # sealed under their subjects' keys
    p2("at", BIG),
    of_tenant(),
)
"""Finished entries waiting for the sequencer, in the order of `n`; written in the transaction they report (I-31)."""
audit_entry = Table("audit_entry", metadata, tenant(), key("seq", BIG), p2("entry", BYTES), of_tenant())
"""The log: `seq` is the leaf's index."""
audit_disclosure = Table(
    "audit_disclosure",
    metadata,
    tenant(),
    key("seq", BIG),
    key("i", INT),
    p2("subject", TEXT),
    p1("blob", BYTES),
    ForeignKeyConstraint(["tenant", "seq"], ["audit_entry.tenant", "audit_entry.seq"]),
    Index(None, "tenant", "subject"),
)
audit_head = Table(
    "audit_head", metadata, tenant(), p2("size", BIG), p2("frontier", BYTES), p2("root", BYTES), of_tenant()
)
audit_tile = Table(
    "audit_tile",
    metadata,
    tenant(),
    key("level", INT),
    key("idx", BIG),
    p2("width", INT),
    p2("data", BYTES),
    of_tenant(),
)
audit_checkpoint = Table(
    "audit_checkpoint", metadata, tenant(), key("size", BIG), p2("note", BYTES), p2("at", BIG), of_tenant()
)

# ---- keys (formats.md 3.1): every blob is sealed --------------------------------------------------------------------
tenant_key = Table(
    "tenant_key",
    metadata,
    tenant(),
    key("purpose"),
    key("version", INT),
    p2("root_id", TEXT),
    p0("blob", BYTES),
    of_tenant(),
)
subject_key = Table(
    "subject_key", metadata, tenant(), key("subject"), p2("key_id", TEXT), p0("blob", BYTES), of_tenant()
)
recording_key = Table(
    "recording_key", metadata, tenant(), key("recording"), p2("key_id", TEXT), p0("blob", BYTES), of_tenant()
)
secret = Table("secret", metadata, tenant(), key("name"), p2("version", INT), p0("blob", BYTES), of_tenant())
ended_key = Table("ended_key", metadata, tenant(), key("key_id"), p2("at", BIG), of_tenant())
"""Ids of keys that nothing is ever sealed under again: a root key that was replaced, or `tk` for all of a tenant's."""

# ---- secrets that are checked out -----------------------------------------------------------------------------------
secret_version = Table(
    "secret_version",
    metadata,
    tenant(),
    key("name"),
    key("version", INT),
    p2("put_by", TEXT),
    p2("put_at", BIG),
    refers("put_by", "identity"),
)
"""When each value of a secret was put, and by whom; the newest one alone is kept, in `secret`."""
secret_checkout = Table(
    "secret_checkout",
    metadata,
    tenant(),
    key("credential_id"),
    p2("grant_id", TEXT),
    p1("name", TEXT),
    p2("version", INT),
    p2("at", BIG),
    p2("ended_at", BIG, nullable=True),
    refers("credential_id", "credential"),
    refers("grant_id", "access_grant"),
    unique("grant_id"),
    Index(None, "tenant", "name", "version"),
)
"""Who holds which value; one a grant. A value whose checkout ended is due to be changed: it cannot be un-known."""

# ---- break-glass ----------------------------------------------------------------------------------------------------
break_glass = Table(
    "break_glass",
    metadata,
    tenant(),
    key("id"),
    p2("person", TEXT),
    p2("target_id", TEXT),
    p1("login", TEXT),
    p2("ceiling", TEXT),
    p2("key", TEXT),
    p2("until", BIG),
    p2("made_by", TEXT),
    p2("made_at", BIG),
    p2("used_at", BIG, nullable=True),
    p2("request_id", TEXT, nullable=True),
    p2("use", BYTES),
    p2("signature", BYTES),
    p2("reviewed_by", TEXT, nullable=True),
    p2("reviewed_at", BIG, nullable=True),
    refers("person", "identity"),
    refers("target_id", "target"),
    refers("made_by", "identity"),
    unique("request_id"),
)
"""Sealed credentials: their public halves, the one use of each, and who looked at it afterwards."""
