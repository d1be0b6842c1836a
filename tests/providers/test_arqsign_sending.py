"""Sending through ArqSign: both editions' requests, the files in a stream, and what is refused beforehand."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import AccessError, PermanentError, UsageError, WaitingError
from shared.providers._base import (
    Answer,
    DocumentView,
    FileContent,
    Order,
    OutgoingFile,
    Request,
    Sent,
    SentDocument,
)
from tests.providers.conftest import drive, make_provider

PROCESS = "eaf4417d-441d-4f4b-9a30-a79118c5cc8a"
RESPONSIBLE, FOLDER = "0c1d2e3f-0000", "5e6f7a8b-0000"
SETTINGS = {
    "app_key": "app-k3y",
    "subscription_key": "sub-k3y",
    "responsible_id": RESPONSIBLE,
    "folder_id": FOLDER,
}
MARIA = {"name": "Maria Júlia", "email": "maria@example.com"}
CONTENT = b"%PDF-1.7 content"


def pdf(
    name: str = "contrato.pdf", size_bytes: int = len(CONTENT), media: str = "application/pdf"
) -> OutgoingFile:
    return OutgoingFile(name, media, size_bytes, "0" * 64)


def order_of(
    *signers: dict[str, Any],
    files: tuple[OutgoingFile, ...] = (pdf(),),
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Order:
    made = make_provider("arqsign")
    return Order(
        **{
            "reference": "r1",
            "title": "Contrato 2025-0042",
            "files": files,
            "signers": tuple(made.Signer(**signer) for signer in signers or (MARIA,)),
            "options": made.Options(**(options or {})),
            **changes,
        }
    )


def send(order: Order, answer: Answer | None = None, **settings: Any) -> tuple[Request, Sent]:
    provider = make_provider("arqsign", **{**SETTINGS, **settings})
    answered = answer or Answer(200, {}, json.dumps({"idProcesso": PROCESS}).encode())
    [request], sent = drive(provider.send(order), lambda _: answered)
    made: Sent = sent
    return request, made


def body_of(request: Request) -> dict[str, Any]:
    """The body as it is sent, the files filled in."""
    assert isinstance(request.content, tuple)
    pieces = [
        base64.b64encode(CONTENT) if isinstance(piece, FileContent) else piece for piece in request.content
    ]
    found: dict[str, Any] = json.loads(b"".join(pieces))
    return found


def test_the_current_edition_is_sent_as_the_manual_has_it_and_the_process_is_the_document() -> None:
    request, sent = send(order_of())
    assert request.url == "https://api-rest.arqsign.com/api/v2/processo/enviar-documento-para-assinar"
    assert (request.method, request.effect) == ("POST", True)
    assert request.headers == {
        "AppKey": "app-k3y",
        "SubscriptionKey": "sub-k3y",
        "Content-Type": "application/json",
    }
    body = body_of(request)
    [recipient], [document] = body["destinatarios"], body["documentos"]
    assert (body["nomeProcesso"], body["idResponsavel"], body["idPasta"]) == (
        "Contrato 2025-0042",
        RESPONSIBLE,
        FOLDER,
    )
    assert (body["usarOrdemAssinatura"], body["usarPosicaoAssinaturaAutomatica"]) == (True, True)
    assert (recipient["idTipoAcao"], recipient["ordemAssinatura"], recipient["email"]) == (
        1,
        1,
        MARIA["email"],
    )
    assert (recipient["assinarOnline"]["assinarComo"], recipient["assinarOnline"]["idTipoAssinatura"]) == (
        1,
        1,
    )
    assert document == {
        "nomeComExtensao": "contrato.pdf",
        "ordemDocumento": 1,
        "arquivo": base64.b64encode(CONTENT).decode(),
    }
    assert sent == Sent(PROCESS, (SentDocument(PROCESS, 0),))


def test_the_old_edition_has_other_names_one_key_and_nulls() -> None:
    answer = Answer(201, {}, json.dumps({"IdProcesso": PROCESS}).encode())
    settings = {"generation": "v1", "subscription_key": None}
    request, sent = send(order_of(MARIA | {"signature": "icp_brasil"}), answer, **settings)
    assert request.url == "https://api.arqsign.com/api/v1/processo/enviar-documento-para-assinar"
    assert request.headers == {"AppKey": "app-k3y", "Content-Type": "application/json"}
    body = body_of(request)
    [recipient], [document] = body["destinatarios"], body["documentos"]
    assert (body["nome"], body["IdPasta"], body["assinarOrdemDestinatarios"]) == (
        "Contrato 2025-0042",
        FOLDER,
        True,
    )
    assert (body["mensagemPadrao"], body["renovacaoMeses"], recipient["seguranca"]) == (None, None, None)
    assert (recipient["ordem"], recipient["idFormaEnvio"], recipient["idTipoAssinatura"]) == (1, 1, 2)
    assert set(document) == {"nomeComExtensao", "arquivo"}
    copy = {"name": "C", "email": "c@x.test", "action": "copy"}
    body = body_of(send(order_of(MARIA, copy), answer, **settings)[0])
    assert [person["idTipoAssinatura"] for person in body["destinatarios"]] == [1, 5]
    assert sent.envelope_id == PROCESS


def test_everything_that_can_be_said_of_a_process() -> None:
    options = {
        "responsible": "other",
        "folder": "elsewhere",
        "ordered": "false",
        "expires_after_days": "20",
        "expiry_notice_days": 5,
        "reminder_days": 3,
        "renew_after_months": 12,
        "qr_code": True,
        "must_read": False,
        "message_title": "Olá",
        "message_text": "Assine.",
        "extra": {"campoNovo": 1},
    }
    body = body_of(send(order_of(options=options))[0])
    assert (body["idResponsavel"], body["idPasta"], body["usarOrdemAssinatura"]) == (
        "other",
        "elsewhere",
        False,
    )
    assert body["configuracoesAvancadas"] == {
        "tempoExpiracaoDocumentoDias": 20,
        "avisoAntesExpiracaoDocumentoDias": 5,
        "frequenciaLembretesDias": 3,
        "gerarQrCode": True,
        "obrigarLeitura": False,
    }
    assert body["mensagemPadrao"] == {"titulo": "Olá", "texto": "Assine."}
    assert (body["renovacaoMeses"], body["campoNovo"]) == (12, 1)


def test_copies_whatsapp_certificates_and_companies() -> None:
    people = (
        {"name": "A", "phone": "+55 11 99999-0000"},
        {"name": "B", "email": "b@x.test", "signature": "icp_brasil", "signs_as": "company"},
        {"name": "C", "email": "c@x.test", "action": "copy", "order": 7},
    )
    first, second, third = body_of(send(order_of(*people))[0])["destinatarios"]
    assert (first["telefone"], first["email"]) == ("+55 11 99999-0000", None)
    assert (second["assinarOnline"]["idTipoAssinatura"], second["assinarOnline"]["assinarComo"]) == (3, 2)
    assert (third["idTipoAcao"], third["ordemAssinatura"], "assinarOnline" in third) == (2, 7, False)
    codes = send(order_of(people[1]), signature_codes={"icp_brasil": 2})[0]
    assert body_of(codes)["destinatarios"][0]["assinarOnline"]["idTipoAssinatura"] == 2


def test_positions_are_given_for_each_file_in_millimetres() -> None:
    box = {"page": 2, "x_mm": 10, "y_mm": 20.5, "width_mm": 60, "height_mm": 25}
    positions = [{**box, "file": 1}, {**box, "file": 2}, {**box, "file": 2, "of": "company"}]
    signer = MARIA | {"signs_as": "both", "positions": positions}
    body = body_of(send(order_of(signer, files=(pdf("a.pdf"), pdf("b.pdf"))))[0])
    assert body["usarPosicaoAssinaturaAutomatica"] is False
    first, second = body["destinatarios"][0]["assinarOnline"]["definirPosicaoAssinaturaManual"]
    drawn = {"pagina": 2, "altura": 25, "largura": 60, "posicaoX": 10, "posicaoY": 20.5}
    assert first == {"documentoDeOrdem": 1, "pessoaFisica": drawn}
    assert second == {"documentoDeOrdem": 2, "pessoaFisica": drawn, "pessoaJuridica": drawn}


def test_names_from_the_application_cannot_break_out_of_the_json() -> None:
    name = 'a","arquivo":"x\\\u2028.pdf'
    body = body_of(send(order_of(MARIA | {"name": '"}],"x":["'}, files=(pdf(name), pdf("b.pdf"))))[0])
    assert [document["nomeComExtensao"] for document in body["documentos"]] == [name, "b.pdf"]
    assert [document["ordemDocumento"] for document in body["documentos"]] == [1, 2]
    assert body["destinatarios"][0]["nome"] == '"}],"x":["'


BOX = {"page": 1, "x_mm": 1, "y_mm": 1, "width_mm": 1, "height_mm": 1}


@pytest.mark.parametrize(
    ("order", "settings", "complaint"),
    [
        (order_of(files=()), {}, "at least one file"),
        (order_of(files=tuple(pdf(f"{n}.pdf") for n in range(26))), {}, "25 files"),
        (order_of(files=(pdf(size_bytes=60_000_000), pdf("b.pdf", 40_000_001))), {}, "100000000 bytes"),
        (order_of(files=(pdf("a.docx", media="application/msword"),)), {}, "PDF only: a.docx"),
        (order_of(files=(pdf("a" * 150 + ".pdf"),)), {}, "150 letters"),
        (order_of(title="t" * 251), {}, "250 letters"),
        (order_of(return_url="https://app.test/"), {}, "--return-url"),
        (order_of(metadata={"a": ("b",)}), {}, "--metadata"),
        (order_of(signers=()), {}, "--signer"),
        (order_of(MARIA | {"action": "copy"}), {}, "--signer who signs"),
        (order_of(MARIA | {"order": 1}, MARIA | {"order": 1}), {}, "same person"),
        (order_of(MARIA | {"positions": [BOX]}, MARIA | {"order": 2}), {}, "for everybody"),
        (order_of(MARIA | {"positions": [BOX | {"file": 2}]}), {}, "in each file"),
        (order_of(), {"responsible_id": None}, "--option responsible="),
        (order_of(), {"folder_id": None}, "folder_id"),
        (order_of(MARIA | {"signature": "none"}), {}, "signature_codes"),
        (order_of(files=(pdf("a.pdf"), pdf("b.pdf"))), {"generation": "v1"}, "first file"),
        (order_of(MARIA | {"positions": [BOX]}), {"generation": "v1"}, "v2"),
    ],
)
def test_what_arqsign_would_refuse_is_refused_before_anything_is_sent(
    order: Order, settings: dict[str, Any], complaint: str
) -> None:
    provider = make_provider("arqsign", **{**SETTINGS, **settings})
    with pytest.raises(UsageError, match=complaint):
        next(provider.send(order))


@pytest.mark.parametrize(
    "signer",
    [
        {"name": "A"},
        {"name": "A", "email": "a@x.test", "phone": "+5511999990000"},
        {"name": "A", "phone": "+5511999990000", "signature": "icp_brasil"},
        {"name": "A", "email": "nobody"},
        {"name": "A", "email": "a@x.test", "message_title": "x"},
        {"name": "", "email": "a@x.test"},
    ],
)
def test_a_signer_must_be_reachable_in_exactly_one_way(signer: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_provider("arqsign").Signer(**signer)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Answer(401, {}, b""), AccessError, "app_key"),
        (Answer(400, {}, "idPasta não encontrado.".encode()), PermanentError, "idPasta não encontrado"),
        (Answer(422, {}, b"Saldo insuficiente"), PermanentError, "Saldo insuficiente"),
        (Answer(200, {}, b'{"ok": true}'), PermanentError, "named no process"),
        (Answer(404, {}, b""), WaitingError, "path"),
    ],
)
def test_what_a_refusal_of_a_sending_means(answer: Answer, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        send(order_of(), answer)


def test_cancelling_says_what_arqsign_says() -> None:
    provider = make_provider("arqsign", **SETTINGS)
    document = DocumentView(PROCESS, {})
    done = Answer(200, {}, b'"Documento cancelado com sucesso."')
    [request], words = drive(provider.cancel(document), lambda _: done)
    assert (request.method, request.effect) == ("PATCH", True)
    assert request.url.endswith(f"/api/v1/processo/{PROCESS}/cancelar-processo")
    assert words == "Documento cancelado com sucesso."
    with pytest.raises(PermanentError, match="em andamento"):
        drive(provider.cancel(document), lambda _: Answer(422, {}, b"nao esta em andamento"))
