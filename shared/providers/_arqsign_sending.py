"""Sending through ArqSign: what may be said of a process and its people, and the requests for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.errors import PermanentError, UsageError
from shared.providers._arqsign_api import Api, is_process_id
from shared.providers._arqsign_settings import GENERATIONS, SIGNATURE_CODES
from shared.providers._arqsign_words import text
from shared.providers._base import (
    FileContent,
    Order,
    OutgoingFile,
    Request,
    SendOptions,
    Sent,
    SentDocument,
    Signer,
    Steps,
    excerpt,
)

_MAX_BYTES = 100_000_000
_MAX_FILES = 25
_MAX_TITLE, _MAX_NAME = 250, 150
_ACTIONS = {"sign": 1, "copy": 2}
_SIGNS_AS = {"person": 1, "company": 2, "both": 3}
_BY_EMAIL, _BY_WHATSAPP = 1, 2


class Position(BaseModel):
    """Where a signature is drawn, from the upper left corner of a page; files and pages count from 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    file: int = Field(default=1, ge=1, le=_MAX_FILES)
    page: int = Field(ge=1)
    x_mm: float = Field(ge=0)
    y_mm: float = Field(ge=0)
    width_mm: float = Field(gt=0)
    height_mm: float = Field(gt=0)
    of: Literal["person", "company"] = "person"


class ArqSignSigner(Signer):
    """A person who signs or gets a copy, reached by e-mail or, with a phone number, by WhatsApp.

    `order` is the place among the others, from 1; without it that of the list. `extra` is merged into what
    ArqSign calls `assinarOnline` (v2) or the recipient (v1), under its own names.
    """

    name: str = Field(min_length=1, max_length=_MAX_NAME)
    email: str | None = Field(default=None, max_length=150, pattern=r"^[^@\s]+@[^@\s]+$")
    phone: str | None = Field(default=None, max_length=20, pattern=r"^\+?[0-9 ()-]{8,}$")
    action: Literal["sign", "copy"] = "sign"
    order: int | None = Field(default=None, ge=1, le=255)
    signature: Literal["electronic", "icp_brasil", "certificate", "none"] = "electronic"
    signs_as: Literal["person", "company", "both"] = "person"
    message_title: str = Field(default="", max_length=150)
    message_text: str = ""
    positions: tuple[Position, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if (self.email is None) == (self.phone is None):
            raise ValueError("give either email or phone")
        if self.phone is not None and self.action == "sign" and self.signature != "electronic":
            raise ValueError("by WhatsApp only electronic signatures and copies are possible: give email")
        if bool(self.message_title) != bool(self.message_text):
            raise ValueError("give message_title and message_text, or neither")
        return self


class ArqSignOptions(SendOptions):
    """Of a whole process; what is not given is as the account has it.

    `extra` is merged into the request under ArqSign's own names.
    """

    responsible: str | None = Field(default=None, description="idResponsavel, when not that of the settings")
    folder: str | None = Field(default=None, description="idPasta, when not that of the settings")
    ordered: bool = True
    expires_after_days: int | None = Field(default=None, ge=1, le=999)
    expiry_notice_days: int | None = Field(default=None, ge=1, le=99)
    reminder_days: int | None = Field(default=None, ge=1, le=999)
    renew_after_months: int | None = Field(default=None, ge=1, le=255)
    qr_code: bool | None = None
    must_read: bool | None = None
    message_title: str = Field(default="", max_length=150)
    message_text: str = ""
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _message_is_whole(self) -> Self:
        if bool(self.message_title) != bool(self.message_text):
            raise ValueError("give message_title and message_text, or neither")
        return self


def send_order(api: Api, order: Order) -> Steps[Sent]:
    """Make a process of an order and send it.

    Raises:
        UsageError: the order is none that ArqSign takes.
        As `Api.object_of`.
    """
    _check(api, order)
    generation = api.settings.generation
    path = api.settings.send_path or GENERATIONS[generation].send_path
    body = _body_v1(api, order) if generation == "v1" else _body_v2(api, order)
    answer = yield Request(
        "POST",
        api.base_url + path,
        {**api.headers, "Content-Type": "application/json"},
        content=_streamed(body, order.files, numbered=generation == "v2"),
        effect=True,
    )
    process_id = text(api.object_of(answer, "the sending").get("idprocesso"))
    if not is_process_id(process_id):
        raise PermanentError("ArqSign took it and named no process: look for it there")
    only = 0 if len(order.files) == 1 else None
    return Sent(process_id, (SentDocument(process_id, only),))


def cancel_process(api: Api, process_id: str) -> Steps[str]:
    """Cancel a process that is on its way; returns what ArqSign says.

    Raises:
        PermanentError: it is over, or was never sent.
        As `Api.object_of`.
    """
    request = api.about(api.settings.cancel_path, process_id, method="PATCH")
    answer = yield replace(request, effect=True)
    api.expect(answer, "the cancelling")
    said = answer.body.strip().strip(b'"')
    return excerpt(said) if said else "cancelled"


# Checked before anything is sent


def _check(api: Api, order: Order) -> None:
    _check_files(order.files)
    if not 0 < len(order.title) <= _MAX_TITLE:
        _refuse(f"give a title of at most {_MAX_TITLE} letters")
    if order.return_url is not None:
        _refuse("ArqSign sends no browser back: leave out --return-url")
    if order.metadata:
        _refuse("ArqSign keeps no metadata: leave out --metadata")
    _check_people(order)
    if api.settings.generation == "v1":
        _check_v1(order)


def _check_files(files: Sequence[OutgoingFile]) -> None:
    if not files:
        _refuse("name at least one file")
    if len(files) > _MAX_FILES:
        _refuse(f"no more than {_MAX_FILES} files go into one process")
    if sum(file.size_bytes for file in files) > _MAX_BYTES:
        _refuse(f"the files are larger than {_MAX_BYTES} bytes together: send them separately")
    for file in files:
        if file.media_type != "application/pdf":
            _refuse(f"ArqSign takes PDF only: {file.name} is none")
        if len(file.name) > _MAX_NAME:
            _refuse(f"the name of a file has more than {_MAX_NAME} letters: {file.name[:40]}...")


def _check_people(order: Order) -> None:
    signing = [signer for signer in order.signers if signer.action == "sign"]
    if not signing:
        _refuse("name at least one --signer who signs")
    places = [(_place(signer, number), signer.email, signer.phone) for number, signer in _numbered(order)]
    if order.options.ordered and len(set(places)) < len(places):
        _refuse("two signers are the same person at the same place of the order")
    drawn = [signer for signer in signing if signer.positions]
    if drawn and len(drawn) < len(signing):
        _refuse("give positions for everybody who signs, or for nobody")
    for signer in drawn:
        found = {position.file for position in signer.positions}
        if found != set(range(1, len(order.files) + 1)):
            _refuse("give everybody who signs a position in each file, and in no other")


def _check_v1(order: Order) -> None:
    if len(order.files) > 1:
        _refuse("generation v1 gives back the first file of a process only: send them separately")
    for signer in order.signers:
        if signer.positions or signer.signs_as != "person":
            _refuse("positions and signs_as need generation v2")


def _refuse(why: str) -> NoReturn:
    raise UsageError(why)


def _numbered(order: Order) -> Sequence[tuple[int, ArqSignSigner]]:
    return list(enumerate(order.signers, start=1))


def _place(signer: ArqSignSigner, number: int) -> int:
    return signer.order or number


# The requests


def _body_v2(api: Api, order: Order) -> dict[str, Any]:
    options: ArqSignOptions = order.options
    automatic = not any(signer.positions for signer in order.signers)
    return {
        **_account(api, options, folder="idPasta"),
        "nomeProcesso": order.title,
        "configuracoesAvancadas": _advanced(options)
        | {"gerarQrCode": options.qr_code, "obrigarLeitura": options.must_read},
        "renovacaoMeses": options.renew_after_months,
        "mensagemPadrao": _message(options),
        "usarOrdemAssinatura": options.ordered,
        "usarPosicaoAssinaturaAutomatica": automatic,
        "destinatarios": [_recipient_v2(api, signer, number) for number, signer in _numbered(order)],
        **options.extra,
    }


def _recipient_v2(api: Api, signer: ArqSignSigner, number: int) -> dict[str, Any]:
    recipient: dict[str, Any] = {
        "idTipoAcao": _ACTIONS[signer.action],
        "ordemAssinatura": _place(signer, number),
        "nome": signer.name,
        "email": signer.email,
        "telefone": signer.phone,
    }
    if signer.action == "copy":
        return {**recipient, **signer.extra}
    return recipient | {
        "assinarOnline": {
            "assinarComo": _SIGNS_AS[signer.signs_as],
            "seguranca": None,
            "mensagemPersonalizada": _message(signer),
            "anexos": None,
            "definirPosicaoAssinaturaManual": _positions(signer.positions) or None,
            "idTipoAssinatura": _signature_code(api, signer),
            **signer.extra,
        }
    }


def _positions(positions: Sequence[Position]) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for position in positions:
        of = "pessoaFisica" if position.of == "person" else "pessoaJuridica"
        found.setdefault(position.file, {"documentoDeOrdem": position.file})[of] = {
            "pagina": position.page,
            "altura": position.height_mm,
            "largura": position.width_mm,
            "posicaoX": position.x_mm,
            "posicaoY": position.y_mm,
        }
    return list(found.values())


def _body_v1(api: Api, order: Order) -> dict[str, Any]:
    options: ArqSignOptions = order.options
    return {
        **_account(api, options, folder="IdPasta"),
        "nome": order.title,
        "configuracoesAvancadas": _advanced(options),
        "renovacaoMeses": options.renew_after_months,
        "mensagemPadrao": _message(options),
        "assinarOrdemDestinatarios": options.ordered,
        # In this edition, what is not used has to be there as null.
        "destinatarios": [
            {
                "seguranca": None,
                "mensagemPersonalizada": _message(signer),
                "destinatariosEntradaDto": None,
                "anexos": [],
                "ordem": _place(signer, number),
                "nome": signer.name,
                "idTipoAssinatura": _signature_code(api, signer),
                "idTipoAcao": _ACTIONS[signer.action],
                "idFormaEnvio": _BY_WHATSAPP if signer.email is None else _BY_EMAIL,
                "email": signer.email,
                "telefone": signer.phone,
                "definirPosicaoAssinaturaAutomatica": 1,
                **signer.extra,
            }
            for number, signer in _numbered(order)
        ],
        **options.extra,
    }


def _account(api: Api, options: ArqSignOptions, *, folder: str) -> dict[str, str]:
    responsible = options.responsible or api.settings.responsible_id
    folder_id = options.folder or api.settings.folder_id
    for name, value in (("responsible", responsible), ("folder", folder_id)):
        if not value:
            _refuse(
                f"ArqSign needs to know the {name}: give --option {name}=ID, or set {name}_id under "
                f"[providers.{api.name}]"
            )
    return {"idResponsavel": responsible or "", folder: folder_id or ""}


def _advanced(options: ArqSignOptions) -> dict[str, Any]:
    return {
        "tempoExpiracaoDocumentoDias": options.expires_after_days,
        "avisoAntesExpiracaoDocumentoDias": options.expiry_notice_days,
        "frequenciaLembretesDias": options.reminder_days,
    }


def _message(about: ArqSignOptions | ArqSignSigner) -> dict[str, str] | None:
    if not about.message_title:
        return None
    return {"titulo": about.message_title, "texto": about.message_text}


def _signature_code(api: Api, signer: ArqSignSigner) -> int:
    codes: Mapping[str, int] = SIGNATURE_CODES[api.settings.generation] | api.settings.signature_codes
    code = codes.get(signer.signature if signer.action == "sign" else "none")
    if code is None:
        _refuse(
            f"no code is known for signature = {signer.signature}: set signature_codes under "
            f"[providers.{api.name}]"
        )
    return code


def _streamed(
    body: Mapping[str, Any], files: Sequence[OutgoingFile], *, numbered: bool
) -> tuple[bytes | FileContent, ...]:
    """The body with its files at the end, each to be read when its turn comes."""
    pieces: list[bytes | FileContent] = [_open_object(body) + b'"documentos":[']
    for place, file in enumerate(files):
        about: dict[str, Any] = {"nomeComExtensao": file.name}
        if numbered:
            about["ordemDocumento"] = place + 1
        comma = b"," if place else b""
        pieces += [comma + _open_object(about) + b'"arquivo":"', FileContent(place, "base64"), b'"}']
    return (*pieces, b"]}")


def _open_object(fields: Mapping[str, Any]) -> bytes:
    """A JSON object that is not closed yet, ready for its next field."""
    return json.dumps(fields, ensure_ascii=False).encode("utf-8")[:-1] + b","
