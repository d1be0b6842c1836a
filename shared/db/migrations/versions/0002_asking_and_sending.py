"""Asking providers, sending out for signature, and what a confirmation needs to know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import shared.db.models

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text() -> shared.db.models.ExactText:
    return shared.db.models.ExactText()


def _instant() -> shared.db.models.Instant:
    return shared.db.models.Instant(timezone=True)


def upgrade() -> None:
    """Bring the tables to this version."""
    op.add_column("outbox", sa.Column("details", sa.JSON(), server_default="{}", nullable=False))
    op.create_table(
        "polls",
        sa.Column("id", _ID, nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("subject", _text(), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.Column("next_at", _instant(), nullable=True),
        sa.Column("asked_at", _instant(), nullable=True),
        sa.Column("expires_at", _instant(), nullable=True),
        sa.Column("wishes", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("note", _text(), nullable=False),
        sa.Column("lease_until", _instant(), nullable=True),
        sa.Column("leased_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", _instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_polls")),
        sa.UniqueConstraint("provider", "key", name=op.f("uq_polls_provider_key")),
    )
    op.create_index("ix_polls_due", "polls", ["provider", "next_at"], unique=False)
    op.create_table(
        "sendings",
        sa.Column("id", _ID, nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("reference_key", sa.Text(), nullable=False),
        sa.Column("reference", _text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("title", _text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("envelope_id", _text(), nullable=False),
        sa.Column("documents", sa.JSON(), nullable=False),
        sa.Column("last_error", _text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", _instant(), nullable=False),
        sa.Column("sent_at", _instant(), nullable=True),
        sa.Column("answered_at", _instant(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sendings")),
        sa.UniqueConstraint("provider", "reference_key", name=op.f("uq_sendings_provider_reference_key")),
    )
    op.create_table(
        "calls",
        sa.Column("id", _ID, nullable=False),
        sa.Column("account", sa.String(length=80), nullable=False),
        sa.Column("span", sa.String(length=8), nullable=False),
        sa.Column("begins_at", _instant(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
        sa.UniqueConstraint("account", "span", "begins_at", name=op.f("uq_calls_account_span_begins_at")),
    )


def downgrade() -> None:
    """Go back to the version before."""
    op.drop_table("calls")
    op.drop_table("sendings")
    op.drop_index("ix_polls_due", table_name="polls")
    op.drop_table("polls")
    with op.batch_alter_table("outbox") as batch:
        batch.drop_column("details")
