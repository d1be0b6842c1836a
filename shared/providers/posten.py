"""Posten signering (Posten Bring AS, Norway).

Source: https://signering-docs.readthedocs.io, the published schema and clients; read 2026-11.
Proof:  none needed, it never calls: we ask over mutual TLS, and know it by its organisation number.
Answer: none; each update is confirmed by a POST of ours, once it is recorded and its files are stored.
Resends: an update that is not confirmed comes again after 10 minutes.
File:   GET of the message's `pades-url`; `xades-url` for each signer; both are gone once it is confirmed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import quote, urlencode, urlsplit

from pydantic import SecretStr

from shared.errors import (
    NoAnswerError,
    NotProvenError,
    PermanentError,
    TransientError,
    UnusableBodyError,
    UsageError,
    WaitingError,
)
from shared.events import Event, EventType, Origin
from shared.providers._base import (
    Answer,
    Ask,
    Callback,
    DocumentView,
    FetchedFile,
    FileKind,
    Found,
    Head,
    Into,
    Order,
    PeerTls,
    Polled,
    PollView,
    Proof,
    Provider,
    Request,
    Returned,
    Sent,
    SentDocument,
    SignedFile,
    SignedFiles,
    Steps,
    excerpt,
    origin_of,
)
from shared.providers._posten_answers import (
    NO_TIME_SECONDS,
    error_code,
    expect,
    refused_seconds,
    server_time,
    wait_seconds,
)
from shared.providers._posten_job import Job, check, manifest, request_document
from shared.providers._posten_order import PostenOptions, PostenSigner, job_of
from shared.providers._posten_settings import Settings
from shared.providers._posten_words import (
    merged,
    newest,
    remembered,
    semantic_key,
    sentence,
    why_failed,
    xades_urls,
)
from shared.providers._posten_xml import read_created, read_status

_UNREADABLE = Head("unknown", "UNREADABLE")
"""What an update is called that is no message; it goes to quarantine, and is not confirmed."""
RETURN = "RETURN"
"""The action of a browser that came back; it says nothing of itself."""
_XML = {"Accept": "application/xml"}
_FILE = {"Accept": "application/octet-stream, application/xml"}
_TOKEN = "token."  # noqa: S105  (how names begin, no secret)
_MAX_TOKENS = 5
_MAX_REFERENCE, _MAX_TOKEN = 50, 500
_DIRECT_LIFE_SECONDS = 31 * 86_400.0
_CEREMONY_SECONDS = 5.0
_NOW_SECONDS = 2.0
"""A permitted time that is nearer than this is now: one second is the margin, one the Date's."""
_SHORTEST_PAUSE_SECONDS = 1.0


class Posten(Provider[Settings]):
    """Posten signering: queues that are asked, updates that are confirmed, packages that are signed."""

    title = "Posten signering"
    number = 4
    calls_back = False
    # Ten are allowed, and one above that blocks every call for half a minute. They may bunch on their way.
    calls_per_second = 5.0
    Settings = Settings
    event_types = {
        "IN_PROGRESS": EventType.PROGRESS,
        "COMPLETED_SUCCESSFULLY": EventType.COMPLETED,
        "FAILED": EventType.FAILED,
    }
    references = {
        "reference": "your own reference of the job, as it was given when the job was made",
        "cancellation_url": "the address by which the job can be cancelled, from the answer to its making",
    }
    polls = True
    Options = PostenOptions
    Signer = PostenSigner
    sends_whole = True
    can_cancel = True

    # The door

    def why_closed(self) -> str | None:
        return None

    def why_mute(self) -> str | None:
        missing = self._missing()
        return f"it is never asked: set {', '.join(missing)}" if missing else None

    def authenticate(self, callback: Callback) -> Proof:
        raise NotProvenError(f"{self.title} never calls: it is asked")

    def callback_id(self, callback: Callback) -> Head:
        message = read_status(callback.body)
        return Head(message.job_id, message.status)

    def returned(self, callback: Callback) -> Returned:
        reference = callback.query.get("reference", "")
        token = callback.query.get("status_query_token", "")
        if not 0 < len(reference) <= _MAX_REFERENCE or not 0 < len(token) <= _MAX_TOKEN:
            raise UnusableBodyError("a reference of ours and a status_query_token are needed")
        kept = {"reference": reference, "status_query_token": token}
        return Returned(Head(reference, RETURN), kept, {"reference": reference})

    # What is said

    def parse(self, head: Head, callback: Callback) -> list[Event]:
        if callback.origin is Origin.RETURN:
            return []
        message = read_status(callback.body)
        kind = self.event_type(head.action)
        if kind is EventType.UNKNOWN:
            raise UnusableBodyError(
                f"the job status {excerpt(head.action.encode('utf-8', 'replace'), 60)} is not known: "
                f"teach it under actions of [providers.{self.name}], then requeue"
            )
        return [
            Event(
                document_id=head.document_id,
                action=head.action,
                type=why_failed(message) if kind is EventType.FAILED else kind,
                key=semantic_key(message, self.fold(head.action)),
                occurred_at=newest(message),
                message=sentence(message),
                learned=remembered(message, self.fold(head.action)),
                confirmation={"url": message.confirmation_url} if message.confirmation_url else {},
                reference=message.reference,
            )
        ]

    def learn(self, known: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
        finals = frozenset(word for word, kind in self._types.items() if kind.status is not None)
        return merged(known, told, finals=finals)

    def asks(self, head: Head, callback: Callback) -> Iterable[Ask]:
        if callback.origin is not Origin.RETURN:
            return ()
        kept = callback.json
        token = str(kept.get("status_query_token", ""))
        # Anybody can come with a token, so that one does not take the place of another.
        name = _TOKEN + hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:16]
        return (Ask(_direct_job(str(kept.get("reference", ""))), {name: token}),)

    # Asking

    @property
    def origins(self) -> frozenset[str]:
        return frozenset({origin_of(str(self.settings.base_url))})

    @property
    def tls(self) -> PeerTls | None:
        settings = self.settings
        return PeerTls(
            certificate=_text(settings.certificate),
            key=_text(settings.key),
            key_password=_text(settings.key_password),
            authorities=_text(settings.authorities),
            organisation=settings.organisation,
        )

    def standing_asks(self) -> Iterable[Ask]:
        if not self._missing():
            yield from map(Ask, self._queues())

    def _queues(self) -> dict[str, str]:
        """The queues that are asked, and the address of each, whose time is its own."""
        flows = (("portal", self.settings.queues), ("direct", self.settings.direct_queues))
        return {
            f"queue/{flow}/{self.settings.sender}/{name}": self._queue_url(flow, name)
            for flow, names in flows
            for name in names
        }

    def _queue_url(self, flow: str, name: str) -> str:
        query = f"?{urlencode({'polling_queue': name}, quote_via=quote)}" if name else ""
        return f"{self._root}/{flow}/signature-jobs{query}"

    def poll(self, view: PollView) -> Steps[Polled]:
        self._expect_set_up()
        if not view.subject.startswith("queue/"):
            return (yield from self._ask_job(view))
        url = self._queues().get(view.subject)
        if url is None:
            return Polled(None, note="not in the settings any more")
        answer = yield Request("GET", url, _XML)
        if answer.status == 200:
            # Hidden from everybody now for ten minutes, so it is kept whatever it is.
            found = Found(_head_of(answer), answer.body, "application/xml")
            seconds = wait_seconds(answer.headers, 0.0)
            # The permitted time is that of the answer, of which the Date tells whole seconds only.
            return Polled(seconds if seconds > _NOW_SECONDS else 0.0, (found,), note="had an update")
        if answer.status == 204:
            seconds = max(wait_seconds(answer.headers, NO_TIME_SECONDS), _SHORTEST_PAUSE_SECONDS)
            return Polled(seconds, note="empty")
        if answer.status == 429:
            seconds = max(refused_seconds(answer.headers), _SHORTEST_PAUSE_SECONDS)
            return Polled(seconds, note="asked too early")
        expect(answer, "asking the queue")
        raise TransientError(f"asking the queue was answered with {answer.status}, which means nothing there")

    def _ask_job(self, view: PollView) -> Steps[Polled]:
        """Ask about a job of the direct flow with the tokens that browsers brought; one of them is right."""
        status_url = view.memory.get("status_url", "")
        tokens = [(name, token) for name, token in sorted(view.memory.items()) if name.startswith(_TOKEN)]
        rest = {name: text for name, text in view.memory.items() if not name.startswith(_TOKEN)}
        if not status_url:
            return Polled(None, memory=rest, note="no job of this reference was sent from here")
        said = "no browser has come back"
        for _, token in tokens[:_MAX_TOKENS]:
            answer = yield Request("GET", self._followed(_with_token(status_url, token)), _XML)
            if answer.status == 200:
                found = Found(_head_of(answer), answer.body, "application/xml")
                return Polled(None, (found,), memory=rest, note="asked with the token of a browser")
            code = error_code(answer)
            if code == "SIGNING_CEREMONY_NOT_COMPLETED":
                return Polled(_CEREMONY_SECONDS, note="the browser came back sooner than the service knows")
            if code != "INVALID_STATUS_QUERY_TOKEN":
                expect(answer, "asking about the job")
            said = "the token of a browser was none of the service's"
        return Polled(None, memory=rest, note=said)

    # Files, and the word that they are there

    def signed_file(self, document: DocumentView) -> SignedFiles:
        self._expect_set_up()
        url = document.learned.get("pades_url")
        if not url:
            raise WaitingError(
                "no update with the address of the signed file has come: see that its queue is asked, "
                f"signspool providers show {self.name}"
            )
        files = [SignedFile((yield from self._file(url, "the signed PDF")), FileKind.SIGNED, "pades")]
        if not files[0].file.head.startswith(b"%PDF-"):
            raise TransientError("what came in place of the signed PDF is none: it is fetched again")
        if self.settings.fetch_xades:
            for label, address in xades_urls(document.learned):
                signature = yield from self._file(address, "a signer's signature")
                files.append(SignedFile(signature, FileKind.REPORT, f"xades {label}"))
        return files

    def _file(self, url: str, what: str) -> Steps[FetchedFile]:
        answer = yield Request("GET", self._followed(url), _FILE, into=Into.FILE)
        if answer.status in (404, 410):
            raise PermanentError(
                f"{what} was answered with {answer.status}, and it is not stored here: was the job confirmed "
                "by another program? The archive of the service may have it"
            )
        expect(answer, what)
        [fetched] = answer.files
        return fetched

    def confirm(self, document: DocumentView, confirmation: Mapping[str, str]) -> Steps[None]:
        self._expect_set_up()
        answer = yield Request("POST", self._followed(confirmation["url"]), _XML, content=b"")
        # A job that is gone was confirmed before: by us, when the answer was lost, or by an earlier update.
        if answer.status not in (404, 410):
            expect(answer, "the confirmation")

    # Sending and taking back

    def send(self, order: Order) -> Steps[Sent]:
        self._expect_set_up()
        settings = self.settings
        queues = settings.direct_queues if order.options.direct else settings.queues
        exit_url = None if settings.exit_url is None else str(settings.exit_url)
        job = job_of(order, provider=self.name, sender=str(settings.sender), queues=queues, exit_url=exit_url)
        check(job)
        # Before anything is made: whether we are let in, and the time, which may be no 5 seconds off theirs.
        answer = yield Request("GET", self._root, {"Accept": "text/plain, application/xml"})
        expect(answer, "asking who we are")
        content_type, body = self._packed(job, server_time(answer))
        flow = "portal" if job.exit_urls is None else "direct"
        answer = yield Request(
            "POST",
            f"{self._root}/{flow}/signature-jobs",
            {**_XML, "Content-Type": content_type},
            content=body,
            effect=True,
        )
        expect(answer, "making the job")
        return self._sent(order, answer)

    def _packed(self, job: Job, now: datetime) -> tuple[str, bytes]:
        """Content-Type and body of the request for a job, its package signed as of now."""
        # What signs is slow to load, and most processes never send anything.
        from shared.providers._posten_asice import (  # noqa: PLC0415
            MANIFEST_NAME,
            Entry,
            load_signing_key,
            multipart,
            package,
        )

        settings = self.settings
        key = load_signing_key(
            _text(settings.certificate).encode(),
            _text(settings.key).encode(),
            _text(settings.key_password).encode() or None,
        )
        entries = [Entry(file.entry, file.media_type, file.content) for file in job.documents]
        entries.append(Entry(MANIFEST_NAME, "application/xml", manifest(job)))
        return multipart(request_document(job), package(entries, key, now))

    def _sent(self, order: Order, answer: Answer) -> Sent:
        try:
            created = read_created(answer.body)
        except UnusableBodyError as error:
            raise NoAnswerError(f"the job was made, but the answer cannot be read: {error}") from None
        references = {"reference": order.reference, "cancellation_url": created.cancellation_url}
        asks = []
        if created.status_url:
            # Asked about when its browser has come back; before that only a token is missing.
            memory = {"status_url": created.status_url}
            asks.append(Ask(_direct_job(order.reference), memory, after_seconds=_DIRECT_LIFE_SECONDS))
        return Sent(
            envelope_id=created.job_id,
            documents=(SentDocument(created.job_id, references={k: v for k, v in references.items() if v}),),
            redirect_url=created.signers[0].redirect_url if created.signers else "",
            asks=tuple(asks),
        )

    def cancel(self, document: DocumentView) -> Steps[str]:
        self._expect_set_up()
        known = {**document.references, **document.learned}
        if "cancellation_url" not in known:
            raise UsageError(
                f"document {document.document_id[:40]} cannot be cancelled: it has ended, is of the direct "
                "flow, or its address for that is not known"
            )
        answer = yield Request("POST", self._followed(known["cancellation_url"]), _XML, content=b"")
        if answer.status in (404, 409, 410):
            return "it has ended already: its result comes by the queue"
        expect(answer, "cancelling")
        return "cancelled: the change of status comes by the queue"

    # Pieces

    @property
    def _root(self) -> str:
        return f"{str(self.settings.base_url).rstrip('/')}/{self.settings.sender}"

    def _expect_set_up(self) -> None:
        if missing := self._missing():
            raise WaitingError(f"set {', '.join(missing)} under [providers.{self.name}]")

    def _missing(self) -> list[str]:
        """Settings without which nothing can be asked."""
        needed = ("sender", "certificate", "key", "authorities")
        return [name for name in needed if getattr(self.settings, name) is None]

    def _followed(self, url: str) -> str:
        """An address out of a message, when it may be followed: our certificate goes along.

        Raises:
            PermanentError: it is not of the configured host, or not https.
        """
        try:
            origin = origin_of(url)
        except ValueError:
            origin = "none at all"
        if origin not in self.origins or not origin.startswith("https:"):
            where = excerpt(origin.encode("utf-8", "replace"), 80)
            raise PermanentError(
                f"an address in the message leads to {where}, which is not the host of base_url: "
                "it is not followed"
            )
        return url


def _text(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def _head_of(answer: Answer) -> Head:
    try:
        message = read_status(answer.body)
    except UnusableBodyError:
        return _UNREADABLE
    return Head(message.job_id, message.status)


def _direct_job(reference: str) -> str:
    return f"job/{reference}"


def _with_token(url: str, token: str) -> str:
    """A status address with the token in its query, whose other parts stay as they are."""
    joint = "&" if urlsplit(url).query else "?"
    return f"{url}{joint}{urlencode({'status_query_token': token})}"
