"""When a document's personal data was erased, and when its history was dropped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import shared.db.models

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = ("erased_at", "history_dropped_at")


def upgrade() -> None:
    """Bring the tables to this version."""
    for name in _COLUMNS:
        op.add_column("documents", sa.Column(name, shared.db.models.Instant(timezone=True), nullable=True))


def downgrade() -> None:
    """Bring the tables back to the version before."""
    for name in _COLUMNS:
        op.drop_column("documents", name)
