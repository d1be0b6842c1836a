"""Shows the demo while it runs: a picture that changes on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shared.db.models import State, Task
from shared.events import DocumentStatus, Origin
from shared.spool import Folder
from signspool.demo.hand import View
from signspool.demo.values import DocumentFact, Look, Name, Sent, short
from signspool.output import say

_STYLES = {
    DocumentStatus.COMPLETED: "green",
    DocumentStatus.PENDING: "yellow",
    DocumentStatus.EXPIRED: "red",
    DocumentStatus.DELETED: "red",
    DocumentStatus.DECLINED: "red",
}
_LINES_BESIDE_CALLS = 8
_FEWEST_CALLS = 3
_CALL_WIDTH, _ANSWER_WIDTH = 43, 3
_NAME_WIDTH, _STATUS_WIDTH = 16, 9


class Silence:
    """Shows nothing, for programs."""

    def sent(self, sent: Sent) -> None:
        """Nothing."""

    def looked(self, look: Look) -> None:
        """Nothing."""

    def said(self, text: str) -> None:
        """Nothing."""


class Lines:
    """A line for each callback, each change of a status, and each delivery."""

    def __init__(self) -> None:
        self._known: dict[Name, DocumentFact] = {}

    def sent(self, sent: Sent) -> None:
        """The callback and its answer."""
        note = f"  ({sent.note})" if sent.note else ""
        say(f"callback  {_call_text(sent)} -> {sent.status}{note}")

    def looked(self, look: Look) -> None:
        """What is another than at the last look."""
        for document in look.documents:
            before = self._known.get(document.name)
            name = short(document.name)
            if document.events and (before is None or before.status != document.status):
                say(f"status    {name}: {document.status}")
            for step in (_done(document) - (_done(before) if before else Counter())).elements():
                say(f"delivery  {name}: {step}")
            self._known[document.name] = document

    def said(self, text: str) -> None:
        """The text."""
        say(f"note      {text}")


class Picture:
    """A table of documents that changes in place, the last callbacks, and what lies in the folders."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._sent: list[Sent] = []
        self._look: Look | None = None
        self._note = ""

    def sent(self, sent: Sent) -> None:
        """One more callback in the list."""
        self._sent.append(sent)
        self._draw()

    def looked(self, look: Look) -> None:
        """New states for the table."""
        self._look = look
        self._draw()

    def said(self, text: str) -> None:
        """The line below all."""
        self._note = text
        self._draw()

    def _draw(self) -> None:
        documents = self._look.documents if self._look is not None else ()
        room = max(_FEWEST_CALLS, self._live.console.height - len(documents) - _LINES_BESIDE_CALLS)
        parts = [self._calls(room), self._documents(documents)]
        self._live.update(Group(*parts, self._folders(), Text(self._note, style="dim")))

    def _calls(self, room: int) -> Table:
        table = _table(f"callbacks, {len(self._sent)} answered", _CALL_WIDTH, _ANSWER_WIDTH)
        for sent in self._sent[-room:]:
            style = "green" if sent.status == 200 else "red"
            table.add_row(
                Text(_call_text(sent)), Text(str(sent.status), style=style), Text(sent.note, style="dim")
            )
        return table

    def _documents(self, documents: tuple[DocumentFact, ...]) -> Table:
        table = _table("documents", _NAME_WIDTH, _STATUS_WIDTH)
        for document in documents:
            status = Text(document.status, style=_STYLES.get(DocumentStatus(document.status), ""))
            table.add_row(short(document.name), status, Text(_doing(document)))
        return table

    def _folders(self) -> Text:
        counts = self._look.counts if self._look is not None else {}
        return Text("  ".join(f"{folder}/ {counts.get(folder, 0)}" for folder in Folder))


@contextmanager
def picture() -> Iterator[View]:
    """A picture on this terminal; it is gone at the end, when the tables come."""
    with Live(console=Console(), transient=True, refresh_per_second=12) as live:
        yield Picture(live)


def history_text(document: DocumentFact) -> str:
    """A document's history in short: `COMPLETED applied, FAILED applied (asked)`."""
    pieces: list[tuple[str, str, int]] = []
    for event in document.events:
        asked = " (asked)" if event.origin == Origin.POLL else ""
        said = event.action, event.outcome + asked
        action, outcome, times = pieces[-1] if pieces else ("", "", 0)
        if (action, outcome) == said:
            pieces[-1] = action, outcome, times + 1
        else:
            pieces.append((*said, 1))
    return ", ".join(
        f"{action} {outcome}" + (f" {times}x" if times > 1 else "") for action, outcome, times in pieces
    )


def _table(title: str, *widths: int) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.title, table.title_justify, table.title_style = title, "left", "bold"
    for least in widths:
        table.add_column(no_wrap=True, overflow="ellipsis", min_width=least)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def _call_text(sent: Sent) -> str:
    return f"{short((sent.provider, sent.document_id))} {sent.action or '(no action)'}"


def _done(document: DocumentFact) -> Counter[str]:
    """What was done of what is owed, in words, in the order in which it came to be owed."""
    words = {
        Task.DELIVER: "signed file delivered to {}",
        Task.ADVANCE: "workflow advanced in {}",
        Task.FETCH: "signed files fetched from {}",
        Task.MIRROR: "{} told",
        Task.CONFIRM: "confirmed to {}",
    }
    return Counter(
        words[Task(row.task)].format(row.destination) for row in document.owed if row.state == State.DONE
    )


def _doing(document: DocumentFact) -> str:
    """What is going on with a document, in a few words."""
    if (reason := document.waiting) is not None:
        return f"waits: {reason}"
    due = [row for row in document.owed if row.state == State.DUE]
    failing = next((row for row in due if row.reason), None)
    if failing is not None:
        return f"{failing.task} {failing.destination}, attempt {failing.attempts} failed: {failing.reason}"
    if due:
        return f"{due[0].task} {due[0].destination} ..."
    delivered = sum(row.task == Task.DELIVER for row in document.owed)
    return f"{history_text(document)}" + (f"; {delivered} deliveries" if delivered else "")
