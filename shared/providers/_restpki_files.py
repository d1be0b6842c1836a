"""Files of Rest PKI Core: behind links that soon are stale, or inside of the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

from shared.errors import NotReadyError, PermanentError, TransientError, WaitingError
from shared.providers._base import (
    Answer,
    FetchedFile,
    FileKind,
    Into,
    Request,
    SignedFile,
    SignedFiles,
    Steps,
    answered_object,
    excerpt,
    expect_success,
    origin_of,
)
from shared.providers._restpki_api import Api, text

_DOCUMENT_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_CMS = frozenset({"CMS", "CADES"})
"""Signature types whose signed file is no PDF but a CMS file; the second is the word of old versions."""
_SIGNED = ("signedFile",)
_CONTENT = ("markedFile", "originalFile")
"""What was signed: the marked file where there is one, since the marks are put on before the signature."""


@dataclass(frozen=True, slots=True)
class _Document:
    """A document as it was answered, with its links, and the files that stood inside of the answer."""

    model: Mapping[str, Any]
    inside: tuple[FetchedFile, ...]

    def file(self, names: tuple[str, ...]) -> Mapping[str, Any]:
        """The first of the named files that it has.

        Raises:
            NotReadyError: it has none of them.
        """
        for name in names:
            found = self.model.get(name)
            if isinstance(found, dict):
                return found
        raise NotReadyError(f"the document has no {names[0]} yet")

    def content(self, file: Mapping[str, Any]) -> FetchedFile | None:
        """The content of one of its files, if it stood in the answer."""
        place = str(file.get("content"))
        if place.isascii() and place.isdigit() and int(place) < len(self.inside):
            media_type = text(file.get("mimeType")) or text(file.get("contentType"))
            return replace(self.inside[int(place)], media_type=media_type)
        return None


def signed_files(api: Api, document_id: str, *, with_content: bool) -> SignedFiles:
    """Fetch the signed file, and `with_content` that which was signed, where the signature stands apart.

    The links in a callback are never followed: it proves little, and they are old by now.
    """
    if not _DOCUMENT_ID.fullmatch(document_id):
        raise PermanentError("the id is none of Rest PKI Core's, whose ids are GUIDs: see who sent this")
    document = yield from _read(api, document_id)
    wanted: list[tuple[FileKind, tuple[str, ...]]] = [(FileKind.SIGNED, _SIGNED)]
    if with_content and text(document.model.get("signatureType")).upper() in _CMS:
        wanted.append((FileKind.ORIGINAL, _CONTENT))
    files = []
    for kind, names in wanted:
        file = yield from _fetch(api, document_id, document, names)
        files.append(SignedFile(file, kind, str(kind)))
    return files


def _read(api: Api, document_id: str) -> Steps[_Document]:
    """The document as it is now, with links that are fresh."""
    answer = yield api.get_with_files(f"/api/documents/{document_id}")
    api.expect(answer, "reading the document")
    return _Document(answered_object(answer, "the document"), answer.files)


def _fetch(api: Api, document_id: str, document: _Document, names: tuple[str, ...]) -> Steps[FetchedFile]:
    """One file of a document; when its link is stale, by a fresh one."""
    file = document.file(names)
    answer = yield from _get(api, document, file)
    if _is_stale(answer):
        document = yield from _read(api, document_id)
        file = document.file(names)
        answer = yield from _get(api, document, file)
        if _is_stale(answer):
            raise TransientError(
                f"the link to {names[0]} was answered with {answer.status}, and so was a fresh one: "
                "the document is read again later"
            )
    expect_success(answer, f"the link to {names[0]}")
    [fetched] = answer.files
    length = str(file.get("length"))
    if length.isascii() and length.isdigit() and length != str(fetched.size_bytes):
        raise TransientError(
            f"{fetched.size_bytes} bytes came of {names[0]}, which has {length[:20]}: it is fetched again"
        )
    return replace(fetched, name=text(file.get("name")) or fetched.name)


def _get(api: Api, document: _Document, file: Mapping[str, Any]) -> Steps[Answer]:
    """A file: out of the answer if it stood there, else what its link leads to, by one redirect at most.

    Raises:
        NotReadyError: there is no link.
        TransientError: the link leads to a second redirect, or to nowhere.
        As `_behind_link`.
    """
    content = document.content(file)
    if content is not None:
        return Answer(200, {}, files=(content,))
    link = text(file.get("url")) or text(file.get("location"))
    if not link:
        raise NotReadyError("the file has no link yet")
    request = _behind_link(api, f"{api.base_url}/", _below_endpoint(api.base_url, link))
    answer = yield request
    if _is_redirect(answer) and answer.headers.get("location"):
        answer = yield _behind_link(api, request.url, answer.headers["location"])
    if _is_redirect(answer):
        raise TransientError(
            f"the link to the file was answered with {answer.status}, a redirect to nowhere or the second "
            "one in a row: it is tried again later"
        )
    return answer


def _behind_link(api: Api, start: str, link: str) -> Request:
    """The request for what a link leads to; a relative one is seen from `start`.

    Raises:
        WaitingError: it leads to a host that no setting names.
        PermanentError: it is no link.
    """
    try:
        url = urljoin(start, link)
        origin = origin_of(url)
    except ValueError:
        raise PermanentError("the link to the file is no http address: look at the document there") from None
    if origin not in api.origins:
        host = excerpt(origin.encode("utf-8", "replace"))
        raise WaitingError(
            f"the link to the file leads to {host}: if that is right, "
            f"add it to link_origins under [providers.{api.provider}]"
        )
    # The link itself is the permission. The key goes along to those who gave it to us, and to no other.
    key = api.key if origin == api.own_origin else {}
    return Request("GET", url, headers=key, into=Into.FILE, redirects=True)


def _below_endpoint(base_url: str, link: str) -> str:
    """A link as seen from the endpoint, whose path a relative one may repeat or not."""
    path = urlsplit(base_url).path
    if link.startswith("/") and not link.startswith(("//", f"{path}/")):
        return f"{path}{link}"
    return link


def _is_redirect(answer: Answer) -> bool:
    return 300 <= answer.status < 400


def _is_stale(answer: Answer) -> bool:
    """Whether a link is no good any more. Which status says so is not public: any that blames the request."""
    return 400 <= answer.status < 500 and answer.status not in (408, 429)
