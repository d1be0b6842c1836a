"""Rest PKI Core as its fact sheet describes it: sessions, documents, links with tickets, callbacks."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit, urlunsplit

from simulator.callbacks import Body
from simulator.files import make_pdf
from simulator.peer import PeerError, StoredFile
from simulator.restpki_shapes import Document, SignatureType
from simulator.restpki_store import COMPLETED, NAMESPACE, CodedError, Store

_FOUR_HOURS_SECONDS = 4 * 3600.0


class SessionStatus(StrEnum):
    """How a session stands."""

    PENDING = "Pending"
    PROCESSING = "Processing"
    COMPLETED = "Completed"
    CANCELLED = "UserCancelled"
    EXPIRED = "Expired"
    ERROR = "ProcessingError"


@dataclass
class Session:
    """A signature session. `token` opens its page. With `by_user` the documents come from the user.

    `signed_at` is the clock's time of the signature; `end` is how it ended when not by being completed.
    """

    id: str
    token: str
    document_ids: list[str]
    began_at: float
    return_url: str | None = None
    callback_argument: str | None = None
    background: bool = False
    disable_downloads: bool = False
    by_user: bool = False
    metadata: dict[str, list[str]] = field(default_factory=dict)
    requirements: list[Body] = field(default_factory=list)
    signed_at: float | None = None
    end: SessionStatus | None = None
    error_code: str | None = None


@dataclass
class RestPki(Store):
    """All that Rest PKI Core knows, and its switches, which `docs/simulators.md` describes."""

    documents_on_cancel: Literal["empty", "null", "kept"] = "empty"
    session_seconds: float = _FOUR_HOURS_SECONDS
    processing_seconds: float | None = 0.0
    holding_seconds: float = 15.0
    refuses_waiting_at_end: bool = True
    status_word: str = ""
    sessions: dict[str, Session] = field(default_factory=dict)

    # What applications begin

    def send(
        self,
        name: str = "P100001-001.pdf",
        *,
        metadata: dict[str, list[str]] | None = None,
        signature_type: SignatureType = SignatureType.PDF,
        marked: bool = False,
    ) -> Document:
        """Put a made file into a session of its own, as an application or a user would."""
        original = StoredFile(name, "application/pdf", make_pdf(name))
        document = self.add(original, metadata=metadata, signature_type=signature_type, marked=marked)
        self.open([document])
        return document

    def open(
        self,
        documents: Sequence[Document],
        callback_argument: str | None = None,
        *,
        by_user: bool = False,
        **more: Any,
    ) -> Session:
        """Make a session of documents, or one whose documents come from the user."""
        with self._lock:
            session_id = str(uuid.uuid5(NAMESPACE, f"session {len(self.sessions)}"))
            token = hashlib.sha256(f"page of {session_id}".encode()).hexdigest()
            session = Session(
                session_id,
                token,
                [document.id for document in documents],
                self.clock(),
                callback_argument=callback_argument,
                by_user=by_user,
                **more,
            )
            self.sessions[session_id] = session
            return session

    def session(self, session_id: str) -> Session:
        """The session with this id.

        Raises:
            CodedError: there is none.
        """
        session = self.sessions.get(session_id.lower())
        if session is None:
            raise CodedError("SignatureSessionNotFound", f"Signature session not found: {session_id}")
        return session

    def session_of_page(self, token: str) -> Session:
        """The session that a page belongs to.

        Raises:
            PeerError: 404, there is none.
        """
        for session in self.sessions.values():
            if session.token == token:
                return session
        raise PeerError(404, "this page does not exist")

    # What people do

    def happen(self, subject: str, action: str) -> Body:
        """Let something happen: to a session `sign`, `cancel`, `expire`, `fail`, `finish`, and to a document
        the one thing that is called back, whose body is returned.

        Raises:
            PeerError: 422, no such document or session; 400, no such action; 409, it cannot happen any more.
        """
        if subject in self.sessions:
            acts = {
                "sign": self.sign,
                "cancel": self.cancel,
                "expire": self.expire,
                "fail": self.fail,
                "finish": self.finish,
            }
            if action not in acts:
                raise PeerError(400, f"of a session the action must be one of {', '.join(acts)}")
            acts[action](subject)
            session = self.session(subject)
            return {
                "session": session.id,
                "status": self.status_of(session),
                "redirect": self.return_address(session),
            }
        if action != COMPLETED:
            raise PeerError(400, f"the type must be {COMPLETED}")
        return self.complete(subject)

    def sign(self, session_id: str) -> None:
        """The user signs; with background processing the documents are ready later."""
        with self._lock:
            session = self._pending(session_id)
            if not session.document_ids:
                name = "Documento do usuario.pdf"
                self.upload_by_user(session, StoredFile(name, "application/pdf", make_pdf(name)))
            session.signed_at = self.clock()
            for document_id in session.document_ids:
                self.documents[document_id].signed_at = datetime.now(UTC)
            if not session.background or self.processing_seconds == 0:
                self._complete_all(session)
            elif self.processing_seconds is not None:
                self._process(session, self.processing_seconds)

    def upload_by_user(self, session: Session, file: StoredFile) -> None:
        """The user of a session brings a document.

        Raises:
            PeerError: 409, the session has its documents from the start.
        """
        if not session.by_user:
            raise PeerError(409, "no document can be added to this session")
        session.document_ids.append(self.add(file, metadata=dict(session.metadata)).id)

    def cancel(self, session_id: str) -> None:
        """The user gives up."""
        self._end(session_id, SessionStatus.CANCELLED)

    def expire(self, session_id: str) -> None:
        """The session's time is over."""
        self._end(session_id, SessionStatus.EXPIRED)

    def fail(self, session_id: str, code: str = "ValidationError") -> None:
        """The processing of what the user has signed ends with an error."""
        with self._lock:
            session = self.session(session_id)
            if self.status_of(session) not in (SessionStatus.PENDING, SessionStatus.PROCESSING):
                raise PeerError(409, f"the session is {self.status_of(session)}")
            session.end, session.error_code = SessionStatus.ERROR, code

    def finish(self, session_id: str) -> None:
        """The processing ends well, also after an error, since the server tries again by itself."""
        with self._lock:
            session = self.session(session_id)
            if self.status_of(session) not in (SessionStatus.PROCESSING, SessionStatus.ERROR):
                raise PeerError(409, f"the session is {self.status_of(session)}")
            session.end, session.error_code = None, None
            self._complete_all(session)

    def _end(self, session_id: str, end: SessionStatus) -> None:
        with self._lock:
            self._pending(session_id).end = end

    def _pending(self, session_id: str) -> Session:
        session = self.session(session_id)
        status = self.status_of(session)
        if status is not SessionStatus.PENDING:
            raise PeerError(409, f"the session is {status}")
        return session

    def _process(self, session: Session, seconds: float) -> None:
        """Complete the documents one after the other within the time."""
        for place, document_id in enumerate(session.document_ids, start=1):
            wait_seconds = seconds * place / len(session.document_ids)
            timer = threading.Timer(wait_seconds, self._processed, (session, document_id))
            timer.daemon = True
            timer.start()

    def _processed(self, session: Session, document_id: str) -> None:
        with self._lock:
            if session.end is None:
                self.complete(document_id)

    def _complete_all(self, session: Session) -> None:
        for document_id in session.document_ids:
            self.complete(document_id)

    # What applications read

    def status_of(self, session: Session) -> SessionStatus:
        """How a session stands now."""
        with self._lock:
            complete = [self.documents[document_id].is_complete for document_id in session.document_ids]
            if session.end is not None:
                return session.end
            if complete and all(complete):
                return SessionStatus.COMPLETED
            if session.signed_at is not None or any(complete):
                return SessionStatus.PROCESSING
            if self.clock() - session.began_at >= self.session_seconds:
                session.end = SessionStatus.EXPIRED
            return session.end or SessionStatus.PENDING

    def progress(self, session: Session) -> float:
        """The share of the documents that are complete, from 0 to 100."""
        documents = [self.documents[document_id] for document_id in session.document_ids]
        return 100.0 * sum(document.is_complete for document in documents) / max(1, len(documents))

    def return_address(self, session: Session) -> str | None:
        """Where the user's browser is sent, if anywhere."""
        if session.return_url is None:
            return None
        parts = urlsplit(session.return_url)
        added = urlencode({"signatureSessionId": session.id})
        return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))

    def read_session(self, session_id: str) -> Body:
        """A session with the status of each of its documents, and fresh links.

        Raises:
            CodedError: there is none.
        """
        with self._lock:
            session = self.session(session_id)
            status = self.status_of(session)
            documents: list[Body] | None = [
                self._in_session(self.documents[document_id], status) for document_id in session.document_ids
            ]
            if status is SessionStatus.CANCELLED and self.documents_on_cancel != "kept":
                documents = [] if self.documents_on_cancel == "empty" else None
            return {
                "id": session.id,
                "status": self.status_word or status,
                "processingErrorCode": session.error_code,
                "callbackArgument": session.callback_argument,
                "signerCertificate": None,
                "documents": documents,
            }

    def _in_session(self, document: Document, session: SessionStatus) -> Body:
        if document.is_complete:
            status = "Completed"
        elif session in (SessionStatus.PROCESSING, SessionStatus.ERROR):
            status = session
        else:
            status = "PendingSignature"
        shown = {
            **self.shown(document),
            "status": status,
            "dateSigned": document.signed_at.isoformat() if document.signed_at else None,
        }
        return {name: value for name, value in shown.items() if name not in ("signers", "metadata")}

    @property
    def summary(self) -> dict[str, Any]:
        """The state without file contents, tickets and addresses of pages."""
        with self._lock:
            return {
                "documents": [
                    {
                        "id": document.id,
                        "signed": document.is_complete,
                        "files": {name: file.summary for name, file in document.files.items()},
                    }
                    for document in self.documents.values()
                ],
                "sessions": [
                    {"id": session.id, "status": self.status_of(session), "documents": session.document_ids}
                    for session in self.sessions.values()
                ],
                "webhooks": [
                    {"document": call.document_id, "statuses": call.statuses} for call in self.webhooks
                ],
            }
