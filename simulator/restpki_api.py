"""The HTTP API of the simulated Rest PKI Core."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulator.peer import PeerError, StoredFile, content_of, json_object, need
from simulator.restpki import CodedError, Document, FileName, RestPki, SignatureType


class _Api:
    def __init__(self, restpki: RestPki) -> None:
        self._restpki = restpki

    async def create(self, request: Request) -> Response:
        self._prove(request)
        body = await json_object(request)
        if not body.get("returnUrl") and body.get("enableBackgroundProcessing") is not True:
            raise PeerError(400, "returnUrl or enableBackgroundProcessing is needed")
        given = body.get("documents")
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise PeerError(400, "documents must be a list of objects: nobody uploads any here")
        metadata = _metadata(body, "documentMetadata")
        documents = [self._add(item, metadata) for item in given]
        session = self._restpki.open(documents, body.get("callbackArgument"))
        url = f"{self._restpki.base_url}/sign/{session.id}"
        return JSONResponse({"sessionId": session.id, "redirectUrl": url})

    def _add(self, given: dict[str, Any], metadata: dict[str, list[str]]) -> Document:
        file = given.get("file")
        if not isinstance(file, dict):
            raise PeerError(400, "file must be an object with name and content")
        need(file, "name", "content")
        try:
            kind = SignatureType(given.get("signatureType") or SignatureType.PDF)
        except ValueError:
            raise PeerError(400, f"signatureType must be one of {', '.join(SignatureType)}") from None
        media_type = str(file.get("mimeType") or "application/pdf")
        return self._restpki.add(
            StoredFile(str(file["name"]), media_type, content_of(file["content"], "content")),
            metadata=metadata | _metadata(given, "metadata"),
            signature_type=kind,
        )

    async def session(self, request: Request) -> Response:
        self._prove(request)
        return JSONResponse(self._restpki.read_session(request.path_params["id"]))

    async def read(self, request: Request) -> Response:
        self._prove(request)
        return JSONResponse(self._restpki.read(request.path_params["id"]))

    async def original(self, request: Request) -> Response:
        return self._file(request, "original-file")

    async def marked(self, request: Request) -> Response:
        return self._file(request, "marked-file")

    async def signed(self, request: Request) -> Response:
        return self._file(request, "signed-file")

    def _prove(self, request: Request) -> None:
        if request.headers.get("X-Api-Key") != self._restpki.token:
            raise PeerError(401, "send the API key in the header X-Api-Key")

    def _file(self, request: Request, name: FileName) -> Response:
        """What a link leads to; the ticket in it is the permission, so no key is asked for."""
        ticket = request.query_params.get("access_ticket", "")
        file = self._restpki.download(request.path_params["id"], name, ticket)
        disposition = f"attachment; filename*=UTF-8''{quote(file.name, safe='')}"
        return Response(
            file.content, media_type=file.media_type, headers={"Content-Disposition": disposition}
        )


def _metadata(body: dict[str, Any], name: str) -> dict[str, list[str]]:
    found = body.get(name) or {}
    if not isinstance(found, dict) or not all(isinstance(values, list) for values in found.values()):
        raise PeerError(400, f"{name} must be an object of lists")
    return found


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PeerError)
    body: dict[str, object] = {"message": str(error)}
    if isinstance(error, CodedError):
        body |= {"code": error.code, "detail": None, "details": None, "validationResults": None}
    return JSONResponse(body, error.status)


def create_app(restpki: RestPki) -> Starlette:
    """The API under `/api`."""
    api = _Api(restpki)
    return Starlette(
        routes=[
            # Some of the vendor's clients put a slash behind the path, others do not.
            Route("/api/signature-sessions", api.create, methods=["POST"]),
            Route("/api/signature-sessions/", api.create, methods=["POST"]),
            Route("/api/signature-sessions/{id}", api.session, methods=["GET"]),
            Route("/api/documents/{id}", api.read, methods=["GET"]),
            Route("/api/documents/{id}/original-file", api.original, methods=["GET"]),
            Route("/api/documents/{id}/marked-file", api.marked, methods=["GET"]),
            Route("/api/documents/{id}/signed-file", api.signed, methods=["GET"]),
        ],
        exception_handlers={PeerError: _refuse},
    )
