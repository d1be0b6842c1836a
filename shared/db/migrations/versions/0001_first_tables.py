"""First tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import shared.db.models

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables to this version."""
    op.create_table(
        "documents",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("document_id", shared.db.models.ExactText(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("status_at", shared.db.models.Instant(timezone=True), nullable=True),
        sa.Column("created_at", shared.db.models.Instant(timezone=True), nullable=False),
        sa.Column("registered_at", shared.db.models.Instant(timezone=True), nullable=True),
        sa.Column("refs", sa.JSON(), nullable=False),
        sa.Column("dms", sa.JSON(), nullable=False),
        sa.Column("refs_version", sa.Integer(), nullable=False),
        sa.Column("learned", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        sa.UniqueConstraint("provider", "key", name=op.f("uq_documents_provider_key")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("document_fk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("receipt_id", sa.String(length=64), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("semantic_key", sa.String(length=64), nullable=True),
        sa.Column("action", shared.db.models.ExactText(), nullable=False),
        sa.Column("event_type", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("status_before", sa.String(length=16), nullable=False),
        sa.Column("status_after", sa.String(length=16), nullable=False),
        sa.Column("message", shared.db.models.ExactText(), nullable=False),
        sa.Column("received_at", shared.db.models.Instant(timezone=True), nullable=False),
        sa.Column("occurred_at", shared.db.models.Instant(timezone=True), nullable=True),
        sa.Column("recorded_at", shared.db.models.Instant(timezone=True), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("trust", sa.String(length=16), nullable=False),
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("spool_id", sa.String(length=64), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("name", shared.db.models.ExactText(), nullable=False),
        sa.Column("settled_at", shared.db.models.Instant(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_fk"], ["documents.id"], name=op.f("fk_events_document_fk"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("document_fk", "semantic_key", name=op.f("uq_events_document_fk_semantic_key")),
        sa.UniqueConstraint("receipt_id", "ordinal", name=op.f("uq_events_receipt_id_ordinal")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_document_fk"), ["document_fk"], unique=False)
        batch_op.create_index("ix_events_unsettled", ["spool_id", "settled_at", "id"], unique=False)

    op.create_table(
        "files",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("document_fk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("source", shared.db.models.ExactText(), nullable=False),
        sa.Column("name", shared.db.models.ExactText(), nullable=False),
        sa.Column("media_type", shared.db.models.ExactText(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("path", shared.db.models.ExactText(), nullable=False),
        sa.Column("spool_id", sa.String(length=64), nullable=False),
        sa.Column("fetched_at", shared.db.models.Instant(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_fk"], ["documents.id"], name=op.f("fk_files_document_fk"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
        sa.UniqueConstraint(
            "document_fk", "source", "sha256", name=op.f("uq_files_document_fk_source_sha256")
        ),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("task", sa.String(length=8), nullable=False),
        sa.Column("lane", sa.String(length=80), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("document_fk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("event_fk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("file_fk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", shared.db.models.Instant(timezone=True), nullable=False),
        sa.Column("lease_until", shared.db.models.Instant(timezone=True), nullable=True),
        sa.Column("leased_by", sa.String(length=64), nullable=False),
        sa.Column("sent_at", shared.db.models.Instant(timezone=True), nullable=True),
        sa.Column("last_error", shared.db.models.ExactText(), nullable=False),
        sa.Column("remote_reference", shared.db.models.ExactText(), nullable=False),
        sa.Column("created_at", shared.db.models.Instant(timezone=True), nullable=False),
        sa.Column("done_at", shared.db.models.Instant(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_fk"], ["documents.id"], name=op.f("fk_outbox_document_fk"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["event_fk"], ["events.id"], name=op.f("fk_outbox_event_fk"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["file_fk"], ["files.id"], name=op.f("fk_outbox_file_fk"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("key", name=op.f("uq_outbox_key")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index("ix_outbox_document", ["document_fk", "state"], unique=False)
        batch_op.create_index("ix_outbox_due", ["lane", "state", "next_attempt_at"], unique=False)
        batch_op.create_index("ix_outbox_event", ["event_fk", "state"], unique=False)


def downgrade() -> None:
    """Go back to the version before."""
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index("ix_outbox_event")
        batch_op.drop_index("ix_outbox_due")
        batch_op.drop_index("ix_outbox_document")

    op.drop_table("outbox")
    op.drop_table("files")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index("ix_events_unsettled")
        batch_op.drop_index(batch_op.f("ix_events_document_fk"))

    op.drop_table("events")
    op.drop_table("documents")
