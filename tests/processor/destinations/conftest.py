"""A receiver that listens on a real socket, and parcels with real files."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from processor.destinations._base import Parcel, Step, Subject
from processor.outside import Outside
from shared.events import DocumentStatus
from shared.providers._base import FileKind
from tests.installation import free_port

DMS = {"cdFluxo": "1042", "cdTarefa": "10", "cdTipoAnexo": "3", "dsEmailExecutor": "bot@example.com"}


@dataclass(frozen=True)
class Received:
    """One request as it came; header names and values are the bytes of the wire."""

    method: str
    path: str
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes
    size_bytes: int
    sha256: str

    def header(self, name: str) -> bytes | None:
        """The bytes of a header's value."""
        return dict(self.raw_headers).get(name.lower().encode())


@dataclass
class Receiver:
    """Keeps every request, and answers with what `answer` returns."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    answer: Callable[[Received], Awaitable[Response] | Response] = lambda _request: Response()
    keep_bodies: bool = True

    def paths(self) -> list[str]:
        """The path of every request, in order."""
        return [request.path for request in self.requests]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        kept, size_bytes, digest = bytearray(), 0, hashlib.sha256()
        async for piece in request.stream():
            size_bytes += len(piece)
            digest.update(piece)
            if self.keep_bodies:
                kept += piece
        path = scope["raw_path"].decode() + ("?" + scope["query_string"].decode()).rstrip("?")
        received = Received(
            request.method, path, list(scope["headers"]), bytes(kept), size_bytes, digest.hexdigest()
        )
        self.requests.append(received)
        response = self.answer(received)
        if not isinstance(response, Response):
            response = await response
        await response(scope, receive, send)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def listening_receiver(anyio_backend: str) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    listening = socket.create_server(("127.0.0.1", 0))
    receiver.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(receiver, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    # The socket listens already: who connects before the server is up waits in its backlog.
    yield receiver
    server.should_exit = True
    await serving
    listening.close()


@pytest.fixture
def receiver(listening_receiver: Receiver) -> Receiver:
    """The one receiver of the module, as new."""
    fresh = Receiver(listening_receiver.url)
    vars(listening_receiver).update(vars(fresh))
    return listening_receiver


@pytest.fixture
def make_outside() -> Callable[..., Outside]:
    def make(peer: str, *, origins: frozenset[str], ca_file: Path | None = None) -> Outside:
        return Outside(
            peer,
            origins=origins,
            connect_timeout_seconds=60,
            read_timeout_seconds=60,
            total_timeout_seconds=120,
            ca_file=ca_file,
        )

    return make


@pytest.fixture
def make_subject() -> Callable[..., Subject]:
    def make(**changes: Any) -> Subject:
        values: dict[str, Any] = {
            "provider": "ssign",
            "document_id": "155",
            "status": DocumentStatus.COMPLETED,
            "references": {"file_ids": "901"},
            "dms": DMS,
        }
        return Subject(**{**values, **changes})

    return make


@pytest.fixture
def make_parcel(tmp_path: Path, make_subject: Callable[..., Subject]) -> Callable[..., Parcel]:
    def make(content: bytes = b"%PDF-1.7 signed", *, name: str = "contrato.pdf", **changes: Any) -> Parcel:
        path = tmp_path / "fetched.bin"
        path.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        subject = make_subject(**changes)
        return Parcel(
            subject=subject,
            kind=FileKind.SIGNED,
            name=name,
            media_type="application/pdf",
            path=path,
            size_bytes=len(content),
            sha256=sha256,
            idempotency_key=f"{subject.provider}:{subject.document_id}:{sha256}",
        )

    return make


@pytest.fixture
def make_step(make_subject: Callable[..., Subject]) -> Callable[..., Step]:
    def make(**changes: Any) -> Step:
        subject = make_subject(**changes)
        return Step(subject, f"{subject.provider}:{subject.document_id}:{subject.status}")

    return make


@dataclass
class Mark:
    """Stands for the database row that `sending` writes: what the receiver had seen by then."""

    receiver: Receiver | None = None
    seen: list[list[str]] = field(default_factory=list)

    async def __call__(self) -> None:
        self.seen.append(self.receiver.paths() if self.receiver else [])


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> Mark:
    wants_receiver = "receiver" in request.fixturenames
    return Mark(request.getfixturevalue("receiver") if wants_receiver else None)


@pytest.fixture
def unused_tcp_port_origin() -> str:
    """An origin at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"
