"""The first tables, and row security on every one of them.

Revision ID: 0001
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None
branch_labels: Final = None
depends_on: Final = None

# Every table but `tenants`, as they are in this revision; a test compares them with what has row security.
TENANT_TABLES: Final = (
    "access_grant",
    "access_request",
    "action",
    "approval",
    "approval_spent",
    "audit_checkpoint",
    "audit_disclosure",
    "audit_entry",
    "audit_head",
    "audit_pending",
    "audit_tile",
    "credential",
    "freeze",
    "idempotency",
    "identity",
    "identity_team",
    "join_token",
    "outbox",
    "policy_version",
    "recording_key",
    "secret",
    "seen_nonce",
    "session",
    "subject_key",
    "target",
    "target_team",
    "team",
    "tenant_key",
)
OWN_ROWS: Final = "tenant = current_setting('grantd.tenant', true)"
"""Nothing announced is NULL or empty, and equals no tenant."""


def upgrade() -> None:
    _create_tables()
    if op.get_bind().dialect.name == "postgresql":
        _force_row_security()


def _force_row_security() -> None:
    """FORCE: the owner of the tables sees no more than the broker does (I-40)."""
    for table in ("tenants", *TENANT_TABLES):
        op.execute(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
        op.execute(f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY')
    for table in TENANT_TABLES:
        op.execute(f'CREATE POLICY own_rows ON "{table}" USING ({OWN_ROWS}) WITH CHECK ({OWN_ROWS})')
    # The names of tenants can be listed, so that the broker can serve each in turn; only the announced one can be made.
    op.execute("CREATE POLICY list_names ON tenants FOR SELECT USING (true)")
    op.execute(f"CREATE POLICY own_rows ON tenants FOR INSERT WITH CHECK ({OWN_ROWS})")


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first revision; restore a backup")


def _create_tables() -> None:
    op.create_table(
        "tenants",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_tenants")),
    )
    op.create_table(
        "approval_spent",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_approval_spent_tenant")),
        sa.PrimaryKeyConstraint("tenant", "subject", "subject_id", name=op.f("pk_approval_spent")),
    )
    op.create_table(
        "audit_checkpoint",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_audit_checkpoint_tenant")),
        sa.PrimaryKeyConstraint("tenant", "size", name=op.f("pk_audit_checkpoint")),
    )
    op.create_table(
        "audit_entry",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_audit_entry_tenant")),
        sa.PrimaryKeyConstraint("tenant", "seq", name=op.f("pk_audit_entry")),
    )
    op.create_table(
        "audit_head",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_audit_head_tenant")),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_pending",
        sa.Column("n", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("disclosures", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_audit_pending_tenant")),
        sa.PrimaryKeyConstraint("n", "tenant", name=op.f("pk_audit_pending")),
    )
    op.create_table(
        "audit_tile",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_audit_tile_tenant")),
        sa.PrimaryKeyConstraint("tenant", "level", "idx", name=op.f("pk_audit_tile")),
    )
    op.create_table(
        "freeze",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("frozen_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_freeze_tenant")),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_freeze")),
    )
    op.create_table(
        "identity",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("approval_keys", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "owner"], ["identity.tenant", "identity.id"], name=op.f("fk_identity_tenant_owner")
        ),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_identity_tenant")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_identity")),
        sa.UniqueConstraint("tenant", "key", name=op.f("uq_identity_tenant_key")),
        sa.UniqueConstraint("tenant", "kind", "name", name=op.f("uq_identity_tenant_kind_name")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_outbox_tenant")),
        sa.PrimaryKeyConstraint("id", "tenant", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_tenant_due_at"), "outbox", ["tenant", "due_at"])
    op.create_table(
        "policy_version",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("put_by", sa.Text(), nullable=False),
        sa.Column("put_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_policy_version_tenant")),
        sa.PrimaryKeyConstraint("tenant", "n", name=op.f("pk_policy_version")),
    )
    op.create_table(
        "recording_key",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("recording", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_recording_key_tenant")),
        sa.PrimaryKeyConstraint("tenant", "recording", name=op.f("pk_recording_key")),
    )
    op.create_table(
        "secret",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_secret_tenant")),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_secret")),
    )
    op.create_table(
        "seen_nonce",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_seen_nonce_tenant")),
        sa.PrimaryKeyConstraint("tenant", "purpose", "nonce", name=op.f("pk_seen_nonce")),
    )
    op.create_index(op.f("ix_seen_nonce_expires_at"), "seen_nonce", ["expires_at"])
    op.create_table(
        "subject_key",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_subject_key_tenant")),
        sa.PrimaryKeyConstraint("tenant", "subject", name=op.f("pk_subject_key")),
    )
    op.create_table(
        "target",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("host_key", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("logins", sa.Text(), nullable=False),
        sa.Column("seal_reads", sa.Boolean(), nullable=False),
        sa.Column("source_address", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_target_tenant")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_target")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_target_tenant_name")),
    )
    op.create_table(
        "team",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_team_tenant")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_team")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_team_tenant_name")),
    )
    op.create_table(
        "tenant_key",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("root_id", sa.Text(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.tenant"], name=op.f("fk_tenant_key_tenant")),
        sa.PrimaryKeyConstraint("tenant", "purpose", "version", name=op.f("pk_tenant_key")),
    )
    op.create_table(
        "access_request",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("identity_key", sa.LargeBinary(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("host_key", sa.LargeBinary(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("ceiling", sa.Text(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("ttl_us", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ticket", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("quorum", sa.Integer(), nullable=False),
        sa.Column("approver_roles", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("grant_id", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "identity"], ["identity.tenant", "identity.id"], name=op.f("fk_access_request_tenant_identity")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "requester"], ["identity.tenant", "identity.id"], name=op.f("fk_access_request_tenant_requester")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "target_id"], ["target.tenant", "target.id"], name=op.f("fk_access_request_tenant_target_id")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_access_request")),
    )
    op.create_index(op.f("ix_access_request_tenant_state_identity"), "access_request", ["tenant", "state", "identity"])
    op.create_table(
        "approval",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("key_fingerprint", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "person"], ["identity.tenant", "identity.id"], name=op.f("fk_approval_tenant_person")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_approval")),
        sa.UniqueConstraint(
            "tenant", "subject", "subject_id", "person", name=op.f("uq_approval_tenant_subject_subject_id_person")
        ),
    )
    op.create_table(
        "audit_disclosure",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("i", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "seq"], ["audit_entry.tenant", "audit_entry.seq"], name=op.f("fk_audit_disclosure_tenant_seq")
        ),
        sa.PrimaryKeyConstraint("tenant", "seq", "i", name=op.f("pk_audit_disclosure")),
    )
    op.create_index(op.f("ix_audit_disclosure_tenant_subject"), "audit_disclosure", ["tenant", "subject"])
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("made", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "identity"], ["identity.tenant", "identity.id"], name=op.f("fk_idempotency_tenant_identity")
        ),
        sa.PrimaryKeyConstraint("tenant", "identity", "method", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_at"), "idempotency", ["at"])
    op.create_table(
        "identity_team",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "identity"], ["identity.tenant", "identity.id"], name=op.f("fk_identity_team_tenant_identity")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "team"], ["team.tenant", "team.id"], name=op.f("fk_identity_team_tenant_team")
        ),
        sa.PrimaryKeyConstraint("tenant", "identity", "team", name=op.f("pk_identity_team")),
    )
    op.create_table(
        "join_token",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "identity"], ["identity.tenant", "identity.id"], name=op.f("fk_join_token_tenant_identity")
        ),
        sa.PrimaryKeyConstraint("tenant", "secret_sha256", name=op.f("pk_join_token")),
    )
    op.create_table(
        "target_team",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "target"], ["target.tenant", "target.id"], name=op.f("fk_target_team_tenant_target")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "team"], ["team.tenant", "team.id"], name=op.f("fk_target_team_tenant_team")
        ),
        sa.PrimaryKeyConstraint("tenant", "target", "team", name=op.f("pk_target_team")),
    )
    op.create_table(
        "access_grant",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("identity_key", sa.LargeBinary(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("host_key", sa.LargeBinary(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("ceiling", sa.Text(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("ttl_us", sa.BigInteger(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=False),
        sa.Column("must_start_by", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "identity"], ["identity.tenant", "identity.id"], name=op.f("fk_access_grant_tenant_identity")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "request_id"],
            ["access_request.tenant", "access_request.id"],
            name=op.f("fk_access_grant_tenant_request_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "requester"], ["identity.tenant", "identity.id"], name=op.f("fk_access_grant_tenant_requester")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "target_id"], ["target.tenant", "target.id"], name=op.f("fk_access_grant_tenant_target_id")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_access_grant")),
    )
    op.create_index(op.f("ix_access_grant_tenant_approved_at_id"), "access_grant", ["tenant", "approved_at", "id"])
    op.create_index(
        op.f("ix_access_grant_tenant_identity_approved_at_id"),
        "access_grant",
        ["tenant", "identity", "approved_at", "id"],
    )
    op.create_index(op.f("ix_access_grant_tenant_state"), "access_grant", ["tenant", "state"])
    op.create_table(
        "action",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("identity_key", sa.LargeBinary(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("host_key", sa.LargeBinary(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("command", sa.LargeBinary(), nullable=False),
        sa.Column("cwd", sa.Text(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("stdin_mode", sa.Text(), nullable=False),
        sa.Column("stdin_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("pty", sa.Boolean(), nullable=False),
        sa.Column("command_class", sa.Text(), nullable=False),
        sa.Column("opaque", sa.Boolean(), nullable=False),
        sa.Column("egress", sa.Boolean(), nullable=False),
        sa.Column("outlives", sa.Boolean(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("verification", sa.Text(), nullable=True),
        sa.Column("rollback", sa.Text(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("policy_version", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("quorum", sa.Integer(), nullable=False),
        sa.Column("approver_roles", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("exit_status", sa.Integer(), nullable=True),
        sa.Column("exit_signal", sa.Text(), nullable=True),
        sa.Column("exit_reason", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("action_key", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "grant_id"], ["access_grant.tenant", "access_grant.id"], name=op.f("fk_action_tenant_grant_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "identity"], ["identity.tenant", "identity.id"], name=op.f("fk_action_tenant_identity")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "request_id"],
            ["access_request.tenant", "access_request.id"],
            name=op.f("fk_action_tenant_request_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "requester"], ["identity.tenant", "identity.id"], name=op.f("fk_action_tenant_requester")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "target_id"], ["target.tenant", "target.id"], name=op.f("fk_action_tenant_target_id")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_action")),
    )
    op.create_index(op.f("ix_action_tenant_action_key"), "action", ["tenant", "action_key"])
    op.create_index(
        op.f("ix_action_tenant_grant_id_proposed_at_id"), "action", ["tenant", "grant_id", "proposed_at", "id"]
    )
    op.create_index(
        op.f("ix_action_tenant_identity_proposed_at_id"), "action", ["tenant", "identity", "proposed_at", "id"]
    )
    op.create_index(op.f("ix_action_tenant_proposed_at_id"), "action", ["tenant", "proposed_at", "id"])
    op.create_index(op.f("ix_action_tenant_state_grant_id"), "action", ["tenant", "state", "grant_id"])
    op.create_table(
        "credential",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "grant_id"],
            ["access_grant.tenant", "access_grant.id"],
            name=op.f("fk_credential_tenant_grant_id"),
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_credential")),
        sa.UniqueConstraint("tenant", "kind", "serial", name=op.f("uq_credential_tenant_kind_serial")),
    )
    op.create_table(
        "session",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("action_id", sa.Text(), nullable=True),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("recording", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.Column("recording_leaves", sa.BigInteger(), nullable=False),
        sa.Column("recording_root", sa.LargeBinary(), nullable=False),
        sa.Column("recording_state", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "action_id"], ["action.tenant", "action.id"], name=op.f("fk_session_tenant_action_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "grant_id"], ["access_grant.tenant", "access_grant.id"], name=op.f("fk_session_tenant_grant_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "identity"], ["identity.tenant", "identity.id"], name=op.f("fk_session_tenant_identity")
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "target_id"], ["target.tenant", "target.id"], name=op.f("fk_session_tenant_target_id")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_session")),
    )
    op.create_index(
        op.f("ix_session_tenant_identity_opened_at_id"), "session", ["tenant", "identity", "opened_at", "id"]
    )
    op.create_index(op.f("ix_session_tenant_opened_at_id"), "session", ["tenant", "opened_at", "id"])
    op.create_index(op.f("ix_session_tenant_state_grant_id"), "session", ["tenant", "state", "grant_id"])
