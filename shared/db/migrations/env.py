"""Runs migrations on the connection that `Database.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from shared.db.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    # SQLite changes a table by copying it.
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
