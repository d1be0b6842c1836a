"""A plain HTTP receiver that knows idempotency keys, for the `http` destination."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulator.peer import PeerError, StoredFile, refusing

IDEMPOTENCY_HEADER = "Idempotency-Key"


@dataclass(frozen=True)
class Received:
    """A file that was stored, with what came along. Header names are lower case."""

    id: int
    file: StoredFile
    idempotency_key: str | None
    headers: Mapping[str, str] = field(repr=False)
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Dms:
    """All that the receiver stored. `token` is demanded as `Authorization: Bearer`; None demands nothing.

    `repeats` counts the files that came again under a known key and were not stored again.
    """

    token: str | None = "simulated-dms-token"  # noqa: S105  (a simulated one)
    received: list[Received] = field(default_factory=list)
    repeats: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def store(
        self, file: StoredFile, key: str | None, headers: Mapping[str, str], fields: Mapping[str, str]
    ) -> tuple[Received, bool]:
        """Keep a file; returns it, or the one that came first under this key, and whether it is new.

        Raises:
            PeerError: 422, the key was used for another content.
        """
        with self._lock:
            known = next((r for r in self.received if key is not None and r.idempotency_key == key), None)
            if known is None:
                self.received.append(Received(len(self.received) + 1, file, key, headers, fields))
                return self.received[-1], True
            if known.file.sha256 != file.sha256:
                raise PeerError(422, f"this {IDEMPOTENCY_HEADER} was used for another file")
            self.repeats += 1
            return known, False

    @property
    def summary(self) -> dict[str, Any]:
        """The state without file contents."""
        with self._lock:
            return {
                "received": [
                    r.file.summary
                    | {"id": r.id, "idempotencyKey": r.idempotency_key, "fields": dict(r.fields)}
                    for r in self.received
                ],
                "repeats": self.repeats,
            }


class _Api:
    def __init__(self, dms: Dms) -> None:
        self._dms = dms

    async def receive(self, request: Request) -> Response:
        token = self._dms.token
        if token is not None and request.headers.get("Authorization") != f"Bearer {token}":
            raise PeerError(401, "send Authorization: Bearer <token>")
        file, fields = await _read(request)
        key = request.headers.get(IDEMPOTENCY_HEADER)
        received, is_new = self._dms.store(file, key, dict(request.headers), fields)
        return JSONResponse({"id": received.id}, 201 if is_new else 200)


async def _read(request: Request) -> tuple[StoredFile, dict[str, str]]:
    """The file of a request, and the form fields beside it."""
    media_type = request.headers.get("Content-Type", "application/octet-stream")
    if not media_type.lower().startswith("multipart/"):
        name = str(request.path_params.get("name", ""))
        return StoredFile(name, media_type, await request.body()), {}
    async with request.form() as form:
        uploads = [part for part in form.values() if isinstance(part, UploadFile)]
        if len(uploads) != 1:
            raise PeerError(400, "send exactly one part with a file name")
        upload = uploads[0]
        file = StoredFile(upload.filename or "", upload.content_type or "", await upload.read())
        return file, {name: part for name, part in form.items() if isinstance(part, str)}


def create_app(dms: Dms) -> Starlette:
    """The receiver: `/files`, or `/files/<name>` for raw bodies that cannot say their name."""
    api = _Api(dms)
    return Starlette(
        routes=[
            Route("/files", api.receive, methods=["POST", "PUT"]),
            Route("/files/{name:path}", api.receive, methods=["POST", "PUT"]),
        ],
        exception_handlers=refusing(lambda sentence, status: JSONResponse({"error": sentence}, status)),
    )
