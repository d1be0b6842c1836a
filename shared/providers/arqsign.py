"""ArqSign (Arquivar).

Source: https://arquivar.gitbook.io/manual-arqsign, its older edition, and a public receiver; read 2026-11.
Proof:  header `HMAC`, HMAC-SHA256 over the raw body, in base64 as that receiver has it (observed 2024-12).
Answer: 200 and nothing else; 401, 403 and 404 switch the whole webhook off, so a refusal is 400.
Resends: 13 times within 15 days of the first attempt, then the trigger is switched off.
File:   GET .../processo/{idProcesso}; files come in every state and count only when it says `Concluído`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from pydantic import Field, HttpUrl, SecretStr, field_validator

from shared.errors import (
    NotProvenError,
    NotReadyError,
    PermanentError,
    TransientError,
    UnusableBodyError,
    WaitingError,
)
from shared.events import Event, EventType
from shared.providers._base import (
    Answer,
    Callback,
    DocumentView,
    FileKind,
    Head,
    Into,
    Proof,
    Provider,
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
    HmacSettings,
    check_hmac,
    hmac_evidence,
    judge_hmac_again,
    why_closed,
)

_SWITCHES_OFF = frozenset({401, 403, 404})
"""Answers after which ArqSign calls no more, until a person switches the webhook on again."""

_PROCESS_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_YEARS = range(2000, 2200)
"""A date that was never set comes as the year 1."""

_OWN_DATES = {
    EventType.CANCELLED: "datacancelamento",
    EventType.DECLINED: "datacancelamento",
    EventType.EXPIRED: "dataexpiracao",
    EventType.REOPENED: "datareenvio",
}
"""Where a callback with process data says when the thing itself happened."""

_FILE_FIELDS = frozenset({"base64documento", "documento", "base64registro", "base64", "arquivo"})
"""Every name, of either generation, under which a file stands."""


class _Generation(NamedTuple):
    base_url: HttpUrl
    process_path: str


_GENERATIONS = {
    "v2": _Generation(HttpUrl("https://api-rest.arqsign.com"), "/api/v2/processo/{idProcesso}"),
    "v1": _Generation(HttpUrl("https://api.arqsign.com"), "/api/v1/processo/{idProcesso}"),
}


class Settings(HmacSettings):
    """Settings of ArqSign."""

    refused_status: int = Field(
        default=400,
        description=(
            "answer to a callback that is not proven; "
            "401, 403 and 404 would switch the customer's webhook off"
        ),
        ge=400,
        le=599,
    )
    id_fields: list[str] = Field(
        default=["idProcesso"], description="fields of a callback that name the process", min_length=1
    )
    generation: Literal["v2", "v1"] = Field(
        default="v2",
        description="edition of the API: v2 is current and takes two keys, v1 was announced to end in 2024",
    )
    base_url: HttpUrl | None = Field(default=None, description="API root, when not that of the generation")
    process_path: str | None = Field(
        default=None,
        description="path of the call for a process with its files, when not that of the generation",
        pattern=r"^/.*\{idProcesso\}",
        examples=["/api/v2/processo/{idProcesso}"],
    )
    app_key: SecretStr | None = Field(default=None, description="the account's AppKey", min_length=1)
    app_key_header: str = Field(default="AppKey", description="header that carries the AppKey", min_length=1)
    subscription_key: SecretStr | None = Field(
        default=None, description="either of the account's two subscription keys; v2 alone", min_length=1
    )
    subscription_key_header: str = Field(
        default="SubscriptionKey", description="header that carries the subscription key", min_length=1
    )
    fetch_record: bool = Field(default=True, description="keep the signature record of each file too")
    not_ready_wait_seconds: float = Field(
        default=900.0,
        description="wait before a process that is not concluded is asked for again; calls are counted",
        ge=0,
    )
    over_quota_statuses: list[int] = Field(
        default=[429, 403], description="answers that mean that the account has used up its calls"
    )
    over_quota_wait_seconds: float = Field(
        default=3600.0, description="wait after such an answer, when it names no time itself", ge=0
    )

    @field_validator("refused_status")
    @classmethod
    def _harmless(cls, value: int) -> int:
        if value in _SWITCHES_OFF:
            raise ValueError("401, 403 and 404 switch the customer's webhook off: take another, like 400")
        return value


class ArqSign(Provider[Settings]):
    """ArqSign: signed callbacks with three kinds of evidence for what happened, processes that reopen."""

    title = "ArqSign"
    number = 3
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
    }

    @staticmethod
    def fold(action: str) -> str:
        """Without accents, letter case and superfluous white space."""
        plain = "".join(
            char for char in unicodedata.normalize("NFKD", action) if not unicodedata.combining(char)
        )
        return " ".join(plain.casefold().split())

    def why_closed(self) -> str | None:
        return why_closed(self.settings)

    def authenticate(self, callback: Callback) -> Proof:
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
        fields = _Fields(body)
        said = list(_evidence(fields))
        if not said:
            raise UnusableBodyError("evento is missing, and so are idEvento and status")
        known = (action for action in said if self.event_type(action) is not EventType.UNKNOWN)
        # Of what nobody knows, the event's own word is what people want to read.
        return Head(document_id, next(known, "") or _text(fields.get("evento")) or said[0])

    def parse(self, head: Head, callback: Callback) -> list[Event]:
        value = callback.decoded.value
        body = _Fields(value if isinstance(value, dict) else {})
        kind, refusal = self.event_type(head.action), _refusal(body.get("signatarios"))
        by_status = self.fold(head.action).startswith(("status:", "idstatus:"))
        if kind is EventType.CANCELLED and by_status and refusal is not None:
            # There is no status for a refusal: it is a cancelled process in which somebody has refused.
            kind = EventType.DECLINED
        said_at = _instant(body.get("datahoraatual"))
        own = _instant(body.get(_OWN_DATES.get(kind, "")))
        # Data of the process may be those of today rather than those of the event.
        at = own if own is not None and (said_at is None or own <= said_at) else said_at
        message = ""
        if kind is EventType.DECLINED:
            message = refusal or ""
        elif self.fold(head.action) == self.fold("idEvento:2"):
            message = "ArqSign could not reach a signer: correct the address there"
        return [
            Event(
                head.document_id,
                head.action,
                kind,
                _key(kind, at, callback.body),
                occurred_at=at,
                message=message,
            )
        ]

    @property
    def origins(self) -> frozenset[str]:
        return frozenset({origin_of(self._base_url)})

    def signed_file(self, document: DocumentView) -> SignedFiles:
        if not _PROCESS_ID.fullmatch(document.document_id):
            raise PermanentError("this is no id of a process: it cannot stand in the address of a call")
        settings = self.settings
        if settings.app_key is None:
            raise WaitingError(
                f"set app_key (and subscription_key for v2) under [providers.{self.name}] to fetch its files"
            )
        headers = {settings.app_key_header: settings.app_key.get_secret_value()}
        if settings.subscription_key is not None:
            headers[settings.subscription_key_header] = settings.subscription_key.get_secret_value()
        path = settings.process_path or _GENERATIONS[settings.generation].process_path
        url = self._base_url + path.replace("{idProcesso}", quote(document.document_id, safe=""))
        answer = yield Request("GET", url, headers, into=Into.JSON_TREE, file_fields=_FILE_FIELDS)
        self._expect_process(answer)
        process = _Fields(answered_object(answer, "the process"))
        status = _text(process.get("status"))
        if self.event_type(f"status:{status}") is not EventType.COMPLETED:
            raise NotReadyError(
                f"the status is {excerpt(status.encode(), 40)!r}, not Concluído: its files are not signed",
                retry_after_seconds=settings.not_ready_wait_seconds,
            )
        return self._files(process, answer)

    @property
    def _base_url(self) -> str:
        return str(self.settings.base_url or _GENERATIONS[self.settings.generation].base_url).rstrip("/")

    def _expect_process(self, answer: Answer) -> None:
        """Return when the answer is a success, else raise what its status means here.

        Raises:
            WaitingError: 401, the AppKey was replaced; 404, there is no such call: both are for a person.
            TransientError: the account has used up its calls, or the server has trouble.
            PermanentError: 400, the process is unknown or deleted; any other status.
        """
        settings = self.settings
        if answer.status in settings.over_quota_statuses:
            asked = retry_after_seconds(answer.headers)
            raise TransientError(
                f"ArqSign answered with {answer.status}: the account's calls are used up, it is asked later",
                retry_after_seconds=settings.over_quota_wait_seconds if asked is None else asked,
            )
        if answer.status == 401:
            raise WaitingError(
                "ArqSign accepts our keys no more (a new AppKey ends the old one at once): set app_key and "
                f"subscription_key under [providers.{self.name}], then retry"
            )
        if answer.status == 404:
            raise WaitingError(
                "ArqSign knows no such call: correct generation, base_url or process_path under "
                f"[providers.{self.name}], then retry"
            )
        expect_success(answer, "the process")

    def _files(self, process: _Fields, answer: Answer) -> list[SignedFile]:
        """The files of a concluded process in their order, each before its signature record.

        Raises:
            NotReadyError: one has no content.
        """
        documents = _documents(process)
        if not documents:
            raise NotReadyError(
                "the process has no documents yet",
                retry_after_seconds=self.settings.not_ready_wait_seconds,
            )
        files = []
        for place, document in enumerate(documents, start=1):
            source = _source(document.get("id"), place)
            content = document.first("base64documento", "documento")
            label = document.first("nomedocumento", "nomecomextensao")
            files.append(self._file(answer, FileKind.SIGNED, source, content, label))
            if self.settings.fetch_record:
                files += [
                    self._file(
                        answer,
                        FileKind.REPORT,
                        source if number == 1 else f"{source}:{number}",
                        record.first("base64", "base64registro", "arquivo"),
                        record.first("nome", "nomeregistro"),
                    )
                    for number, record in enumerate(document.records(), start=1)
                ]
        return files

    def _file(
        self, answer: Answer, kind: FileKind, source: str, content: object, label: object
    ) -> SignedFile:
        try:
            file = answer.files[int(str(content))]
        except (ValueError, IndexError):
            raise NotReadyError(
                f"the {kind} file {source} has no content yet",
                retry_after_seconds=self.settings.not_ready_wait_seconds,
            ) from None
        named = replace(file, name=_text(label), media_type="application/pdf")
        return SignedFile(named, kind, f"{kind}:{source}")


class _Fields:
    """The fields of an object, found whatever the letter case of their names and the space around them."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._values: dict[str, Any] = {}
        for name, found in value.items():
            self._values.setdefault(name.strip().casefold(), found)

    def get(self, name: str) -> Any:
        """The value of a field, its name in lower case; None where there is none."""
        return self._values.get(name)

    def first(self, *names: str) -> Any:
        """The first value of these fields that is not null."""
        return next((value for name in names if (value := self.get(name)) is not None), None)

    def records(self) -> list[_Fields]:
        """The signature records: the API has one object, a public receiver expects a list."""
        found = self.get("registroassinaturas")
        return _objects(found if isinstance(found, list) else [found])


def _objects(values: object) -> list[_Fields]:
    """The objects of a list; nothing of anything else."""
    return [
        _Fields(value) for value in (values if isinstance(values, list) else []) if isinstance(value, dict)
    ]


def _evidence(body: _Fields) -> Iterator[str]:
    """What a callback says of what happened, as actions, the strongest evidence first."""
    if event_id := _text(body.get("idevento")):
        yield f"idEvento:{event_id}"
    if event := _text(body.get("evento")):
        yield event
    if status_id := _text(body.first("idstatusprocesso", "idstatus")):
        yield f"idStatus:{status_id}"
    if status := _text(body.first("statusprocesso", "status")):
        yield f"status:{status}"


def _refusal(signers: object) -> str | None:
    """Why somebody refused to sign, empty when no reason is given; None when nobody has refused."""
    for signer in _objects(signers):
        if str(signer.get("assinaturarecusada")).strip().casefold() == "true":
            return _text(signer.get("motivorecusa"))
    return None


def _key(kind: EventType, at: datetime | None, body: bytes) -> str:
    """What makes two callbacks of a process say the same thing.

    A process is concluded once; of the rest that claims a status, when it happened tells the second time from
    the first one sent again. What claims none comes once for each signer.
    """
    if kind is EventType.COMPLETED:
        return kind
    if kind.status is None:
        return f"{kind}:{hashlib.sha256(body).hexdigest()[:32]}"
    return f"{kind}:{at.isoformat() if at else ''}"


def _instant(value: object) -> datetime | None:
    """A date of ArqSign, in UTC when it names no zone: `dd/mm/yyyy hh:mm:ss` or ISO 8601; None for others."""
    text = _text(value)
    try:
        if re.match(r"\d\d/", text):
            found = datetime.strptime(text, "%d/%m/%Y %H:%M:%S")  # noqa: DTZ007  (its zone is set below)
        else:
            found = datetime.fromisoformat(text)
        if found.year not in _YEARS:
            return None
    except ValueError:
        return None
    return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).astimezone(UTC)


def _documents(process: _Fields) -> Sequence[_Fields]:
    """The documents of a process in their order: v2 has a list of them, v1 a single one beside its record."""
    single = process.get("documento")
    if isinstance(single, dict):
        return [_Fields({**single, "registroAssinaturas": process.get("registroassinaturas")})]
    documents = _objects(process.get("documentos"))
    places = {id(document): place for place, document in enumerate(documents, start=1)}

    def order(document: _Fields) -> int:
        text = _text(document.get("ordemdocumento"))
        return int(text) if re.fullmatch(r"\d{1,6}", text) else places[id(document)]

    return sorted(documents, key=order)


def _source(document_id: object, place: int) -> str:
    """Where a file came from, the same whenever it is fetched: the document's id, or its place."""
    text = _text(document_id)
    return text if _PROCESS_ID.fullmatch(text) else str(place)


def _text(value: object) -> str:
    """A text, or a number as it was written, without the white space around it; empty for all else."""
    return value.strip().encode("utf-8", "replace").decode() if isinstance(value, str) else ""
