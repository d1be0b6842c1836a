"""The company's own table: one statement of theirs, executed whenever a document's status changes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, bindparam, text
from sqlalchemy.exc import SQLAlchemyError

from shared.db.session import Database
from shared.errors import DatabaseUnavailableError, TransientError


class Mirror:
    """Tells another database of status changes.

    A change may be told twice (after a crash in between), never out of order; so the statement should be one
    that does no harm when repeated.
    """

    def __init__(self, url: str, statement: str) -> None:
        self._database = Database(url, is_ours=False)
        parsed = text(statement)
        self._names = frozenset(parsed.compile().params)
        # With its type, so that every database is handed an instant in its own manner.
        instant = bindparam("occurred_at", type_=DateTime(timezone=True))
        self._statement = parsed.bindparams(instant) if "occurred_at" in self._names else parsed

    def tell(
        self, *, provider: str, document_id: str, status: str, action: str, occurred_at: datetime
    ) -> None:
        """Execute the statement in a transaction of its own.

        Raises:
            TransientError: that database does not answer, or refuses the statement.
        """
        values = {
            "provider": provider,
            "document_id": document_id,
            "status": status,
            "action": action,
            "occurred_at": occurred_at,
        }
        try:
            with self._database.transaction() as connection:
                connection.execute(
                    self._statement, {name: value for name, value in values.items() if name in self._names}
                )
        except DatabaseUnavailableError as error:
            # Theirs, not ours: it is tried again like any other peer that is away.
            raise TransientError(f"the company's database: {error}") from error
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or type(error).__name__).partition("\n")[0]
            raise TransientError(f"the company table refuses the statement: {said[:200]}") from error

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
