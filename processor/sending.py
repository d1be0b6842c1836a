"""Sends documents out for signature, once: what was, or may have been, sent is noted before and after."""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection, select, update

from processor import polls
from processor.converse import converse
from processor.documents import Registration, register
from processor.pieces import Composed
from processor.sender import Sender
from shared.clock import Clock
from shared.db.dialect import insert_missing
from shared.db.models import SendingRow, SendingState, document_key
from shared.db.session import Database
from shared.errors import (
    HeldError,
    LeaseLostError,
    NotSentError,
    SignspoolError,
    UnavailableError,
    UsageError,
)
from shared.providers import AnyProvider
from shared.providers._base import Answer, Order, OutgoingFile, Request, Sent

T = TypeVar("T")

_WHOLE_BYTES = 64 * 1024 * 1024
"""Most that is read into memory for a provider that needs the files whole."""
_PAUSE_SECONDS = 2.0
_LOST_STATUS = 408
"""The server gave up on our request; whether it had read it is not known."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of the caller's that is to be signed. `sha256` is in hexadecimal."""

    path: Path
    media_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Sending:
    """How a sending stands, fit for people. `redirect_url` is there when it was sent just now, and only then.

    `unnoted` says what the database does not know of it yet, and what to type; empty as a rule.
    """

    reference: str
    envelope_id: str
    documents: tuple[dict[str, Any], ...]
    redirect_url: str
    was_sent_before: bool
    unnoted: str = ""


def look_at(path: Path) -> LocalFile:
    """A file as it is now.

    Raises:
        UsageError: it cannot be read, or is empty.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    try:
        with path.open("rb") as file:
            while block := file.read(1024 * 1024):
                digest.update(block)
                size_bytes += len(block)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if not size_bytes:
        raise UsageError(f"{path} is empty")
    media_type, _ = mimetypes.guess_type(path.name)
    return LocalFile(path, media_type or "application/octet-stream", size_bytes, digest.hexdigest())


def make_order(
    provider: AnyProvider,
    files: Sequence[LocalFile],
    *,
    reference: str,
    title: str,
    signers: Sequence[BaseModel],
    options: BaseModel,
    return_url: str | None,
    metadata: Mapping[str, tuple[str, ...]],
) -> Order:
    """The order for a provider; the files are read if it needs them whole.

    Raises:
        UsageError: they are too large for that, or cannot be read.
    """
    whole = provider.sends_whole
    if whole and sum(file.size_bytes for file in files) > _WHOLE_BYTES:
        raise UsageError(f"the files are larger than {_WHOLE_BYTES} bytes together: send them separately")
    return Order(
        reference=reference,
        title=title,
        files=tuple(
            OutgoingFile(
                file.path.name,
                file.media_type,
                file.size_bytes,
                file.sha256,
                _content(file) if whole else b"",
            )
            for file in files
        ),
        signers=tuple(signers),
        options=options,
        return_url=return_url,
        metadata=metadata,
    )


def _content(file: LocalFile) -> bytes:
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise UsageError(f"{file.path} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise UsageError(f"{file.path} is being changed: send it when that is over")
    return content


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Sends orders to one provider. `dms` of an order's documents go into their registration."""

    provider: AnyProvider
    sender: Sender
    database: Database
    clock: Clock
    patience_seconds: float = 30.0
    """How long the database may be away once something was sent."""

    async def send(
        self, order: Order, files: Sequence[LocalFile], *, dms: Mapping[str, str], again: bool = False
    ) -> Sending:
        """Send an order, unless it was sent before under its reference.

        `again` sends even if an earlier attempt may have reached the provider: somebody looked there.

        Raises:
            UsageError: the order, or its reference, is none that can be used.
            HeldError: an earlier attempt, or this one, may have reached the provider.
            LeaseLostError: another process sends the same at this moment.
            SignspoolError: nothing was sent, or the provider wants none of it; the same may be tried again.
        """
        print_ = fingerprint(self.provider, order)
        row = await self._in_database(lambda connection: self._begin(connection, order, print_, again=again))
        if row.state == SendingState.SENT:
            await self._in_database(lambda connection: self._register_again(connection, row, dms))
            return Sending(order.reference, row.envelope_id, tuple(row.documents), "", was_sent_before=True)
        attempt = _Attempt(self, row.id, row.attempts, files)
        try:
            sent = await converse(self.provider.send(order), attempt.ask)
        except SignspoolError as error:
            raise await self._failed(attempt, error) from error
        documents = tuple(
            _document(document.document_id, document.file, order) for document in sent.documents
        )
        unnoted = await self._note(attempt, order, sent, documents, dms)
        return Sending(
            order.reference,
            sent.envelope_id,
            documents,
            sent.redirect_url,
            was_sent_before=False,
            unnoted=unnoted,
        )

    # What is noted

    def _begin(self, connection: Connection, order: Order, print_: str, *, again: bool) -> Any:
        """The row of an order, which this process alone may send now unless it was sent before."""
        name, key = self.provider.name, document_key(order.reference)
        insert_missing(
            connection,
            SendingRow,
            [
                {
                    "provider": name,
                    "reference_key": key,
                    "reference": order.reference,
                    "fingerprint": print_,
                    "title": order.title,
                    "state": SendingState.INTENDED,
                    "envelope_id": "",
                    "documents": [],
                    "last_error": "",
                    "attempts": 0,
                    "created_at": self.clock.now(),
                }
            ],
        )
        row = connection.execute(
            select(SendingRow.__table__)
            .where(SendingRow.provider == name, SendingRow.reference_key == key)
            .with_for_update()
        ).one()
        if row.state == SendingState.SENT:
            if row.fingerprint != print_:
                raise UsageError(
                    f"reference {order.reference!r} was used for another sending: choose another --reference"
                )
            return row
        if row.state == SendingState.UNKNOWN and not again:
            raise HeldError(
                f"reference {order.reference!r} was sent at {row.sent_at.isoformat(timespec='seconds')}, and "
                f"what became of it is unknown ({row.last_error or 'no answer came'}): look for it at "
                f"{self.provider.title}; if it is not there, send it with --again"
            )
        return connection.execute(
            update(SendingRow)
            .where(SendingRow.id == row.id)
            .values(
                state=SendingState.INTENDED,
                fingerprint=print_,
                title=order.title,
                attempts=SendingRow.attempts + 1,
                last_error="",
            )
            .returning(SendingRow.__table__)
        ).one()

    def _register_again(self, connection: Connection, row: Any, dms: Mapping[str, str]) -> None:
        """Say once more what the documents are filed under: who sent them may have died before saying so."""
        for document in row.documents:
            registration = Registration(self.provider.name, document["document_id"], {}, dms)
            register(connection, registration, self.clock.now(), {self.provider.name: self.provider})

    async def _failed(self, attempt: _Attempt, error: SignspoolError) -> SignspoolError:
        """Note a failure; returns the error that says how it stands now."""
        told: SignspoolError = error
        state = SendingState.REFUSED if attempt.status else SendingState.INTENDED
        if attempt.is_unknown(error):
            state = SendingState.UNKNOWN
            told = HeldError(
                f"sent, and the outcome is unknown: {error}. Look for it at {self.provider.title}; "
                "if it is not there, send it with --again"
            )
        try:
            await self._set(attempt, state, str(error))
        except UnavailableError as lost:
            return HeldError(f"{told} (and the database could not note it: {lost})")
        return told

    async def _note(
        self,
        attempt: _Attempt,
        order: Order,
        sent: Sent,
        documents: tuple[dict[str, Any], ...],
        dms: Mapping[str, str],
    ) -> str:
        """Note what the provider made of an order; returns why that was not possible, empty when it was.

        It is there, and the caller has to hear of it, whatever becomes of our database.
        """
        name = self.provider.name

        def act(connection: Connection) -> None:
            now = self.clock.now()
            connection.execute(
                update(SendingRow)
                .where(SendingRow.id == attempt.row_id)
                .values(
                    state=SendingState.SENT,
                    envelope_id=sent.envelope_id,
                    documents=list(documents),
                    answered_at=now,
                    last_error="",
                )
            )
            for document in sent.documents:
                registration = Registration(name, document.document_id, document.references, dms)
                register(connection, registration, now, {name: self.provider})
            polls.begin(connection, name, sent.asks, now)

        try:
            await self._patiently(act)
        except UnavailableError as error:
            return (
                f"it was sent, but the database does not know of it: {error}. Register each document with: "
                f"signspool documents register {name} ID"
            )
        if dms and not sent.documents:
            return (
                "it was sent, but its documents are not known yet, and so have no DMS references: register "
                f"each when it is: signspool documents register {name} ID --dms NAME=VALUE"
            )
        return ""

    async def _set(self, attempt: _Attempt, state: SendingState, error: str) -> None:
        await self._patiently(
            lambda connection: connection.execute(
                update(SendingRow)
                .where(SendingRow.id == attempt.row_id, SendingRow.attempts == attempt.number)
                .values(state=state, last_error=error)
            )
        )

    async def mark_sent(self, attempt: _Attempt) -> None:
        """Note that from now on the provider may have made something of it.

        Raises:
            LeaseLostError: another process sends the same.
        """

        def act(connection: Connection) -> None:
            changed = connection.execute(
                update(SendingRow)
                .where(
                    SendingRow.id == attempt.row_id,
                    SendingRow.attempts == attempt.number,
                    SendingRow.state == SendingState.INTENDED,
                )
                .values(state=SendingState.UNKNOWN, sent_at=self.clock.now())
            )
            if not changed.rowcount:
                raise LeaseLostError("another process sends the same at this moment: this one sent nothing")

        await self._in_database(act)

    async def _patiently(self, act: Callable[[Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience_seconds
        while True:
            try:
                return await self._in_database(act)
            except UnavailableError:
                if loop.time() + _PAUSE_SECONDS > deadline:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _in_database(self, act: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.database.transaction() as connection:
                return act(connection)

        return await asyncio.to_thread(run)


class _Attempt:
    """One try to send: knows whether the request that has the effect left, and how it was answered."""

    def __init__(self, dispatch: Dispatch, row_id: int, number: int, files: Sequence[LocalFile]) -> None:
        self._dispatch = dispatch
        self._files = files
        self.row_id = row_id
        self.number = number
        self.was_sent = False
        self.status = 0
        """HTTP status of the answer to that request; 0 before there is one."""

    async def ask(self, request: Request) -> Answer:
        """Send one request of the conversation."""
        content: bytes | Composed | None
        headers = dict(request.headers)
        if isinstance(request.content, tuple):
            content = Composed(request.content, self._files)
            headers["Content-Length"] = str(content.size_bytes)
            if request.content_md5:
                headers["Content-MD5"] = await content.md5()
        else:
            content = request.content
        if request.effect:
            if self.was_sent:
                raise HeldError("the request that has the effect would be sent twice: report this")
            await self._dispatch.mark_sent(self)
            self.was_sent = True
        answer = await self._dispatch.sender.send(
            request.method, request.url, headers=headers, content=content
        )
        if request.effect:
            self.status = answer.status
        return answer

    def is_unknown(self, error: SignspoolError) -> bool:
        """Whether the provider may have made something of it, although this went wrong."""
        if not self.was_sent:
            return False
        if not self.status:
            return not isinstance(error, NotSentError)
        refused = 400 <= self.status < 500 and self.status != _LOST_STATUS
        return not refused


def fingerprint(provider: AnyProvider, order: Order) -> str:
    """A digest of all that is ordered, to tell a repeat from another sending under the same reference."""
    said = {
        "provider": provider.name,
        "title": order.title,
        "files": [(file.name, file.sha256) for file in order.files],
        "signers": [signer.model_dump(mode="json") for signer in order.signers],
        "options": order.options.model_dump(mode="json"),
        "return_url": order.return_url,
        "metadata": {name: list(values) for name, values in order.metadata.items()},
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _document(document_id: str, file: int | None, order: Order) -> dict[str, Any]:
    return {"document_id": document_id, "file": None if file is None else order.files[file].name}


def unknown_sendings(connection: Connection) -> list[dict[str, Any]]:
    """What may have been sent, and nobody knows: for `signspool check`."""
    rows = connection.execute(
        select(SendingRow.provider, SendingRow.reference, SendingRow.sent_at, SendingRow.last_error)
        .where(SendingRow.state == SendingState.UNKNOWN)
        .order_by(SendingRow.id)
    )
    return [dict(row) for row in rows.mappings()]
