"""Files that are handed over to Rest PKI Core before the session that they are for."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from simulator.peer import PeerError, StoredFile, content_of, json_object, need
from simulator.restpki_store import CodedError, Store

_PLAIN_PATH = "/api/plain-uploads/"


@dataclass
class _Parts:
    """A large upload that is on its way; parts are numbered from 0."""

    parts: dict[int, bytes] = field(default_factory=dict)


class Uploads:
    """Uploads in one piece and in parts, and the file references that lead to them."""

    def __init__(self, restpki: Store) -> None:
        self._restpki = restpki
        self._files: dict[str, StoredFile] = {}
        self._open: dict[str, _Parts] = {}

    def file(self, reference: dict[str, Any]) -> StoredFile:
        """The file that a reference means: its content, or an upload, by its link or its token.

        Raises:
            PeerError: 400, it means nothing.
            CodedError: it is a link to elsewhere, from where nothing is fetched here.
        """
        name = str(reference.get("name") or "")
        media_type = str(reference.get("mimeType") or "application/pdf")
        if reference.get("content"):
            need(reference, "name")
            return StoredFile(name, media_type, content_of(reference["content"], "content"))
        url = str(reference.get("url") or "")
        if not (url or reference.get("blobToken")):
            raise PeerError(400, "content is missing, and so are url and blobToken")
        token = url.rpartition("/")[2] if _PLAIN_PATH in url else str(reference.get("blobToken") or "")
        found = self._files.get(token)
        if found is None:
            raise CodedError("FileDownloadFailed", "The file could not be downloaded")
        return StoredFile(name or found.name, found.media_type, found.content)

    async def plain(self, request: Request) -> Response:
        """One file as form data."""
        async with request.form() as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if len(files) != 1:
                raise PeerError(400, "the form must have one file")
            [given] = files
            media_type = given.content_type or "application/octet-stream"
            file = StoredFile(given.filename or "file", media_type, await given.read())
        token = self._keep(file)
        return JSONResponse(
            {
                "name": file.name,
                "length": len(file.content),
                "mimeType": file.media_type,
                "url": f"{_PLAIN_PATH}{token}",
                "content": None,
                "blobToken": None,
            }
        )

    async def begin(self, _request: Request) -> Response:
        """The start of an upload in parts."""
        token = hashlib.sha256(f"parts {len(self._open)} {len(self._files)}".encode()).hexdigest()
        self._open[token] = _Parts()
        return JSONResponse({"blobToken": token, "partSize": self._restpki.part_bytes})

    async def part(self, request: Request) -> Response:
        """One part, with its digest."""
        parts = self._parts(request).parts
        content = await request.body()
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode("ascii")
        if request.headers.get("Content-MD5") != digest:
            raise PeerError(400, "Content-MD5 does not fit the part")
        if not 0 < len(content) <= self._restpki.part_bytes:
            raise PeerError(400, f"a part has 1 to {self._restpki.part_bytes} bytes")
        parts[int(request.path_params["number"])] = content
        return Response(headers={"ETag": _tag(content)})

    async def complete(self, request: Request) -> Response:
        """The end of an upload in parts: from now on its token is a file."""
        parts = self._parts(request).parts
        tags = (await json_object(request)).get("partETags")
        if tags != [_tag(parts[number]) for number in sorted(parts)] or sorted(parts) != list(
            range(len(parts))
        ):
            raise PeerError(400, "partETags are not those of the parts in their order")
        token = request.path_params["token"]
        content = b"".join(parts[number] for number in sorted(parts))
        del self._open[token]
        self._files[token] = StoredFile("file", "application/octet-stream", content)
        return Response()

    def _keep(self, file: StoredFile) -> str:
        token = hashlib.sha256(f"plain {len(self._files)}".encode()).hexdigest()
        self._files[token] = file
        return token

    def _parts(self, request: Request) -> _Parts:
        parts = self._open.get(request.path_params["token"])
        if parts is None:
            raise PeerError(404, "there is no such upload")
        return parts


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
