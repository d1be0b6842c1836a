"""What ArqSign knows: processes with their files and signers, and the callbacks about what happens."""

from __future__ import annotations

import base64
import hmac
import threading
import unicodedata
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any

from simulator.callbacks import Body
from simulator.files import make_pdf
from simulator.peer import PeerError, StoredFile

_NAMESPACE = uuid.UUID("2b5a0c86-6a0e-4a39-9a30-a79118c5cc8a")
_SECOND = timedelta(seconds=1)


class Trigger(IntEnum):
    """What a webhook can be set to tell."""

    SENT = 1
    DELIVERY_FAILED = 2
    ONE_SIGNED = 3
    REFUSED = 4
    CANCELLED = 5
    EXPIRED = 6
    RESENT = 7
    CONCLUDED = 8


class Status(IntEnum):
    """The status of a process. There is none for one that expired, and none for one that was refused."""

    CRIADO = 1
    AGUARDANDO = 2
    EM_PROCESSO = 3
    CONCLUIDO = 4
    CANCELADO = 5


STATUS_WORDS = {
    Status.CRIADO: "Criado",
    Status.AGUARDANDO: "Aguardando",
    Status.EM_PROCESSO: "Em processo",
    Status.CONCLUIDO: "Concluído",
    Status.CANCELADO: "Cancelado",
}


class LetterCase(StrEnum):
    """How the names of fields begin."""

    CAMEL = "camel"
    PASCAL = "pascal"


class WordAs(StrEnum):
    """How the words of a status are written."""

    PRINTED = "printed"
    """As the manual has them."""
    UPPER = "upper"
    LOWER = "lower"
    PLAIN = "plain"
    """Without accents."""


class RecordAs(StrEnum):
    """Form of a document's signature record."""

    OBJECT = "object"
    """One object with `nome` and `base64`."""
    LIST = "list"
    """A list of objects with `nomeRegistro` and `base64Registro`."""


@dataclass
class Signer:
    """A person who is to sign."""

    id: str
    name: str
    signed_at: datetime | None = None
    refusal: str | None = None


@dataclass
class Process:
    """Documents on their way through signing, and the dates of what happened."""

    id: str
    name: str
    originals: list[StoredFile]
    signers: list[Signer]
    sent_at: datetime
    expires_at: datetime
    status: Status = Status.AGUARDANDO
    concluded_at: datetime | None = None
    cancelled_at: datetime | None = None
    resent_at: datetime | None = None
    signed: list[StoredFile] = field(default_factory=list)
    records: list[StoredFile] = field(default_factory=list)
    deleted: bool = False
    ordered: Body = field(default_factory=dict)
    """What it was sent with, without the files."""

    def document_id(self, place: int) -> str:
        """The id of a document, counted from 1."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.id} {place}"))


@dataclass
class ArqSign:
    """All that ArqSign knows, and a switch for each thing that is not public.

    Callbacks: `letter_case`, `with_event_id`, `with_process`, `with_signers`, `with_documents` form the body;
    `words` are the texts of `evento` by trigger; `dates_as_iso` writes `dataHoraAtual` like the other dates,
    and `renews_dates` renews it when a callback is sent again; `hmac_as_hex` writes the HMAC in hexadecimal.
    API: `letter_case`, `word_as` and `record_as` form the answer, `created_status` is that of the calls which
    the manual prints with 201, `signed_size_bytes` is the length that signed files are padded to,
    `errors_as_json` puts a refusal into an object. `calls_left` counts down, and at 0 every call is answered
    with `over_quota_status`, and Retry-After if `retry_after_seconds` is given. `revoke` ends the key.

    Its clock is its own: every event is at least one second after the one before.
    """

    app_key: str = "11111111-2222-4333-8444-555555555555"
    subscription_key: str = "simulated-subscription-key"
    secret: str = "9a8b7c6d-0000-4000-8000-00000000beef"  # noqa: S105  (a simulated one)
    letter_case: LetterCase = LetterCase.CAMEL
    with_event_id: bool = True
    with_process: bool = True
    with_signers: bool = False
    with_documents: bool = False
    words: dict[Trigger, str] = field(default_factory=lambda: {Trigger.CONCLUDED: "ProcessoConcluido"})
    dates_as_iso: bool = False
    renews_dates: bool = False
    hmac_as_hex: bool = False
    record_as: RecordAs = RecordAs.OBJECT
    word_as: WordAs = WordAs.PRINTED
    errors_as_json: bool = False
    created_status: int = 201
    signed_size_bytes: int | None = None
    calls_left: int | None = None
    over_quota_status: int = 429
    retry_after_seconds: int | None = None
    processes: dict[str, Process] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def next_id(self) -> str:
        """The id that the next process will have."""
        return str(uuid.uuid5(_NAMESPACE, str(len(self.processes))))

    def revoke(self) -> str:
        """Make a new AppKey, which ends the old one at once; returns it."""
        with self._lock:
            self.app_key = str(uuid.uuid5(_NAMESPACE, self.app_key))
            return self.app_key

    def create(
        self, name: str, originals: list[StoredFile], signers: list[str], expires_after_days: int = 30
    ) -> Process:
        """Make a process and send it.

        Raises:
            PeerError: 400, nothing to sign or nobody to do it.
        """
        if not originals or not signers:
            raise PeerError(400, "documentos ou destinatarios não informados")
        with self._lock:
            self.now += _SECOND
            number = len(self.processes)
            people = [
                Signer(str(uuid.uuid5(_NAMESPACE, f"{number} {place}")), who)
                for place, who in enumerate(signers)
            ]
            process_id = self.next_id
            expires_at = self.now + timedelta(days=expires_after_days)
            process = Process(process_id, name, originals, people, self.now, expires_at)
            self.processes[process_id] = process
            return process

    def send(self, name: str = "Contrato 2026-0042", *, files: int = 1, signers: int = 1) -> Process:
        """Send as many made files to as many signers, as an application would."""
        originals = [
            StoredFile(f"contrato-{place}.pdf", "application/pdf", make_pdf(f"{name}\nArquivo {place}"))
            for place in range(1, files + 1)
        ]
        return self.create(name, originals, [f"Signatária {place}" for place in range(1, signers + 1)])

    def process(self, process_id: str) -> Process:
        """The process with this id.

        Raises:
            PeerError: 400, there is none, or it was deleted: ArqSign does not say 404.
        """
        found = self.processes.get(process_id)
        if found is None:
            raise PeerError(400, "Processo não encontrado.")
        if found.deleted:
            raise PeerError(400, "Documento excluído.")
        return found

    # What happens: each returns the callback body.

    def happen(self, process_id: str, trigger: Trigger | int | str, reason: str = "Cláusula 3.") -> Body:
        """Let what a trigger stands for happen; `reason` is that of a refusal.

        Raises:
            PeerError: 400, no such process or trigger; 422, it cannot happen any more.
        """
        try:
            trigger = Trigger(int(trigger))
        except ValueError:
            raise PeerError(400, "the trigger must be a number from 1 to 8") from None
        with self._lock:
            process = self.process(process_id)
            ended = process.status is Status.CONCLUIDO
            if ended or (process.status is Status.CANCELADO and trigger is not Trigger.RESENT):
                raise PeerError(422, f"the process is {STATUS_WORDS[process.status]}")
            self.now += _SECOND
            signer = next((person for person in process.signers if person.signed_at is None), None)
            if trigger in (Trigger.ONE_SIGNED, Trigger.REFUSED, Trigger.DELIVERY_FAILED) and signer is None:
                raise PeerError(422, "everybody has signed")
            self._change(process, trigger, signer, reason)
            concerned = (
                [signer] if signer and trigger in (Trigger.ONE_SIGNED, Trigger.DELIVERY_FAILED) else None
            )
            return self._said(process, trigger, concerned or process.signers)

    def conclude(self, process_id: str) -> Body:
        """Everybody has signed: from now on the files are the signed ones."""
        return self.happen(process_id, Trigger.CONCLUDED)

    def _change(self, process: Process, trigger: Trigger, signer: Signer | None, reason: str) -> None:
        if trigger is Trigger.ONE_SIGNED and signer is not None:
            signer.signed_at = self.now
            process.status = Status.EM_PROCESSO
        elif trigger is Trigger.REFUSED and signer is not None:
            signer.refusal = reason
            process.status, process.cancelled_at = Status.CANCELADO, self.now
        elif trigger is Trigger.CANCELLED:
            process.status, process.cancelled_at = Status.CANCELADO, self.now
        elif trigger is Trigger.EXPIRED:
            process.expires_at = self.now
        elif trigger is Trigger.RESENT:
            process.status, process.cancelled_at, process.resent_at = Status.EM_PROCESSO, None, self.now
            process.expires_at = self.now + timedelta(days=30)
            for person in process.signers:
                person.refusal = None
        elif trigger is Trigger.CONCLUDED:
            for person in process.signers:
                person.signed_at = person.signed_at or self.now
            process.status, process.concluded_at = Status.CONCLUIDO, self.now
            self._sign(process)

    def _sign(self, process: Process) -> None:
        for place, original in enumerate(process.originals, start=1):
            about = f"{original.name}\nProcesso {process.id}\nArquivo {place}"
            content = make_pdf(f"Assinado: {about}", self.signed_size_bytes)
            process.signed.append(StoredFile(original.name, "application/pdf", content))
            stem = original.name.rpartition(".")[0] or original.name
            record = make_pdf(f"Registro de assinaturas: {about}")
            name = f"{stem}_Registro de assinaturas.pdf"
            process.records.append(StoredFile(name, "application/pdf", record))

    # What is said

    def proof(self, body: bytes) -> dict[str, str]:
        """The header that ArqSign sends with these bytes."""
        digest = hmac.digest(self.secret.encode(), body, "sha256")
        return {"HMAC": digest.hex() if self.hmac_as_hex else base64.b64encode(digest).decode("ascii")}

    def again(self, body: Body) -> Body:
        """A callback as it is sent a second time."""
        with self._lock:
            self.now += _SECOND
            name = next(name for name in body if name.casefold() == "datahoraatual")
            return {**body, name: self._said_at()} if self.renews_dates else dict(body)

    def _said_at(self) -> str | None:
        return _iso(self.now) if self.dates_as_iso else self.now.strftime("%d/%m/%Y %H:%M:%S")

    def _said(self, process: Process, trigger: Trigger, signers: list[Signer]) -> Body:
        body: Body = {
            "evento": self.words.get(trigger, "<event name not public>"),
            "idProcesso": process.id,
            "idConta": str(uuid.uuid5(_NAMESPACE, "account")),
            "idWebhook": str(uuid.uuid5(_NAMESPACE, "webhook")),
            "dataHoraAtual": self._said_at(),
        }
        if self.with_event_id:
            body["idEvento"] = int(trigger)
        if self.with_process:
            status = self.word(process.status)
            body |= {"statusProcesso": status, "idStatusProcesso": int(process.status), **_dates(process)}
            body["nomeProcesso"] = process.name
        if self.with_signers:
            body["signatarios"] = [_signer(person) for person in signers]
        if self.with_documents:
            body["documentos"] = self._documents(process)
        spelled: Body = self.spelled(body)
        return spelled

    def described(self, process_id: str, generation: int) -> Body:
        """The answer to the call for a process with its files, in the form of API generation 1 or 2.

        Raises:
            PeerError: 400, there is no such process.
        """
        with self._lock:
            process = self.process(process_id)
            body: Body = {"nomeProcesso": process.name, "status": self.word(process.status)}
            body |= {**_dates(process), "signatarios": [_signer(person) for person in process.signers]}
            if generation == 1:
                file = (process.signed or process.originals)[0]
                document = {"nomeComExtensao": file.name, "contentType": file.media_type}
                body["documento"] = document | {"documento": _base64(file)}
                record = process.records[0] if process.records else None
                body["registroAssinaturas"] = record and {"nome": record.name, "arquivo": _base64(record)}
            else:
                body["documentos"] = self._documents(process)
            spelled: Body = self.spelled(body)
            return spelled

    def people(self, process_id: str) -> Body:
        """The answer to the call for the signers: status and expiry too, no files and nothing of refusals.

        Raises:
            PeerError: 400, there is no such process.
        """
        with self._lock:
            process = self.process(process_id)
            body: Body = {"nomeProcesso": process.name, "status": self.word(process.status)}
            body["dataExpiracao"] = _iso(process.expires_at)
            body["signatarios"] = [
                {
                    "ordem": place,
                    "IdProcessoDestinatario": person.id,
                    "nome": person.name,
                    "email": "signataria@example.com",
                    "tipoAcao": "Assina Online",
                    "assinado": person.signed_at is not None,
                }
                for place, person in enumerate(process.signers, start=1)
            ]
            spelled: Body = self.spelled(body)
            return spelled

    def word(self, status: Status) -> str:
        """The word of a status, written as the switch says."""
        word = STATUS_WORDS[status]
        if self.word_as is WordAs.PLAIN:
            return unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
        written = {WordAs.UPPER: word.upper(), WordAs.LOWER: word.lower()}
        return written.get(self.word_as, word)

    def _documents(self, process: Process) -> list[Body]:
        return [
            {
                "id": process.document_id(place),
                "ordemDocumento": place,
                "nomeDocumento": file.name,
                "base64Documento": _base64(file),
                "registroAssinaturas": self._record(process, place),
            }
            for place, file in enumerate(process.signed or process.originals, start=1)
        ]

    def _record(self, process: Process, place: int) -> Any:
        if not process.records:
            return None
        file = process.records[place - 1]
        if self.record_as is RecordAs.LIST:
            return [{"nomeRegistro": file.name, "base64Registro": _base64(file)}]
        return {"nome": file.name, "base64": _base64(file)}

    def spelled(self, value: Any) -> Any:
        """A body with its names in the letter case of the switch."""
        if self.letter_case is LetterCase.CAMEL:
            return value
        if isinstance(value, dict):
            return {name[:1].upper() + name[1:]: self.spelled(inner) for name, inner in value.items()}
        return [self.spelled(inner) for inner in value] if isinstance(value, list) else value

    def count_call(self) -> None:
        """One call of the account is used.

        Raises:
            PeerError: none is left.
        """
        with self._lock:
            if self.calls_left == 0:
                raise PeerError(self.over_quota_status, "Limite de requisições excedido.")
            if self.calls_left is not None:
                self.calls_left -= 1

    @property
    def summary(self) -> Body:
        """The state without file contents."""
        with self._lock:
            return {
                "processes": [
                    {
                        "id": process.id,
                        "name": process.name,
                        "status": STATUS_WORDS[process.status],
                        "files": [file.summary for file in process.signed or process.originals],
                    }
                    for process in self.processes.values()
                ]
            }


def _signer(signer: Signer) -> Body:
    return {
        "id": signer.id,
        "nome": signer.name,
        "email": "signataria@example.com",
        "tipoAcao": "Assina Online",
        "assinaturaRecusada": "false" if signer.refusal is None else "true",
        "motivoRecusa": signer.refusal,
        "dadosAssinatura": {"dataAssinatura": _iso(signer.signed_at), "dadosPessoaFisica": None},
    }


def _dates(process: Process) -> Body:
    return {
        "dataEnvio": _iso(process.sent_at),
        "dataConclusao": _iso(process.concluded_at),
        "dataCancelamento": _iso(process.cancelled_at),
        "dataReenvio": _iso(process.resent_at),
        "dataExpiracao": _iso(process.expires_at),
    }


def _iso(instant: datetime | None) -> str | None:
    """UTC without an offset, as the manual's answers have it."""
    return None if instant is None else instant.strftime("%Y-%m-%dT%H:%M:%S")


def _base64(file: StoredFile) -> str:
    return base64.b64encode(file.content).decode("ascii")
