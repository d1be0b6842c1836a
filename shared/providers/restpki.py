"""Rest PKI Core (Lacuna Software).

Source: https://docs.lacunasoftware.com (Rest PKI Core), public OpenAPI document, clients; read 2026-11.
Proof:  none over the body; a secret as the control panel sends it: API key, Basic, Bearer, or nothing.
Answer: not public; 200 with our own words.
Resends: not public; what the provider's control panel shows of failed calls is all there is.
File:   GET /api/documents/{id} gives links that soon are stale; the signed file lies behind one of them.
Asked:  sessions, since a cancel, an expiry and an error of the processing are announced by nobody.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal

from pydantic import Field, HttpUrl, SecretStr

from shared.errors import NotProvenError, UnusableBodyError, WaitingError
from shared.events import Event, EventType, Origin
from shared.providers._base import (
    Ask,
    Callback,
    DocumentView,
    Head,
    Order,
    Polled,
    PollView,
    Proof,
    Returned,
    ReturnSettings,
    Sent,
    SignedFiles,
    Steps,
    find_field,
    id_text,
    origin_of,
)
from shared.providers._restpki_api import GUID, Api, text
from shared.providers._restpki_files import signed_files
from shared.providers._restpki_sending import Handover, Options, start_session
from shared.providers._restpki_sessions import (
    COMPLETED,
    EVENT_TYPES,
    Schedule,
    learned_from,
    read_session,
    remembered,
)
from shared.providers._verify import (
    SharedSecretProvider,
    SharedSecretSettings,
    check_address,
    matching_proof,
)

_NO_DOCUMENT = "unknown"
"""Id of callbacks whose type is in no table and that name no document; real ids are GUIDs."""
_SESSION_PARAMETER = "signatureSessionId"
_RETURNED = "session:returned"
"""Our word for a browser that came back, which claims nothing."""
_SCHEME_HEADERS = ("authorization", "authentication")
"""The vendor's pages name the second one for Basic and Bearer, most likely a slip; either is read."""

# Lengths are the vendor's own limits, the number is ours; what lies beyond is left in the spool file.
_MAX_METADATA = 50
_MAX_METADATA_NAME = 50
_MAX_METADATA_VALUE = 500


class Settings(SharedSecretSettings, ReturnSettings):
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
    inline_bytes: int = Field(
        default=1024 * 1024,
        ge=0,
        description="largest file, in bytes, that is sent inside of the request; larger ones are uploaded "
        "before",
    )
    upload_bytes: int = Field(
        default=5 * 1024 * 1024,
        ge=0,
        description="largest file, in bytes, that is uploaded in one piece; larger ones go in parts",
    )
    reference_metadata: str = Field(
        default="reference",
        max_length=50,
        description="name under which the reference of a sending goes into the documents' metadata; "
        "empty leaves it out",
    )
    session_pause_seconds: float = Field(
        default=60,
        gt=0,
        description="shortest pause between two readings of an open session; it grows to a tenth of its age",
    )
    session_longest_pause_seconds: float = Field(
        default=6 * 3600, gt=0, description="longest pause between two readings of an open session"
    )
    session_give_up_seconds: float = Field(
        default=30 * 86_400, gt=0, description="age at which a session that is still open is read no more"
    )
    session_wait_seconds: float = Field(
        default=45,
        ge=0,
        description="how long the provider may hold the call that waits for the end of background "
        "processing (it does so for 15 seconds); 0 only reads the session",
    )


class RestPki(SharedSecretProvider[Settings]):
    """Rest PKI Core: one callback for each signed document, and files behind links that soon are stale."""

    title = "Rest PKI Core"
    number = 2
    id_field = "documentId"
    Settings = Settings
    event_types = {COMPLETED: EventType.COMPLETED, **EVENT_TYPES}
    references = {"session": "id of the signature session, which is then read until it ends"}
    polls = True
    Options = Options

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
            proof = matching_proof(credential, self.settings) if credential else None
            if proof is not None:
                return proof
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
        if callback.origin is Origin.RETURN:
            # Anybody can open that address: it only has the session read.
            return []
        if callback.origin is Origin.POLL:
            return [self._event_of_session(head, callback.json)]
        # A repeated callback differs in the tickets of its links, so its body tells nothing: one document
        # is completed once.
        return [self.event(head, key=self.fold(head.action), **_learned(callback.decoded.value))]

    def _event_of_session(self, head: Head, session: Mapping[str, Any]) -> Event:
        code = text(session.get("processingErrorCode"))
        failed = self.event_type(head.action) is EventType.FAILED
        return self.event(
            head,
            key=self.fold(head.action),
            message=f"processing error {code[:100]}" if code and failed else "",
            **learned_from(session, head.document_id),
        )

    @property
    def origins(self) -> frozenset[str]:
        return frozenset(map(origin_of, map(str, (self.settings.base_url, *self.settings.link_origins))))

    def signed_file(self, document: DocumentView) -> SignedFiles:
        api = self._api("fetch its files")
        return (yield from signed_files(api, document.document_id, with_content=self.settings.fetch_content))

    # Sessions

    def returned(self, callback: Callback) -> Returned:
        session = callback.query.get(_SESSION_PARAMETER, "")
        if not GUID.fullmatch(session):
            raise UnusableBodyError(f"{_SESSION_PARAMETER} is missing, or is no GUID")
        known_by = {_SESSION_PARAMETER: session.lower()}
        return Returned(Head(session.lower(), _RETURNED), known_by, known_by)

    def asks(self, head: Head, callback: Callback) -> Iterable[Ask]:
        if callback.origin is not Origin.RETURN:
            return ()
        if not GUID.fullmatch(head.document_id):
            raise UnusableBodyError("the id of the session is no GUID")
        return (Ask(head.document_id.lower()),)

    def document_ask(self, document: DocumentView) -> Ask | None:
        session = document.references.get("session", "").strip().lower()
        return Ask(session, remembered(document.document_id)) if session else None

    def poll(self, view: PollView) -> Steps[Polled]:
        settings = self.settings
        schedule = Schedule(
            shortest_seconds=settings.session_pause_seconds,
            longest_seconds=settings.session_longest_pause_seconds,
            give_up_seconds=settings.session_give_up_seconds,
            wait_seconds=settings.session_wait_seconds,
        )
        return (yield from read_session(self._api("read its sessions"), view, schedule, self.event_type))

    def send(self, order: Order) -> Steps[Sent]:
        settings = self.settings
        handover = Handover(settings.inline_bytes, settings.upload_bytes, settings.reference_metadata)
        return (yield from start_session(self._api("start sessions"), order, handover))

    def _api(self, purpose: str) -> Api:
        """How requests look with these settings.

        Raises:
            WaitingError: without a key nothing can be asked.
        """
        settings = self.settings
        if settings.token is None:
            raise WaitingError(f"set token under [providers.{self.name}] to {purpose}")
        key = {"X-Api-Key": settings.token.get_secret_value()}
        if settings.subscription:
            key["X-Subscription"] = settings.subscription
        return Api(
            provider=self.name,
            base_url=str(settings.base_url).rstrip("/"),
            origins=self.origins,
            key=key,
            retry_codes=frozenset(settings.retry_codes),
        )


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
    key = text(document.get("key"))
    return {
        **({"document_key": key} if key else {}),
        **dict(islice(_metadata(document.get("metadata")), _MAX_METADATA)),
    }


def _metadata(metadata: object) -> Iterator[tuple[str, str]]:
    for name, values in metadata.items() if isinstance(metadata, dict) else ():
        for place, value in enumerate(values if isinstance(values, list) else [], start=1):
            written = text(value)
            if written and len(written) <= _MAX_METADATA_VALUE and len(name) <= _MAX_METADATA_NAME:
                yield f"metadata.{name}" if place == 1 else f"metadata.{name}.{place}", written


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
