"""The JSON of Rest PKI Core: documents and files in the shapes that they have had over the years."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from simulator.callbacks import Body
from simulator.peer import StoredFile

FileName = Literal["original-file", "marked-file", "signed-file"]
Link = Callable[["Document", FileName], str]
"""Makes a new link to a file."""

_AVAILABLE = datetime(2030, 1, 1, tzinfo=UTC)


class Shape(StrEnum):
    """Form of documents and files, in answers and callbacks."""

    CURRENT = "current"
    """`url` and `mimeType`, `signers` and `metadata`, `Pdf`."""
    OLD = "old"
    """`location` and `contentType` alone, `status`, `Pades`, and no metadata: as of 2020."""


class SignatureType(StrEnum):
    """What a signed file is."""

    PDF = "Pdf"
    CMS = "Cms"
    XML = "Xml"


_OLD_TYPES = {SignatureType.PDF: "Pades", SignatureType.CMS: "Cades", SignatureType.XML: "XmlDSig"}


@dataclass
class Document:
    """A document of a signature session.

    `signed_at` is None until the user has signed; the signed file is there once it was processed.
    """

    id: str
    key: str
    files: dict[FileName, StoredFile]
    metadata: dict[str, list[str]]
    signature_type: SignatureType
    signed_at: datetime | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it is signed and processed."""
        return "signed-file" in self.files


def formatted(key: str) -> str:
    """A document key as people read it, in groups of four."""
    return "-".join(key[place : place + 4] for place in range(0, len(key), 4))


def document_json(document: Document, shape: Shape, link: Link, *, with_content: bool) -> Body:
    """A document as the API and callbacks have it; `with_content` its files stand inside, without links."""
    files = {
        name: _file_json(document, place, shape, link, with_content=with_content)
        for name, place in _FILES.items()
    }
    names = {"id": document.id, "key": document.key, "formattedKey": formatted(document.key)}
    if shape is Shape.OLD:
        del files["markedFile"]
        return {
            **names,
            **files,
            "status": "Completed" if document.is_complete else "PendingSignature",
            "signatureType": _OLD_TYPES[document.signature_type],
        }
    return {
        "signers": signers_json(document),
        "metadata": document.metadata,
        **names,
        **files,
        "signatureType": document.signature_type,
        "availableUntil": _AVAILABLE.isoformat(),
    }


_FILES: dict[str, FileName] = {
    "originalFile": "original-file",
    "markedFile": "marked-file",
    "signedFile": "signed-file",
}


def _file_json(
    document: Document, name: FileName, shape: Shape, link: Link, *, with_content: bool
) -> Body | None:
    file = document.files.get(name)
    if file is None:
        return None
    url = None if with_content else link(document, name)
    old = {"name": file.name, "length": len(file.content), "contentType": file.media_type, "location": url}
    if shape is Shape.OLD:
        return old
    content = base64.b64encode(file.content).decode("ascii") if with_content else None
    return {"mimeType": file.media_type, "content": content, "blobToken": None, "url": url, **old}


def signers_json(document: Document) -> list[Body]:
    """Who has signed a document."""
    if document.signed_at is None:
        return []
    certificate = {
        "thumbprint": "78785300913FB340D6ADC12FA2A9F21CF1498703",
        "subjectCommonName": "SIGNATARIA EXEMPLO:12345678909",
        "subjectDisplayName": "SIGNATARIA EXEMPLO",
        "subjectIdentifier": "12345678909",
        "emailAddress": "signataria@example.com",
        "organization": None,
    }
    return [{"certificate": certificate, "date": document.signed_at.isoformat()}]
