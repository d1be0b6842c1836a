"""Sending out for signature: once for each reference; what may have arrived is not sent again by itself."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from sqlalchemy import Connection, select, update

from processor import polls
from processor.outside import Outside
from processor.sending import Dispatch, LocalFile, Sending, look_at, make_order, unknown_sendings
from shared.db.models import SendingRow, SendingState
from shared.db.session import Database
from shared.errors import (
    DatabaseUnavailableError,
    HeldError,
    LeaseLostError,
    NotSentError,
    PermanentError,
    TransientError,
    UsageError,
)
from shared.events import EventType, Trust
from shared.providers._base import (
    Ask,
    Callback,
    DocumentView,
    FileContent,
    Head,
    Order,
    Proof,
    Provider,
    ProviderSettings,
    Request,
    SendOptions,
    Sent,
    SentDocument,
    SignedFiles,
    Steps,
    answered_object,
    expect_success,
)
from tests.processor.conftest import Workshop

NAME = "sending"
ORIGIN = "https://sending.test:443"
# Longer than one piece that is read at a time, and no multiple of three.
CONTENT = bytes(range(256)) * 1000 + b"!"


class SendingProvider(Provider[ProviderSettings]):
    """Asks for a token, sends one JSON with the files in base64, then reads what was made of it."""

    title = "Sending"
    number = 79
    event_types: ClassVar[Mapping[str, EventType]] = {}
    Settings = ProviderSettings
    Options = SendOptions

    def why_closed(self) -> str | None:
        return None

    def authenticate(self, callback: Callback) -> Proof:
        return Proof(Trust.OPEN)

    def callback_id(self, callback: Callback) -> Head:
        return Head("1", "x")

    @property
    def origins(self) -> frozenset[str]:
        return frozenset({ORIGIN})

    def signed_file(self, document: DocumentView) -> SignedFiles:
        yield from ()
        return []

    def send(self, order: Order) -> Steps[Sent]:
        expect_success((yield Request("GET", f"{ORIGIN}/token")), "the token")
        pieces: list[bytes | FileContent] = [b'{"files": [']
        for place in range(len(order.files)):
            pieces += [b'"' if place == 0 else b', "', FileContent(place, "base64"), b'"']
        answer = yield Request("POST", f"{ORIGIN}/send", content=(*pieces, b"]}"), effect=True)
        expect_success(answer, "sending")
        made = answered_object(answer, "sending")
        return Sent(
            str(made["id"]),
            (SentDocument(f"{made['id']}-1", 0),),
            redirect_url="https://sending.test/sign?ticket=s3cret",
            asks=(Ask(str(made["id"])),),
        )


Answering = Callable[[httpx.Request], httpx.Response]


@dataclass
class Counter:
    """Sends through a transport of the test's own."""

    workshop: Workshop
    file: LocalFile
    answering: Answering
    bodies: list[bytes] = field(default_factory=list)
    database: Database | None = None
    during: Callable[[], Awaitable[None]] | None = None

    def send(self, reference: str = "r1", *, title: str = "Contract", again: bool = False) -> Sending:
        return asyncio.run(self.sending(reference, title=title, again=again))

    async def sending(self, reference: str, *, title: str = "Contract", again: bool = False) -> Sending:
        async def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/token":
                return httpx.Response(200, json={})
            body = await request.aread()
            assert int(request.headers["content-length"]) == len(body)
            self.bodies.append(body)
            if self.during is not None:
                await self.during()
            return self.answering(request)

        outside = Outside(
            "Sending",
            origins=frozenset({ORIGIN}),
            connect_timeout_seconds=60,
            read_timeout_seconds=60,
            total_timeout_seconds=120,
            transport=httpx.MockTransport(answer),
        )
        provider = SendingProvider(NAME, ProviderSettings())
        order = make_order(
            provider,
            [self.file],
            reference=reference,
            title=title,
            signers=[],
            options=SendOptions(),
            return_url=None,
            metadata={},
        )
        database = self.database or self.workshop.database
        dispatch = Dispatch(provider, outside, database, self.workshop.clock, patience_seconds=0)
        try:
            return await dispatch.send(order, [self.file], dms={"folder": "42"}, again=again)
        finally:
            await outside.aclose()

    def state(self, reference: str = "r1") -> str:
        with self.workshop.database.transaction() as connection:
            return str(connection.scalar(select(SendingRow.state).where(SendingRow.reference == reference)))


@pytest.fixture
def counter(workshop: Workshop, tmp_path: Path) -> Counter:
    path = tmp_path / "contract.pdf"
    path.write_bytes(CONTENT)
    return Counter(workshop, look_at(path), lambda _: httpx.Response(200, json={"id": "e1"}))


def failing(error: Exception) -> Answering:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


def test_the_file_arrives_byte_for_byte_and_the_document_is_registered_and_asked_about(
    counter: Counter,
) -> None:
    sent = counter.send()
    assert (sent.envelope_id, sent.was_sent_before, sent.unnoted) == ("e1", False, "")
    assert sent.redirect_url == "https://sending.test/sign?ticket=s3cret"
    [body] = counter.bodies
    assert base64.b64decode(json.loads(body)["files"][0]) == CONTENT
    shown = counter.workshop.show("e1-1", NAME)
    assert shown["registered_at"] is not None
    assert shown["dms"] == {"folder": "42"}
    with counter.workshop.database.transaction() as connection:
        assert [row["subject"] for row in polls.listing(connection, NAME, 9)] == ["e1"]


def test_the_same_reference_is_sent_once_however_often_it_is_tried(counter: Counter) -> None:
    first, second = counter.send(), counter.send()
    assert len(counter.bodies) == 1
    assert second.was_sent_before
    assert (second.envelope_id, second.documents) == (first.envelope_id, first.documents)
    assert second.redirect_url == ""


def test_the_redirect_address_is_kept_nowhere(counter: Counter) -> None:
    counter.send()
    with counter.workshop.database.transaction() as connection:
        assert "s3cret" not in repr(connection.execute(select(SendingRow.__table__)).all())


def test_a_reference_stands_for_one_content(counter: Counter) -> None:
    counter.send()
    with pytest.raises(UsageError, match="another --reference"):
        counter.send(title="Another")
    assert len(counter.bodies) == 1


@pytest.mark.parametrize(
    "answering",
    [
        failing(httpx.ReadTimeout("no answer")),
        failing(httpx.RemoteProtocolError("broke off")),
        lambda _: httpx.Response(500),
        lambda _: httpx.Response(503),
        lambda _: httpx.Response(408),
        lambda _: httpx.Response(200, content=b"<html>"),
    ],
    ids=["silent", "broke off", "500", "503", "408", "no JSON"],
)
def test_what_may_have_arrived_is_not_sent_again_unless_somebody_looked(
    counter: Counter, answering: Answering
) -> None:
    counter.answering, good = answering, counter.answering
    with pytest.raises(HeldError, match="--again"):
        counter.send()
    assert counter.state() == SendingState.UNKNOWN
    with counter.workshop.database.transaction() as connection:
        assert [row["reference"] for row in unknown_sendings(connection)] == ["r1"]
    counter.answering = good
    with pytest.raises(HeldError, match="--again"):
        counter.send()
    assert len(counter.bodies) == 1
    assert counter.send(again=True).envelope_id == "e1"
    assert len(counter.bodies) == 2


def test_what_never_left_is_simply_tried_again(counter: Counter) -> None:
    counter.answering, good = failing(httpx.ConnectError("refused")), counter.answering
    with pytest.raises(NotSentError):
        counter.send()
    counter.answering = good
    assert counter.send().envelope_id == "e1"


@pytest.mark.parametrize(("status", "error"), [(422, PermanentError), (429, TransientError)])
def test_what_the_provider_refused_may_be_mended_and_sent_under_the_same_reference(
    counter: Counter, status: int, error: type[Exception]
) -> None:
    counter.answering, good = (lambda _: httpx.Response(status)), counter.answering
    with pytest.raises(error):
        counter.send()
    assert counter.state() == SendingState.REFUSED
    counter.answering = good
    assert counter.send(title="Mended").envelope_id == "e1"


def test_a_process_that_was_killed_after_sending_leaves_a_question(counter: Counter) -> None:
    def killed() -> Awaitable[None]:
        raise KeyboardInterrupt

    counter.during = killed
    with pytest.raises(KeyboardInterrupt):
        counter.send()
    counter.during = None
    with pytest.raises(HeldError, match="no answer came"):
        counter.send()


def test_of_two_at_once_one_sends(counter: Counter) -> None:
    results: list[object] = []

    async def second() -> None:
        counter.during = None
        with pytest.raises(HeldError):
            await counter.sending("r1")
        results.append("held")

    counter.during = second
    results.append(counter.send().envelope_id)
    assert results == ["held", "e1"]
    assert len(counter.bodies) == 1


def test_the_one_that_was_overtaken_before_it_sent_sends_nothing(counter: Counter) -> None:
    """Both have read the row before either marks it."""
    overtaking = Overtaking(counter.workshop.database.url)
    counter.database = overtaking
    with pytest.raises(LeaseLostError):
        counter.send()
    overtaking.close()
    assert counter.bodies == []


class Overtaking(Database):
    """Between noting the wish and marking it as sent, somebody else tries the same."""

    begun = 0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.begun += 1
        if self.begun == 2:
            with super().transaction() as connection:
                connection.execute(update(SendingRow).values(attempts=SendingRow.attempts + 1))
        with super().transaction() as connection:
            yield connection


class LostAfterwards(Database):
    """Is away once something was sent."""

    begun = 0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.begun += 1
        if self.begun > 2:
            raise DatabaseUnavailableError("away")
        with super().transaction() as connection:
            yield connection


def test_what_was_sent_is_told_even_if_it_cannot_be_noted(counter: Counter) -> None:
    lost = LostAfterwards(counter.workshop.database.url)
    counter.database = lost
    sent = counter.send()
    lost.close()
    assert (sent.envelope_id, sent.redirect_url) == ("e1", "https://sending.test/sign?ticket=s3cret")
    assert "documents register" in sent.unnoted
    # And it is not sent a second time.
    counter.database = None
    with pytest.raises(HeldError):
        counter.send()


def test_a_file_that_changes_while_it_is_being_sent_never_arrives_whole(counter: Counter) -> None:
    counter.file.path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises((HeldError, TransientError)):
        counter.send()
    assert counter.bodies == []


@pytest.mark.parametrize(("name", "content"), [("empty.pdf", b""), ("missing.pdf", None)])
def test_a_file_that_cannot_be_sent_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=name):
        look_at(path)
