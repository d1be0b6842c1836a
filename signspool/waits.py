"""Why something that is due does not begin: a file is not where it has to be yet, or on another machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, select

from processor.documents import outbox_item, outbox_query
from shared.db.models import OutboxRow, State, Task

_AT_ONCE = 500
"""Rows named in one statement, well below what any database takes."""


def reasons_to_wait(rows: Sequence[dict[str, Any]], among: Sequence[dict[str, Any]]) -> dict[int, str]:
    """The reasons of those rows that wait for one of the others, by id; rows as `outbox_item` gives them."""
    blocking: dict[tuple[str, str, str], dict[str, Any]] = {}
    for item in among:
        if item["state"] == State.DONE:
            continue
        # A fetch holds up the steps at every destination, a delivery those at its own.
        if item["task"] == Task.FETCH:
            blocking.setdefault(_place(item, ""), item)
        elif item["task"] == Task.DELIVER:
            blocking.setdefault(_place(item, item["destination"]), item)
    reasons = {}
    for row in filter(_is_due_step, rows):
        first = blocking.get(_place(row, "")) or blocking.get(_place(row, row["destination"]))
        if first is not None:
            said = f"; {row['last_error']}" if row["last_error"] else ""
            reasons[row["id"]] = f"waits for delivery {first['id']} ({first['state']}){said}"
    return reasons


def files_elsewhere(rows: Sequence[dict[str, Any]], spool_id: str) -> dict[int, str]:
    """The reasons of deliveries that only another machine can make, by id: their file lies there."""
    return {
        row["id"]: f"waits for the machine of spool {row['file_spool']}, where its file lies"
        for row in rows
        if row["state"] == State.DUE and row["file_spool"] not in (None, spool_id) and not row["last_error"]
    }


def _place(row: dict[str, Any], destination: str) -> tuple[str, str, str]:
    return row["provider"], row["document_id"], destination


def _is_due_step(row: dict[str, Any]) -> bool:
    return bool(row["task"] == Task.ADVANCE and row["state"] == State.DUE)


def what_may_block(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The unfinished fetches and deliveries of the documents whose workflow steps are among the rows."""
    return [
        outbox_item(row)
        for ids in _parts([row["id"] for row in rows if _is_due_step(row)])
        for row in connection.execute(
            outbox_query()
            .where(
                OutboxRow.document_fk.in_(select(OutboxRow.document_fk).where(OutboxRow.id.in_(ids))),
                OutboxRow.task.in_((Task.FETCH, Task.DELIVER)),
                OutboxRow.state != State.DONE,
            )
            .order_by(OutboxRow.id)
        ).mappings()
    ]


def _parts(ids: list[int]) -> Iterator[list[int]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
