"""ArqSign (Arquivar).

Source: https://arquivar.gitbook.io/manual-arqsign, its older edition, and a public receiver; read 2026-11.
Proof:  header `HMAC`, HMAC-SHA256 over the raw body, in base64 as that receiver has it (observed 2024-12).
Answer: 200 and nothing else; 401, 403 and 404 switch the whole webhook off, so a refusal is 400.
Resends: 13 times within 15 days of the first attempt, then the trigger is switched off.
File:   GET .../processo/{idProcesso}; files come in every state and count only when it says `Concluído`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from shared.errors import NotProvenError, NotReadyError, UnusableBodyError
from shared.events import Event, EventType, Origin
from shared.providers._arqsign_api import Api, is_process_id
from shared.providers._arqsign_polling import (
    EXPIRES,
    EXPIRY_PASSED,
    NOT_KNOWN,
    RESENT,
    UNKNOWN_PROCESS,
    poll_process,
)
from shared.providers._arqsign_sending import (
    ArqSignOptions,
    ArqSignSigner,
    cancel_process,
    send_order,
)
from shared.providers._arqsign_settings import Settings
from shared.providers._arqsign_words import (
    OWN_DATES,
    Fields,
    evidence,
    fold,
    instant,
    refusal,
    semantic_key,
    text,
)
from shared.providers._base import (
    Ask,
    Callback,
    DocumentView,
    Head,
    Limits,
    Order,
    Polled,
    PollView,
    Proof,
    Provider,
    Sent,
    SignedFiles,
    Steps,
    excerpt,
    find_field,
    id_text,
)
from shared.providers._verify import check_hmac, hmac_evidence, judge_hmac_again, why_closed


class ArqSign(Provider[Settings]):
    """ArqSign: signed callbacks with three kinds of evidence for what happened, processes that reopen, and
    accounts that are asked within a quota."""

    title = "ArqSign"
    number = 3
    polls = True
    can_cancel = True
    Options = ArqSignOptions
    Signer = ArqSignSigner
    Settings = Settings
    event_types = {
        "idEvento:1": EventType.SENT,
        "idEvento:2": EventType.PROGRESS,
        "idEvento:3": EventType.PROGRESS,
        "idEvento:4": EventType.DECLINED,
        "idEvento:5": EventType.CANCELLED,
        "idEvento:6": EventType.EXPIRED,
        "idEvento:7": EventType.REOPENED,
        "idEvento:8": EventType.COMPLETED,
        "ProcessoConcluido": EventType.COMPLETED,
        "idStatus:1": EventType.PROGRESS,
        "idStatus:2": EventType.PROGRESS,
        "idStatus:3": EventType.PROGRESS,
        "idStatus:4": EventType.COMPLETED,
        "idStatus:5": EventType.CANCELLED,
        "status:Criado": EventType.PROGRESS,
        "status:Aguardando": EventType.PROGRESS,
        "status:Em processo": EventType.PROGRESS,
        "status:Concluído": EventType.COMPLETED,
        "status:Cancelado": EventType.CANCELLED,
        EXPIRY_PASSED: EventType.EXPIRED,
        RESENT: EventType.REOPENED,
        "erro:Documento excluído": EventType.DELETED,
        UNKNOWN_PROCESS: EventType.PROGRESS,
    }

    @staticmethod
    def fold(action: str) -> str:
        """Without accents, letter case and superfluous white space."""
        return fold(action)

    @property
    def expects_callbacks(self) -> bool:
        return self.settings.webhooks

    def why_closed(self) -> str | None:
        return why_closed(self.settings) if self.settings.webhooks else None

    def authenticate(self, callback: Callback) -> Proof:
        if not self.settings.webhooks:
            raise NotProvenError(
                "no callback is expected: webhooks is false", status=self.settings.refused_status
            )
        try:
            return check_hmac(self.settings, callback)
        except NotProvenError as error:
            raise NotProvenError(str(error), status=self.settings.refused_status) from None

    def evidence(self, callback: Callback) -> dict[str, str]:
        return hmac_evidence(self.settings, callback)

    def judge_again(self, callback: Callback) -> Proof:
        return judge_hmac_again(self.settings, callback)

    def callback_id(self, callback: Callback) -> Head:
        body = callback.json
        name, value = find_field(body, *self.settings.id_fields)
        document_id = id_text(value, name)
        fields = Fields(body)
        said = list(evidence(fields))
        if not said:
            raise UnusableBodyError("evento is missing, and so are idEvento and status")
        known = (action for action in said if self.event_type(action) is not EventType.UNKNOWN)
        # Of what nobody knows, the event's own word is what people want to read.
        return Head(document_id, next(known, "") or text(fields.get("evento")) or said[0])

    def parse(self, head: Head, callback: Callback) -> list[Event]:
        value = callback.decoded.value
        body = Fields(value if isinstance(value, dict) else {})
        kind, refused = self.event_type(head.action), refusal(body.get("signatarios"))
        by_status = self.fold(head.action).startswith(("status:", "idstatus:"))
        if kind is EventType.CANCELLED and by_status and refused is not None:
            # There is no status for a refusal: it is a cancelled process in which somebody has refused.
            kind = EventType.DECLINED
        said_at = instant(body.get("datahoraatual"))
        own = instant(body.get(OWN_DATES.get(kind, "")))
        # Data of the process may be those of today rather than those of the event.
        at = own if own is not None and (said_at is None or own <= said_at) else said_at
        message = ""
        if kind is EventType.DECLINED:
            message = refused or ""
        elif self.fold(head.action) == self.fold("idEvento:2"):
            message = "ArqSign could not reach a signer: correct the address there"
        elif head.action.startswith("erro:"):
            message = f"ArqSign does not know this process: {excerpt(callback.body)}"
        expires_at = instant(body.get("dataexpiracao")) if self.settings.poll else None
        return [
            Event(
                head.document_id,
                head.action,
                kind,
                semantic_key(kind, at, callback.body),
                occurred_at=at,
                message=message,
                learned={} if expires_at is None else {EXPIRES: expires_at.isoformat()},
            )
        ]

    @property
    def _api(self) -> Api:
        return Api(self.name, self.settings)

    @property
    def origins(self) -> frozenset[str]:
        return frozenset({self._api.origin})

    def signed_file(self, document: DocumentView) -> SignedFiles:
        answer = yield self._api.process(document.document_id)
        process = self._api.object_of(answer, "the process")
        status = text(process.get("status"))
        if self.event_type(f"status:{status}") is not EventType.COMPLETED:
            raise NotReadyError(
                f"the status is {excerpt(status.encode(), 40)!r}, not Concluído: its files are not signed",
                retry_after_seconds=self.settings.not_ready_wait_seconds,
            )
        return self._api.files(process, answer)

    # Asking

    @property
    def limits(self) -> Limits | None:
        return self.settings.limits

    def document_ask(self, document: DocumentView) -> Ask | None:
        if not self.settings.poll or not is_process_id(document.document_id):
            return None
        # Each process has its own time of the day.
        digest = hashlib.sha256(document.document_id.encode()).digest()
        share = int.from_bytes(digest[:6]) / 2**48
        return self._ask(document.document_id, document.learned.get(EXPIRES, ""), share)

    def asks(self, head: Head, callback: Callback) -> Iterable[Ask]:
        resent = self.event_type(head.action) is EventType.REOPENED
        if not (resent and self.settings.poll and callback.origin is not Origin.POLL):
            return []
        value = callback.decoded.value
        body = Fields(value if isinstance(value, dict) else {})
        expires_at = instant(body.get("dataexpiracao"))
        # Another day than before: where it is not told, it is asked for.
        expires = NOT_KNOWN if expires_at is None else expires_at.isoformat()
        return [self._ask(head.document_id, expires, 1.0)]

    def _ask(self, process_id: str, expires: str, share: float) -> Ask:
        return Ask(
            process_id,
            {EXPIRES: expires} if expires else {},
            expires_at=instant(expires),
            after_seconds=share * self.settings.poll_interval_seconds,
        )

    def poll(self, view: PollView) -> Steps[Polled]:
        errors = [word for word in (*self.event_types, *self.settings.actions) if word.startswith("erro:")]
        return poll_process(self._api, view, self.event_type, errors)

    # Sending

    def send(self, order: Order) -> Steps[Sent]:
        return send_order(self._api, order)

    def cancel(self, document: DocumentView) -> Steps[str]:
        return cancel_process(self._api, document.document_id)
