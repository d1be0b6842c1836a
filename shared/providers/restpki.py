"""Rest PKI Core (Lacuna Software).

Source: https://docs.lacunasoftware.com (Rest PKI Core), public OpenAPI document, clients; read 2026-11.
Proof:  none over the body; a secret as the control panel sends it: API key, Basic, Bearer, or nothing.
Answer: not public; 200 with our own words.
Resends: not public; what the provider's control panel shows of failed calls is all there is.
File:   GET /api/documents/{id} gives links that soon are stale; the signed file lies behind one of them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Literal, TypeVar
from urllib.parse import urljoin, urlsplit

from pydantic import Field, HttpUrl, SecretStr

from shared.errors import (
    NotProvenError,
    NotReadyError,
    PermanentError,
    TransientError,
    UnusableBodyError,
    WaitingError,
)
from shared.events import Event, EventType, Trust
from shared.providers._base import (
    Answer,
    Callback,
    DocumentView,
    FetchedFile,
    FileKind,
    Head,
    Into,
    Proof,
    Request,
    SignedFile,
    SignedFiles,
    answered_object,
    excerpt,
    expect_success,
    find_field,
    id_text,
    origin_of,
    retry_after_seconds,
)
from shared.providers._verify import (
    SharedSecretProvider,
    SharedSecretSettings,
    check_address,
    matching_key,
)

T = TypeVar("T")
_Steps = Generator[Request, Answer, T]

_NO_DOCUMENT = "unknown"
"""Id of callbacks whose type is in no table and that name no document; real ids are GUIDs."""
_SCHEME_HEADERS = ("authorization", "authentication")
"""The vendor's pages name the second one for Basic and Bearer, most likely a slip; either is read."""
_DOCUMENT_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_CMS = frozenset({"CMS", "CADES"})
"""Signature types whose signed file is no PDF but a CMS file; the second is the word of old versions."""
_SIGNED = ("signedFile",)
_CONTENT = ("markedFile", "originalFile")
"""What was signed: the marked file where there is one, since the marks are put on before the signature."""

# Lengths are the vendor's own limits, the number is ours; what lies beyond is left in the spool file.
_MAX_METADATA = 50
_MAX_METADATA_NAME = 50
_MAX_METADATA_VALUE = 500


class Settings(SharedSecretSettings):
    """Settings of Rest PKI Core."""

    # More words than the base has, whose own checks are asked about its own words alone.
    authentication: Literal["header", "basic", "bearer", "query", "none"] | None = Field(  # type: ignore[assignment]
        default=None,
        description=(
            'how the secret comes: "header" (default; the panel\'s API Key), "basic" (the secret is then '
            'USER:PASSWORD), "bearer", "query", or "none" to accept anybody'
        ),
    )
    secret_header: str = Field(
        default="X-Api-Key", description="header that carries the secret of an API Key", min_length=1
    )
    base_url: HttpUrl = Field(
        default=HttpUrl("https://core.pki.rest"),
        description="endpoint; the test instance is https://homolog.core.pki.rest",
    )
    token: SecretStr | None = Field(
        default=None, description="API key of the application, whole, with what stands before the | in it"
    )
    subscription: str | None = Field(
        default=None, description="id of the subscription, when the API key may act for several"
    )
    link_origins: list[HttpUrl] = Field(
        default_factory=list,
        description="further hosts that links to files may lead to; they are never sent the API key",
    )
    fetch_content: bool = Field(
        default=False, description="of a CMS signature, fetch the signed content too, as kind original"
    )
    retry_codes: list[str] = Field(
        default=["BackgroundProcessing"],
        description="codes of a 422 answer that mean later; every other one is for good",
    )


class RestPki(SharedSecretProvider[Settings]):
    """Rest PKI Core: one callback for each signed document, and files behind links that soon are stale."""

    title = "Rest PKI Core"
    number = 2
    id_field = "documentId"
    Settings = Settings
    event_types = {"DocumentSignatureCompleted": EventType.COMPLETED}

    def why_closed(self) -> str | None:
        closed = super().why_closed()
        if closed is None and self.settings.authentication == "basic":
            for key_id, secret in self.settings.all_secrets().items():
                if ":" not in secret.get_secret_value():
                    return f'with authentication = "basic" a secret is USER:PASSWORD, and {key_id} is not'
        return closed

    def authenticate(self, callback: Callback) -> Proof:
        scheme = self.settings.authentication
        if scheme not in ("basic", "bearer"):
            return super().authenticate(callback)
        check_address(self.settings, callback)
        given = [callback.headers[name] for name in _SCHEME_HEADERS if callback.headers.get(name)]
        if not given:
            raise NotProvenError("the header Authorization, or Authentication, is missing")
        # A proxy may have put a header of its own beside the provider's, so either may be the right one.
        for value in given:
            credential = _credential(value, scheme)
            key_id = matching_key(credential, self.settings.all_secrets()) if credential else None
            if key_id is not None:
                return Proof(Trust.PROVEN, key_id)
        raise NotProvenError(f"the header Authorization, or Authentication, has not the right {scheme} value")

    def callback_id(self, callback: Callback) -> Head:
        body = callback.json
        name, value = find_field(body, "type")
        action = id_text(value, name)
        try:
            return Head(_document_id(body), action)
        except UnusableBodyError:
            # There is one type so far. A new one may be about something else than a document, and is kept.
            if self.event_type(action) is EventType.UNKNOWN:
                return Head(_NO_DOCUMENT, action)
            raise

    def parse(self, head: Head, callback: Callback) -> list[Event]:
        # A repeated callback differs in the tickets of its links, so its body tells nothing: one document
        # is completed once.
        return [self.event(head, key=head.action.strip().upper(), **_learned(callback.decoded.value))]

    @property
    def origins(self) -> frozenset[str]:
        return frozenset(map(origin_of, map(str, (self.settings.base_url, *self.settings.link_origins))))

    def signed_file(self, document: DocumentView) -> SignedFiles:
        if self.settings.token is None:
            raise WaitingError(f"set token under [providers.{self.name}] to fetch its files")
        if not _DOCUMENT_ID.fullmatch(document.document_id):
            raise PermanentError("the id is none of Rest PKI Core's, whose ids are GUIDs: see who sent this")
        # The links in the callback are never followed: it proves little, and they are old by now.
        model = yield from self._read(document.document_id)
        wanted: list[tuple[FileKind, tuple[str, ...]]] = [(FileKind.SIGNED, _SIGNED)]
        if self.settings.fetch_content and _text(model.get("signatureType")).upper() in _CMS:
            wanted.append((FileKind.ORIGINAL, _CONTENT))
        files = []
        for kind, names in wanted:
            file = yield from self._download(document.document_id, model, names)
            files.append(SignedFile(file, kind, str(kind)))
        return files

    def _read(self, document_id: str) -> _Steps[dict[str, Any]]:
        """The document as it is now, with links that are fresh."""
        headers = {"Accept": "application/json", **self._key}
        answer = yield Request("GET", f"{self._base_url}/api/documents/{document_id}", headers=headers)
        self._expect_document(answer)
        return answered_object(answer, "the document")

    def _download(
        self, document_id: str, model: Mapping[str, Any], names: tuple[str, ...]
    ) -> _Steps[FetchedFile]:
        """One file of a document; when its link is stale, by a fresh one."""
        file = _file_in(model, names)
        answer = yield self._behind_link(file)
        if _is_stale(answer):
            file = _file_in((yield from self._read(document_id)), names)
            answer = yield self._behind_link(file)
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
        return replace(fetched, name=_text(file.get("name")) or fetched.name)

    def _behind_link(self, file: Mapping[str, Any]) -> Request:
        """The request for what a file's link leads to.

        Raises:
            NotReadyError: there is no link.
            WaitingError: it leads to a host that no setting names.
            PermanentError: it is no link.
        """
        link = _text(file.get("url")) or _text(file.get("location"))
        if not link:
            raise NotReadyError("the file has no link yet")
        try:
            url = _from_endpoint(self._base_url, link)
            origin = origin_of(url)
        except ValueError:
            raise PermanentError(
                "the link to the file is no http address: look at the document there"
            ) from None
        if origin not in self.origins:
            host = excerpt(origin.encode("utf-8", "replace"))
            raise WaitingError(
                f"the link to the file leads to {host}: if that is right, "
                f"add it to link_origins under [providers.{self.name}]"
            )
        # The link itself is the permission. The key goes along to those who gave it to us, and to no other.
        own = origin == origin_of(self._base_url)
        return Request("GET", url, headers=self._key if own else {}, into=Into.FILE)

    def _expect_document(self, answer: Answer) -> None:
        """Return when a document was answered, else raise what the status and the code mean."""
        said = f"reading the document was answered with {answer.status}"
        if answer.status == 422:
            code = _word_in(answer, "code")
            if code in self.settings.retry_codes:
                raise NotReadyError(f"{said} {code}: not ready")
            raise PermanentError(f"{said} {code}: look at the document at the provider")
        if answer.status == 404:
            raise PermanentError(f"{said}: correct base_url, or look for the document at the provider")
        if answer.status == 500:
            raise TransientError(
                f"{said}, exception {_word_in(answer, 'exceptionCode')}",
                retry_after_seconds=retry_after_seconds(answer.headers),
            )
        expect_success(answer, "reading the document")

    @property
    def _base_url(self) -> str:
        return str(self.settings.base_url).rstrip("/")

    @property
    def _key(self) -> dict[str, str]:
        """The headers that say who asks."""
        settings = self.settings
        assert settings.token is not None
        headers = {"X-Api-Key": settings.token.get_secret_value()}
        if settings.subscription:
            headers["X-Subscription"] = settings.subscription
        return headers


def _document_id(body: Mapping[str, Any]) -> str:
    """The id of the document that a callback is about.

    Raises:
        UnusableBodyError: there is none.
    """
    name, document = find_field(body, "document")
    if not isinstance(document, dict):
        raise UnusableBodyError(f"{name} must be an object")
    id_name, value = find_field(document, "id")
    return id_text(value, f"{name}.{id_name}")


def _learned(body: object) -> dict[str, str]:
    """What a callback tells besides: the document's key, and its metadata, where our own reference stands.

    The first value of a name is `metadata.NAME`, the second `metadata.NAME.2`, and so on.
    """
    document = body.get("document") if isinstance(body, dict) else None
    if not isinstance(document, dict):
        return {}
    key = _text(document.get("key"))
    return {
        **({"document_key": key} if key else {}),
        **dict(islice(_metadata(document.get("metadata")), _MAX_METADATA)),
    }


def _metadata(metadata: object) -> Iterator[tuple[str, str]]:
    for name, values in metadata.items() if isinstance(metadata, dict) else ():
        for place, value in enumerate(values if isinstance(values, list) else [], start=1):
            text = _text(value)
            if text and len(text) <= _MAX_METADATA_VALUE and len(name) <= _MAX_METADATA_NAME:
                yield f"metadata.{name}" if place == 1 else f"metadata.{name}.{place}", text


def _credential(header: str, scheme: str) -> str:
    """What stands behind the scheme word, for Basic `user:password`; empty when the header is another's."""
    word, _, rest = header.partition(" ")
    if word.lower() != scheme:
        return ""
    if scheme == "bearer":
        return rest.strip()
    try:
        # The bytes read as latin-1, as those of every other header.
        return base64.b64decode(rest.strip()).decode("latin-1")
    except ValueError:
        return ""


def _file_in(model: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    """The first of the named files that a document has.

    Raises:
        NotReadyError: it has none of them.
        PermanentError: the file stands in the answer itself, where nothing reads it.
    """
    for name in names:
        file = model.get(name)
        if isinstance(file, dict):
            if _text(file.get("content")) and not (file.get("url") or file.get("location")):
                raise PermanentError(
                    f"{name} comes without a link, inside of the answer: ask for links there"
                )
            return file
    raise NotReadyError(f"the document has no {names[0]} yet")


def _from_endpoint(base_url: str, link: str) -> str:
    """The address that a link means; a relative one starts at the endpoint, whose path it may repeat or not.

    Raises:
        ValueError: it cannot be one.
    """
    path = urlsplit(base_url).path
    if link.startswith("/") and not link.startswith(("//", f"{path}/")):
        link = f"{path}{link}"
    return urljoin(f"{base_url}/", link)


def _is_stale(answer: Answer) -> bool:
    """Whether a link is no good any more. Which status says so is not public: any that blames the request."""
    return 400 <= answer.status < 500 and answer.status not in (408, 429)


def _word_in(answer: Answer, name: str) -> str:
    """A code that stands in an error answer, fit for a message."""
    try:
        code = _text(answered_object(answer, "the error").get(name))
    except TransientError:
        code = ""
    return excerpt(code.encode("utf-8", "replace"), 60) if code else f"without {name}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
