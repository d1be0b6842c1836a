"""S-SIGN as its fact sheet describes it: upload, envelope, download by the file id of the upload."""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from simulator.callbacks import SSIGN_ACTIONS, Body, ssign_body
from simulator.files import make_pdf
from simulator.peer import (
    NotReady,
    PeerError,
    StoredFile,
    content_of,
    json_object,
    need,
    refusing,
    whole_number,
)

ORIGINAL, SIGNED, REPORT = 1, 2, 3
"""The values of `EnvelopeFileSuffix`."""


@dataclass
class Envelope:
    """An envelope. `status` is the last action that happened to it, PENDING at first."""

    id: int
    name: str
    file_ids: list[int]
    status: str = "PENDING"
    request: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass
class SSign:
    """All that S-SIGN knows, and its switches.

    `not_ready` is how a signed file of an unfinished envelope is answered, `signed_size_bytes` the length
    that signed files are padded to. What stands in `signed` by file id is given out instead of a made file.
    """

    token: str = "simulated-ssign-token"  # noqa: S105  (a simulated one)
    not_ready: NotReady = NotReady.NOT_FOUND
    signed_size_bytes: int | None = None
    files: dict[int, StoredFile] = field(default_factory=dict)
    envelopes: dict[int, Envelope] = field(default_factory=dict)
    signed: dict[int, StoredFile] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def upload(self, name: str, content: bytes) -> int:
        """Keep a file; returns its id."""
        with self._lock:
            file_id = 9001 + len(self.files)
            self.files[file_id] = StoredFile(name, "application/pdf", content)
            return file_id

    def create(self, name: str, file_ids: list[int], request: dict[str, Any] | None = None) -> Envelope:
        """Make an envelope of uploaded files.

        Raises:
            PeerError: 400, a file is not known.
        """
        with self._lock:
            for file_id in file_ids:
                if file_id not in self.files:
                    raise PeerError(400, f"document {file_id} was not uploaded")
            envelope = Envelope(155 + len(self.envelopes), name, file_ids, request=request or {})
            self.envelopes[envelope.id] = envelope
            return envelope

    def send(self, name: str = "Contrato 2026-0042", files: int = 1) -> Envelope:
        """Upload as many made files and put them into one envelope, as an application would."""
        file_ids = [
            self.upload(f"contrato-{number}.pdf", make_pdf(f"{name}\nArquivo {number}"))
            for number in range(1, files + 1)
        ]
        return self.create(name, file_ids)

    def happen(self, envelope_id: int, action: str) -> Body:
        """Let one of the documented actions happen; returns the callback body.

        Raises:
            PeerError: 404, no such envelope; 400, no such action.
        """
        if action not in SSIGN_ACTIONS:
            raise PeerError(400, f"the action must be one of {', '.join(SSIGN_ACTIONS)}")
        with self._lock:
            envelope = self.envelopes.get(envelope_id)
            if envelope is None:
                raise PeerError(404, f"envelope {envelope_id} is not known")
            envelope.status = action
            return ssign_body(envelope_id, action)

    def complete(self, envelope_id: int) -> Body:
        """Everybody has signed: from now on the signed files are there."""
        return self.happen(envelope_id, "COMPLETED")

    def pend(self, envelope_id: int) -> Body:
        """S-SIGN says that signatures are still missing."""
        return self.happen(envelope_id, "PENDING")

    def expire(self, envelope_id: int) -> Body:
        """The time to sign has passed."""
        return self.happen(envelope_id, "EXPIRED")

    def delete(self, envelope_id: int) -> Body:
        """The sender deleted the envelope."""
        return self.happen(envelope_id, "DELETED")

    def download(self, file_id: int, suffix: int) -> StoredFile | None:
        """The original, signed or report file; None when it is not ready and that is answered as empty.

        Raises:
            PeerError: 400, no such suffix; 404, no such file; 404 or 409, not ready.
        """
        with self._lock:
            uploaded = self.files.get(file_id)
            if uploaded is None:
                raise PeerError(404, f"file {file_id} was not found")
            if suffix == ORIGINAL:
                return uploaded
            if suffix not in (SIGNED, REPORT):
                raise PeerError(400, "EnvelopeFileSuffix must be 1, 2 or 3")
            envelope = next((e for e in self.envelopes.values() if file_id in e.file_ids), None)
            if envelope is None or envelope.status != "COMPLETED":
                if self.not_ready is NotReady.EMPTY:
                    return None
                status = 409 if self.not_ready is NotReady.CONFLICT else 404
                raise PeerError(status, f"file {file_id} is not signed yet")
            stem = uploaded.name.rpartition(".")[0] or uploaded.name
            about = f"{uploaded.name}\nEnvelope {envelope.id}: {envelope.name}\nArquivo {file_id}"
            if suffix == REPORT:
                report = make_pdf(f"Relatório de assinaturas: {about}")
                return StoredFile(f"{stem}-relatorio.pdf", "application/pdf", report)
            if file_id not in self.signed:
                content = make_pdf(f"Assinado: {about}", self.signed_size_bytes)
                self.signed[file_id] = StoredFile(f"{stem}-assinado.pdf", "application/pdf", content)
            return self.signed[file_id]

    @property
    def summary(self) -> dict[str, Any]:
        """The state without file contents."""
        with self._lock:
            return {
                "files": {str(file_id): file.summary for file_id, file in self.files.items()},
                "envelopes": [
                    {"id": e.id, "name": e.name, "fileIds": e.file_ids, "status": e.status}
                    for e in self.envelopes.values()
                ],
            }


class _Api:
    def __init__(self, ssign: SSign) -> None:
        self._ssign = ssign

    def _prove(self, request: Request) -> None:
        if request.headers.get("Authorization") != f"Custom {self._ssign.token}":
            raise PeerError(401, "send Authorization: Custom <token>")

    async def upload(self, request: Request) -> Response:
        self._prove(request)
        body = await json_object(request)
        need(body, "name", "file")
        if not isinstance(body["file"], str):
            raise PeerError(400, "file must be base64")
        return JSONResponse({"id": self._ssign.upload(str(body["name"]), content_of(body["file"], "file"))})

    async def create(self, request: Request) -> Response:
        self._prove(request)
        body = await json_object(request)
        need(body, "Name", "Sender", "Signers", "Documents")
        if not isinstance(body["Documents"], list) or not all(isinstance(d, dict) for d in body["Documents"]):
            raise PeerError(400, "Documents must be a list of objects with Id")
        file_ids = [whole_number(document.get("Id"), "Documents.Id") for document in body["Documents"]]
        return JSONResponse({"envelopeId": self._ssign.create(str(body["Name"]), file_ids, body).id})

    async def download(self, request: Request) -> Response:
        self._prove(request)
        query = request.query_params
        file_id = whole_number(query.get("EnvelopeFileId"), "EnvelopeFileId")
        suffix = whole_number(query.get("EnvelopeFileSuffix"), "EnvelopeFileSuffix")
        file = self._ssign.download(file_id, suffix)
        if file is None:
            return Response(b"", media_type="application/octet-stream")
        disposition = f"attachment; filename*=UTF-8''{quote(file.name, safe='')}"
        if file.name.isascii() and file.name.isprintable() and not set(file.name) & set('"\\'):
            disposition = f'attachment; filename="{file.name}"'
        return Response(
            file.content, media_type=file.media_type, headers={"Content-Disposition": disposition}
        )


def create_app(ssign: SSign) -> Starlette:
    """The API; its base address ends in `/rest`."""
    api = _Api(ssign)
    return Starlette(
        routes=[
            Route("/rest/signer/IntegrationEnvelopeDocument", api.upload, methods=["POST"]),
            Route("/rest/signer/IntegrationEnvelope", api.create, methods=["POST"]),
            Route("/rest/signer/IntegrationEnvelopeFile", api.download, methods=["GET"]),
        ],
        exception_handlers=refusing(PlainTextResponse),
    )


def example_upload(name: str = "contrato.pdf", text: str = "Contrato 2026-0042") -> dict[str, str]:
    """A body for the upload call."""
    return {"name": name, "file": base64.b64encode(make_pdf(text)).decode("ascii")}


def example_envelope(name: str = "Contrato 2026-0042", *file_ids: int) -> dict[str, Any]:
    """A body for the create call."""
    person = {"Name": "Signatária Exemplo", "Email": "signataria@example.com"}
    return {
        "Name": name,
        "Language": 1,
        "Sender": {"Name": "Remetente Exemplo", "Email": "remetente@example.com"},
        "Signers": [
            person
            | {
                "IndividualIdentificationCode": "12345678909",
                "SignatureType": 2,
                "SignerType": 0,
                "Order": 1,
            }
        ],
        "Documents": [{"Id": file_id} for file_id in file_ids],
    }
