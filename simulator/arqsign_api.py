"""ArqSign over HTTP: sending and reading a process in both generations of the API, and its status."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from simulator.arqsign import ArqSign, Process, Status, Trigger
from simulator.callbacks import Body
from simulator.peer import PeerError, StoredFile, content_of, json_object, need, refusing


class _Api:
    def __init__(self, arqsign: ArqSign) -> None:
        self._arqsign = arqsign

    def _prove(self, request: Request, generation: int) -> None:
        arqsign, headers = self._arqsign, request.headers
        right = headers.get("AppKey") == arqsign.app_key
        if generation == 2:
            right = right and headers.get("SubscriptionKey") == arqsign.subscription_key
        if not right:
            raise PeerError(401, "Acesso não autorizado.")
        arqsign.count_call()

    async def send_v1(self, request: Request) -> Response:
        self._prove(request, 1)
        process = self._create(await json_object(request), "nome")
        return JSONResponse({"IdProcesso": process.id}, self._arqsign.created_status)

    async def send_v2(self, request: Request) -> Response:
        self._prove(request, 2)
        process = self._create(await json_object(request), "nomeProcesso")
        documents = [
            {"id": process.document_id(place), "ordem": place, "nome": file.name}
            for place, file in enumerate(process.originals, start=1)
        ]
        people = [
            {"idProcessoDestinatario": person.id, "nomeSignatario": person.name} for person in process.signers
        ]
        body = {"idProcesso": process.id, "documentos": documents, "destinatarios": people}
        return JSONResponse(self._arqsign.spelled(body))

    def _create(self, body: Body, name: str) -> Process:
        need(body, name, "documentos", "destinatarios")
        files = [
            StoredFile(
                str(item["nomeComExtensao"]), "application/pdf", content_of(item["arquivo"], "arquivo")
            )
            for item in _objects(body, "documentos", "nomeComExtensao", "arquivo")
        ]
        people = [str(item["nome"]) for item in _objects(body, "destinatarios", "nome")]
        advanced = body.get("configuracoesAvancadas") or {}
        days = advanced.get("tempoExpiracaoDocumentoDias") or 30
        process = self._arqsign.create(str(body[name]), files, people, int(days))
        documents = [
            {key: value for key, value in item.items() if key != "arquivo"} for item in body["documentos"]
        ]
        process.ordered = {**body, "documentos": documents}
        return process

    async def read_v1(self, request: Request) -> Response:
        self._prove(request, 1)
        described = self._arqsign.described(request.path_params["process_id"], 1)
        return JSONResponse(described, self._arqsign.created_status)

    async def read_v2(self, request: Request) -> Response:
        self._prove(request, 2)
        return JSONResponse(self._arqsign.described(request.path_params["process_id"], 2))

    async def status(self, request: Request) -> Response:
        self._prove(request, 1)
        process = self._arqsign.process(request.path_params["process_id"])
        body = {"NomeProcesso": process.name, "Status": self._arqsign.word(process.status)}
        return JSONResponse(body, self._arqsign.created_status)

    async def people(self, request: Request) -> Response:
        self._prove(request, 1)
        return JSONResponse(self._arqsign.people(request.path_params["process_id"]))

    async def cancel(self, request: Request) -> Response:
        self._prove(request, 1)
        process_id = request.path_params["process_id"]
        if self._arqsign.process(process_id).status not in (Status.AGUARDANDO, Status.EM_PROCESSO):
            raise PeerError(422, "O processo não está em andamento.")
        self._arqsign.happen(process_id, Trigger.CANCELLED)
        return PlainTextResponse("Documento cancelado com sucesso.")

    async def resend(self, request: Request) -> Response:
        self._prove(request, 2)
        self._arqsign.happen(request.path_params["process_id"], Trigger.RESENT)
        return PlainTextResponse("Processo reenviado com sucesso.")

    def refused(self, sentence: str, status: int) -> Response:
        """A refusal, in the form of the switches."""
        arqsign = self._arqsign
        headers = {}
        if arqsign.calls_left == 0 and arqsign.retry_after_seconds is not None:
            headers["Retry-After"] = str(arqsign.retry_after_seconds)
        if arqsign.errors_as_json:
            return JSONResponse({"mensagens": [sentence]}, status, headers)
        return PlainTextResponse(sentence, status, headers)


def _objects(body: Body, name: str, *needed: str) -> list[dict[str, Any]]:
    """The objects of a list in a body, each with what it needs.

    Raises:
        PeerError: 400, something is missing or of another kind.
    """
    values = body[name]
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise PeerError(400, f"{name} must be a list of objects")
    for value in values:
        need(value, *needed)
    return values


def create_app(arqsign: ArqSign) -> Starlette:
    """The API of both generations; the keys are asked for as the generation of the path has it."""
    api = _Api(arqsign)
    process = "processo/{process_id}"
    return Starlette(
        routes=[
            Route("/api/v1/processo/enviar-documento-para-assinar", api.send_v1, methods=["POST"]),
            Route("/api/v2/processo/enviar-documento-para-assinar", api.send_v2, methods=["POST"]),
            Route(f"/api/v1/{process}/status-do-processo", api.status, methods=["GET"]),
            Route(f"/api/v1/{process}/dados-signatarios", api.people, methods=["GET"]),
            Route(f"/api/v1/{process}/cancelar-processo", api.cancel, methods=["PATCH"]),
            Route(f"/api/v2/{process}/reenviar-processo", api.resend, methods=["PATCH"]),
            Route(f"/api/v1/{process}", api.read_v1, methods=["GET"]),
            Route(f"/api/v2/{process}", api.read_v2, methods=["GET"]),
        ],
        exception_handlers=refusing(api.refused),
    )


def example_process(name: str = "Contrato 2026-0042", content: str = "JVBERi0xLjQKJSVFT0YK") -> Body:
    """A body for the send call of the current generation; `content` is base64."""
    person = {
        "idTipoAcao": 1,
        "ordemAssinatura": 1,
        "nome": "Signatária Exemplo",
        "email": "signataria@example.com",
    }
    return {
        "nomeProcesso": name,
        "usarOrdemAssinatura": True,
        "destinatarios": [person | {"assinarOnline": {"assinarComo": 1, "idTipoAssinatura": 1}}],
        "documentos": [{"ordemDocumento": 1, "nomeComExtensao": "contrato.pdf", "arquivo": content}],
    }
