"""The HTTP API of the simulated Rest PKI Core."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from simulator.peer import PeerError, json_object
from simulator.restpki import RestPki, SessionStatus
from simulator.restpki_pages import Pages
from simulator.restpki_shapes import Document, FileName, SignatureType, formatted, signers_json
from simulator.restpki_store import CodedError
from simulator.restpki_uploads import Uploads

_LOOK_SECONDS = 0.02
"""Between two looks whether a session that somebody waits for is completed."""
_MAX_TEXT = 1024
_SCHEMES = ("", "Bearer ", "ApiKey ")
"""What clients put before the key."""
_REQUIREMENTS = ("CryptoDevice", "Cpf")


class _Api:
    def __init__(self, restpki: RestPki, uploads: Uploads) -> None:
        self._restpki = restpki
        self._uploads = uploads

    async def create(self, request: Request) -> Response:
        body = await json_object(request)
        if not body.get("returnUrl") and body.get("enableBackgroundProcessing") is not True:
            raise PeerError(400, "returnUrl or enableBackgroundProcessing is needed")
        for name in ("returnUrl", "callbackArgument"):
            if len(body.get(name) or "") > _MAX_TEXT:
                raise PeerError(400, f"{name} has more than {_MAX_TEXT} characters")
        given = body.get("documents") or []
        if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
            raise PeerError(400, "documents must be a list of objects")
        metadata = _metadata(body, "documentMetadata")
        requirements = _requirements(body)
        documents = [self._add(item, metadata) for item in given]
        session = self._restpki.open(
            documents,
            body.get("callbackArgument"),
            by_user=not documents,
            return_url=body.get("returnUrl"),
            background=body.get("enableBackgroundProcessing") is True,
            disable_downloads=body.get("disableDownloads") is True,
            metadata=metadata,
            requirements=requirements,
        )
        url = f"{self._restpki.base_url}/sign/{session.token}"
        return JSONResponse({"sessionId": session.id, "redirectUrl": url})

    def _add(self, given: dict[str, Any], metadata: dict[str, list[str]]) -> Document:
        file = given.get("file")
        if not isinstance(file, dict):
            raise PeerError(400, "file must be an object with name and content")
        try:
            kind = SignatureType(given.get("signatureType") or SignatureType.PDF)
        except ValueError:
            raise PeerError(400, f"signatureType must be one of {', '.join(SignatureType)}") from None
        return self._restpki.add(
            self._uploads.file(file),
            metadata=metadata | _metadata(given, "metadata"),
            signature_type=kind,
            document_id=given.get("id"),
            key=given.get("documentKey"),
        )

    async def session(self, request: Request) -> Response:
        return JSONResponse(self._restpki.read_session(request.path_params["id"]))

    async def wait(self, request: Request) -> Response:
        """Hold the call until the session is completed, or for the holding time."""
        restpki = self._restpki
        session = restpki.session(request.path_params["id"])
        end = asyncio.get_running_loop().time() + restpki.holding_seconds
        while True:
            status = restpki.status_of(session)
            ended = status not in (SessionStatus.PROCESSING, SessionStatus.COMPLETED)
            if status is SessionStatus.PENDING or (ended and restpki.refuses_waiting_at_end):
                message = f"Operation not allowed while the session is {status}"
                raise CodedError("BadSignatureSessionOperation", message)
            if status is not SessionStatus.PROCESSING or asyncio.get_running_loop().time() >= end:
                completed = status is SessionStatus.COMPLETED
                return JSONResponse({"completed": completed, "progress": restpki.progress(session)})
            await asyncio.sleep(_LOOK_SECONDS)

    async def read(self, request: Request) -> Response:
        return JSONResponse(self._restpki.read(request.path_params["id"]))

    async def signers(self, request: Request) -> Response:
        return JSONResponse(signers_json(self._restpki.document(request.path_params["id"])))

    async def by_key(self, request: Request) -> Response:
        key = request.path_params["key"].replace("-", "").upper()
        found = [document for document in self._restpki.documents.values() if document.key == key]
        shown = self._restpki.shown(found[0]) if found else None
        return JSONResponse({"found": bool(found), "document": shown})

    async def new_key(self, _request: Request) -> Response:
        key = self._restpki.allocate_key()
        return JSONResponse({"key": key, "formattedKey": formatted(key)})

    async def file(self, request: Request) -> Response:
        """What a link leads to; the ticket in it is the permission, so no key is asked for."""
        name: FileName = request.path_params["name"]
        ticket = request.query_params.get("access_ticket", "")
        file = self._restpki.download(request.path_params["id"], name, ticket)
        if self._restpki.redirected_links and "direct" not in request.query_params:
            return RedirectResponse(f"{name}?access_ticket={quote(ticket)}&direct=", status_code=302)
        disposition = f"attachment; filename*=UTF-8''{quote(file.name, safe='')}"
        return Response(
            file.content, media_type=file.media_type, headers={"Content-Disposition": disposition}
        )


def _metadata(body: dict[str, Any], name: str) -> dict[str, list[str]]:
    found = body.get(name) or {}
    if not isinstance(found, dict) or not all(isinstance(values, list) for values in found.values()):
        raise PeerError(400, f"{name} must be an object of lists")
    return found


def _requirements(body: dict[str, Any]) -> list[dict[str, Any]]:
    found = body.get("certificateRequirements") or []
    if not isinstance(found, list) or not all(
        isinstance(item, dict) and item.get("type") in _REQUIREMENTS for item in found
    ):
        raise PeerError(400, f"the type of a certificate requirement is one of {', '.join(_REQUIREMENTS)}")
    return found


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PeerError)
    body: dict[str, object] = {"message": str(error)}
    if isinstance(error, CodedError):
        body |= {"code": error.code, "detail": None, "details": None, "validationResults": None}
    return JSONResponse(body, error.status)


def create_app(restpki: RestPki) -> Starlette:
    """The API under `/api`, and the pages for users under `/sign`."""
    uploads = Uploads(restpki)
    api, pages = _Api(restpki, uploads), Pages(restpki)

    def keyed(path: str, method: str, act: Any) -> Route:
        """A call that wants the key, in any of the spellings that clients use."""

        async def prove(request: Request) -> Response:
            given = (request.headers.get("X-Api-Key", ""), request.headers.get("Authorization", ""))
            if not any(value.removeprefix(word) == restpki.token for value in given for word in _SCHEMES):
                raise PeerError(401, "send the API key in the header X-Api-Key")
            response: Response = await act(request)
            return response

        return Route(path, prove, methods=[method])

    return Starlette(
        routes=[
            # Some of the vendor's clients put a slash behind the path, others do not.
            keyed("/api/signature-sessions", "POST", api.create),
            keyed("/api/signature-sessions/", "POST", api.create),
            keyed("/api/signature-sessions/{id}", "GET", api.session),
            keyed("/api/signature-sessions/{id}/when-completed", "GET", api.wait),
            keyed("/api/document-keys", "POST", api.new_key),
            keyed("/api/documents/keys/{key}", "GET", api.by_key),
            keyed("/api/documents/{id}", "GET", api.read),
            keyed("/api/documents/{id}/signers", "GET", api.signers),
            Route("/api/documents/{id}/{name}", api.file, methods=["GET"]),
            keyed("/api/plain-uploads", "POST", uploads.plain),
            # So spelled by the vendor's clients.
            keyed("/Api/MultipartUploads", "POST", uploads.begin),
            keyed("/Api/MultipartUploads/{token}", "POST", uploads.complete),
            keyed("/Api/MultipartUploads/{token}/{number:int}", "POST", uploads.part),
            Route("/sign/{token}", pages.show, methods=["GET"]),
            Route("/sign/{token}", pages.act, methods=["POST"]),
        ],
        exception_handlers={PeerError: _refuse},
    )
