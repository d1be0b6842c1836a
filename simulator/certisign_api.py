"""The HTTP API of the simulated Certisign."""

from __future__ import annotations

import base64
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulator.certisign import Attendee, BytesAs, Certisign, Document, PackageShape
from simulator.files import make_zip
from simulator.peer import PeerError, StoredFile, content_of, json_object, need, refusing, whole_number


class _Api:
    def __init__(self, certisign: Certisign) -> None:
        self._certisign = certisign

    def _prove(self, request: Request) -> None:
        if request.headers.get("Token") != self._certisign.token:
            raise PeerError(401, "send the subscription key in the header Token")

    async def upload(self, request: Request) -> Response:
        self._prove(request)
        body = await json_object(request)
        need(body, "fileName", "bytes")
        upload_id = self._certisign.upload(str(body["fileName"]), content_of(body["bytes"], "bytes"))
        return JSONResponse({"uploadId": upload_id})

    async def create(self, request: Request) -> Response:
        self._prove(request)
        body = await json_object(request)
        need(body, "document", "sender")
        head = body["document"]
        if not isinstance(head, dict) or not isinstance(head.get("upload"), dict):
            raise PeerError(400, "document must be an object with name and upload")
        need(head, "name")
        attendees = _attendees(body, "signers") + _attendees(body, "electronicSigners")
        document = self._certisign.create(str(head["name"]), str(head["upload"].get("id")), attendees)
        return JSONResponse(
            {
                "id": document.id,
                "chave": document.chave,
                "signUrl": f"{self._certisign.base_url}/sign/{document.chave}",
                "inProcessing": document.in_processing,
            }
        )

    async def package(self, request: Request) -> Response:
        self._prove(request)
        query = request.query_params
        document = self._certisign.by_chave(query.get("key", ""))
        original, manifest = _flag(query.get("includeOriginal")), _flag(query.get("includeManifest"))
        files = self._certisign.package(document, original=original, manifest=manifest)
        shape = self._certisign.package_shape
        if shape is None:
            shape = PackageShape.ZIPPED if _flag(query.get("zipped")) else PackageShape.ARRAY
        if not files:
            nothing = {"name": document.name, "mimeType": None, "bytes": None}
            return JSONResponse([nothing] if shape is PackageShape.ARRAY else nothing)
        if shape is PackageShape.ARRAY:
            return JSONResponse([self._shown(file) for file in files])
        return JSONResponse(
            self._shown(_zipped(document, files) if shape is PackageShape.ZIPPED else _main(files))
        )

    async def flow_actions(self, request: Request) -> Response:
        self._prove(request)
        document = self._certisign.document(whole_number(request.query_params.get("id"), "id"))
        return JSONResponse({"steps": [_step(document, number) for number in document.steps]})

    async def validate(self, request: Request) -> Response:
        self._prove(request)
        document = self._certisign.by_chave(request.query_params.get("key", ""))
        acted = [a for a in document.attendees if a.acted_at is not None]
        return JSONResponse(
            {
                "documentName": document.name,
                "key": document.chave,
                "isValid": document.signed,
                "signatures": [_person(a) for a in acted if not a.electronic],
                "electronicSignatures": [_person(a) for a in acted if a.electronic],
            }
        )

    def _shown(self, file: StoredFile) -> dict[str, Any]:
        content: str | list[int] = list(file.content)
        if self._certisign.bytes_as is BytesAs.BASE64:
            content = base64.b64encode(file.content).decode("ascii")
        return {"name": file.name, "mimeType": file.media_type, "bytes": content}


def _attendees(body: dict[str, Any], field: str) -> list[Attendee]:
    people = body.get(field) or []
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise PeerError(400, f"{field} must be a list of objects")
    return [
        Attendee(
            step=whole_number(person.get("step", 1), f"{field}.step"),
            name=str(person.get("name", "")),
            email=str(person.get("email", "")),
            identifier=str(person.get("individualIdentificationCode", "")),
            electronic=field == "electronicSigners",
        )
        for person in people
    ]


def _flag(value: str | None) -> bool:
    return (value or "").lower() == "true"


def _main(files: list[StoredFile]) -> StoredFile:
    return next((f for f in files if not f.name.endswith(("-Manifesto.pdf", "-Original.pdf"))), files[0])


def _zipped(document: Document, files: list[StoredFile]) -> StoredFile:
    # A CAdES package is a zip already.
    if document.cades:
        return files[0]
    content = make_zip([(file.name, file.content) for file in files])
    return StoredFile(f"{document.name}.zip", "application/zip", content)


def _person(attendee: Attendee) -> dict[str, str]:
    return {"name": attendee.name, "email": attendee.email}


def _step(document: Document, number: int) -> dict[str, Any]:
    return {
        "order": number,
        "status": 2 if number in document.finished_steps else 1,
        "attendees": [
            {
                "actionTaken": attendee.acted_at is not None,
                "date": attendee.acted_at.strftime("%Y-%m-%dT%H:%M") if attendee.acted_at else None,
                "user": _person(attendee),
            }
            for attendee in document.attendees
            if attendee.step == number
        ],
    }


def create_app(certisign: Certisign) -> Starlette:
    """The API under `/api/v2/document`."""
    api = _Api(certisign)
    base = "/api/v2/document"
    return Starlette(
        routes=[
            Route(f"{base}/upload", api.upload, methods=["POST"]),
            Route(f"{base}/create", api.create, methods=["POST"]),
            Route(f"{base}/package", api.package, methods=["GET"]),
            Route(f"{base}/flowActions", api.flow_actions, methods=["GET"]),
            Route(f"{base}/ValidateSignatures", api.validate, methods=["GET"]),
        ],
        exception_handlers=refusing(lambda sentence, status: JSONResponse({"message": sentence}, status)),
    )
