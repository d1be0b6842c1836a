"""Starting a session of Rest PKI Core: its options, its files, and what is learned of it at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from shared.errors import PermanentError, SignspoolError, TransientError, UsageError
from shared.providers._base import (
    Ask,
    FileContent,
    Order,
    OutgoingFile,
    Request,
    SendOptions,
    Sent,
    SentDocument,
    Steps,
    answered_object,
)
from shared.providers._restpki_api import GUID, Api, text
from shared.providers._restpki_sessions import documents_of, new_memory

_MAX_ADDRESS = 1024
_MAX_NAME = 50
_MAX_VALUE = 500
_PART_NUMBERS = range(10_000)
_READINGS = 2
"""How often the new session is read for the ids of its documents."""


def _cpf(value: str) -> str:
    digits = value.replace(".", "").replace("-", "").replace(" ", "")
    if not re.fullmatch(r"[0-9]{11}", digits) or not _checks_out(digits):
        raise ValueError("must be a CPF: eleven digits, of which the last two check the others")
    return digits


def _checks_out(digits: str) -> bool:
    """Whether the last two digits of a CPF fit the others."""
    for length in (9, 10):
        weighted = sum(
            int(digit) * weight
            for digit, weight in zip(digits[:length], range(length + 1, 1, -1), strict=True)
        )
        if weighted * 10 % 11 % 10 != int(digits[length]):
            return False
    return True


def _guid(value: str) -> str:
    if not GUID.fullmatch(value):
        raise ValueError("must be a GUID")
    return value.lower()


class Options(SendOptions):
    """What may be said of a session besides its files."""

    disable_downloads: bool = Field(
        default=False, description="the signing page offers no download of the signed files"
    )
    background_processing: bool = Field(
        default=False, description="the user returns before the documents are processed"
    )
    security_context: Annotated[str, AfterValidator(_guid)] | None = Field(
        default=None, description="which roots are trusted; the subscription's own without it"
    )
    callback_argument: str | None = Field(
        default=None, max_length=1024, description="free text that the session keeps"
    )
    cpf: Annotated[str, BeforeValidator(str), AfterValidator(_cpf)] | None = Field(
        default=None,
        repr=False,
        description="who signs has a certificate with this CPF, written with or without points",
    )
    crypto_device: bool = Field(default=False, description="who signs has the key on a device")
    document_keys: tuple[str, ...] = Field(
        default=(), description="a key for each file, allocated at the provider before"
    )
    signature_type: Literal["Pdf", "Cms", "Xml"] | None = Field(
        default=None, description="how the files are signed; the provider goes by the file without it"
    )


@dataclass(frozen=True, slots=True)
class Handover:
    """How files are handed over: up to how many bytes within the request, and in one upload; and under which
    name of the metadata the order's reference goes along, none if empty."""

    inline_bytes: int
    upload_bytes: int
    reference_name: str


def start_session(api: Api, order: Order, handover: Handover) -> Steps[Sent]:
    """Create a session of the order's files, or one whose user brings the files, and learn of its documents.

    Raises:
        UsageError: the provider would not take the order.
        As `Api.expect`.
    """
    body = _session_json(order, handover.reference_name)
    references = []
    for place, file in enumerate(order.files):
        references.append((yield from _hand_over(api, place, file, handover)))
    answer = yield Request(
        "POST",
        f"{api.base_url}/api/signature-sessions",
        {**api.headers, "Content-Type": "application/json"},
        content=_request_body(body, order, references),
        effect=True,
    )
    if answer.status == 400:
        # What it says may repeat a CPF.
        raise PermanentError("creating the session was answered with 400: check the options and the files")
    api.expect(answer, "creating the session")
    created = answered_object(answer, "the new session")
    session_id, redirect_url = text(created.get("sessionId")).lower(), text(created.get("redirectUrl"))
    if not GUID.fullmatch(session_id) or not redirect_url:
        raise TransientError("the new session came without its id or its address")
    documents: tuple[SentDocument, ...] = ()
    if order.files:
        documents = yield from _learn_documents(api, session_id, order)
    memory = new_memory(*(document.document_id for document in documents))
    return Sent(session_id, documents, redirect_url, (Ask(session_id, memory),))


def _session_json(order: Order, reference_name: str) -> dict[str, Any]:
    """The request but for its documents.

    Raises:
        UsageError: it is none that the provider takes.
    """
    options: Options = order.options
    if order.return_url is None and not options.background_processing:
        raise UsageError("say --return-url, or --option background_processing=true, or both")
    if order.return_url is not None:
        _check_address(order.return_url)
    if options.document_keys and len(options.document_keys) != len(order.files):
        raise UsageError("--option document_keys: as many keys as files are needed, in their order")
    metadata = {name: list(values) for name, values in order.metadata.items()}
    if reference_name:
        metadata.setdefault(reference_name, [order.reference])
    _check_metadata(metadata)
    requirements = [
        *([{"type": "CryptoDevice"}] if options.crypto_device else []),
        *([{"type": "Cpf", "argument": options.cpf}] if options.cpf else []),
    ]
    body = {
        "returnUrl": order.return_url,
        "enableBackgroundProcessing": options.background_processing,
        "disableDownloads": options.disable_downloads,
        "securityContextId": options.security_context,
        "callbackArgument": options.callback_argument,
        "certificateRequirements": requirements,
        "documentMetadata": metadata,
    }
    return {name: value for name, value in body.items() if name == "returnUrl" or value not in (None, [], {})}


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or len(url) > _MAX_ADDRESS:
        raise UsageError(f"--return-url must be an http address of at most {_MAX_ADDRESS} characters")


def _check_metadata(metadata: Mapping[str, Sequence[str]]) -> None:
    for place, (name, values) in enumerate(metadata.items(), start=1):
        if not 0 < len(name) <= _MAX_NAME or not all(char.isalnum() or char in "-_ " for char in name):
            raise UsageError(
                f"the name of --metadata {place} must have 1 to {_MAX_NAME} letters, digits, spaces, - and _"
            )
        if any(len(value) > _MAX_VALUE for value in values):
            raise UsageError(f"--metadata {name}: a value has more than {_MAX_VALUE} characters")


# Files


def _hand_over(api: Api, place: int, file: OutgoingFile, handover: Handover) -> Steps[dict[str, Any] | None]:
    """Upload a file that is too large for the request; returns what it is then known by."""
    if file.size_bytes <= handover.inline_bytes:
        return None
    if file.size_bytes <= handover.upload_bytes:
        reference = yield from _upload(api, place, file)
    else:
        reference = yield from _upload_in_parts(api, place, file)
    return {"name": file.name, "mimeType": file.media_type, "length": file.size_bytes, **reference}


def _upload(api: Api, place: int, file: OutgoingFile) -> Steps[dict[str, str]]:
    # The digest of a file does not stand in the file.
    boundary = f"signspool-{file.sha256}"
    name = file.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    opening = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: {file.media_type}\r\n\r\n"
    )
    answer = yield Request(
        "POST",
        f"{api.base_url}/api/plain-uploads",
        {**api.headers, "Content-Type": f"multipart/form-data; boundary={boundary}"},
        content=(opening.encode(), FileContent(place), f"\r\n--{boundary}--\r\n".encode()),
    )
    api.expect(answer, "the upload of a file")
    uploaded = answered_object(answer, "the upload")
    token, link = text(uploaded.get("blobToken")), text(uploaded.get("url")) or text(uploaded.get("location"))
    if not token and not link:
        raise TransientError("the upload of a file was answered without a link: it is tried again")
    return {"blobToken": token} if token else {"url": link}


def _upload_in_parts(api: Api, place: int, file: OutgoingFile) -> Steps[dict[str, str]]:
    # So spelled by the vendor's own clients.
    url = f"{api.base_url}/Api/MultipartUploads"
    answer = yield Request("POST", url, api.headers)
    api.expect(answer, "the upload of a large file")
    begun = answered_object(answer, "the upload")
    token, size = text(begun.get("blobToken")), str(begun.get("partSize"))
    if not re.fullmatch(r"[0-9A-Za-z._~-]+", token) or not re.fullmatch(r"[1-9][0-9]{0,11}", size):
        raise TransientError("the upload of a large file was answered without token and size of a part")
    part_bytes = int(size)
    if file.size_bytes > part_bytes * len(_PART_NUMBERS):
        raise PermanentError("the upload of a large file was answered with too small a size of a part")
    tags = []
    for number, start_bytes in zip(_PART_NUMBERS, range(0, file.size_bytes, part_bytes), strict=False):
        part = FileContent(place, start_bytes=start_bytes, size_bytes=part_bytes)
        answer = yield Request(
            "POST",
            f"{url}/{token}/{number}",
            {**api.headers, "Content-Type": "application/octet-stream"},
            content=(part,),
            content_md5=True,
        )
        api.expect(answer, "a part of a large file")
        tags.append(answer.headers.get("etag", ""))
    ending = json.dumps({"partETags": tags, "completeMD5": None}).encode()
    headers = {**api.headers, "Content-Type": "application/json"}
    answer = yield Request("POST", f"{url}/{token}", headers, content=ending)
    api.expect(answer, "the end of the upload of a large file")
    return {"blobToken": token}


def _request_body(
    body: Mapping[str, Any], order: Order, references: Sequence[Mapping[str, Any] | None]
) -> tuple[bytes | FileContent, ...]:
    """The request as JSON, in which small files stand in base64."""
    if not order.files:
        return (_json(body),)
    options: Options = order.options
    pieces: list[bytes | FileContent] = [_json(body)[:-1] + b', "documents": [']
    for place, (file, reference) in enumerate(zip(order.files, references, strict=True)):
        document: dict[str, Any] = {}
        if options.signature_type:
            document["signatureType"] = options.signature_type
        if options.document_keys:
            document["documentKey"] = options.document_keys[place]
        pieces.append(b", " if place else b"")
        if reference is not None:
            pieces.append(_json({**document, "file": reference}))
            continue
        known_by = {"name": file.name, "mimeType": file.media_type, "length": file.size_bytes, "content": ""}
        # The empty content is the last thing in it, before a quote and two braces.
        shown = _json({**document, "file": known_by})
        pieces += [shown[:-3], FileContent(place, "base64"), shown[-3:]]
    return (*pieces, b"]}")


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


# What was made


def _learn_documents(api: Api, session_id: str, order: Order) -> Steps[tuple[SentDocument, ...]]:
    """The documents of the new session; none if it cannot be read now, since it is there all the same."""
    for _ in range(_READINGS):
        try:
            answer = yield api.get(f"/api/signature-sessions/{session_id}")
            api.expect(answer, "reading the new session")
            found = documents_of(answered_object(answer, "the new session"))
        except SignspoolError:
            continue
        places = _places(found, order)
        ids = [text(document.get("id")) for document in found]
        return tuple(
            SentDocument(document_id, place, {"session": session_id})
            for document_id, place in zip(ids, places, strict=True)
            if document_id
        )
    return ()


def _places(found: Sequence[Mapping[str, Any]], order: Order) -> list[int | None]:
    """Which file each document was made of: by its name, or by its place where names repeat."""
    names = [file.name for file in order.files]
    shown = [_name(document) for document in found]
    if sorted(names) == sorted(shown) and len(set(names)) == len(names):
        return [names.index(name) for name in shown]
    if names == shown:
        return list(range(len(names)))
    return [None] * len(found)


def _name(document: Mapping[str, Any]) -> str:
    original = document.get("originalFile")
    return text(original.get("name")) if isinstance(original, dict) else ""
