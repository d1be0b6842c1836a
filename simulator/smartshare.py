"""SmartShare as its fact sheet describes it. Nothing is idempotent: whatever comes twice is kept twice."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulator.peer import PeerError, StoredFile, content_of, json_object, need, refusing

_ATTACHMENT_HEADERS = ("cdFluxo", "cdTarefa", "cdTipoAnexo", "dsAnexo", "dsNomeArquivoOriginal")


@dataclass(frozen=True)
class Attachment:
    """A file attached to a workflow task; `values` are its parameters under their names on the wire."""

    id: int
    file: StoredFile
    values: Mapping[str, str]


@dataclass(frozen=True)
class FiledDocument:
    """A document that was filed; `values` is the request without the file."""

    id: int
    file: StoredFile
    values: Mapping[str, Any]


@dataclass
class _Session:
    began_at: float
    uses: int = 0


@dataclass
class SmartShare:
    """All that SmartShare stored, and its switches.

    A token lives for `token_lifetime_seconds` and for `token_uses` calls; None means for ever.
    `errors_in_200` answers every refusal with 200 and `{"erro": ...}`. `header_encoding` is how header values
    are read. `clock` gives seconds.
    """

    client: str = "simulated-client"
    client_key: str = "simulated-client-key"
    user: str = "integracao"
    password: str = "simulated-password"  # noqa: S105  (a simulated one)
    token_lifetime_seconds: float | None = None
    token_uses: int | None = None
    errors_in_200: bool = False
    header_encoding: Literal["latin-1", "utf-8", "percent"] = "latin-1"
    clock: Callable[[], float] = time.monotonic
    attachments: list[Attachment] = field(default_factory=list)
    documents: list[FiledDocument] = field(default_factory=list)
    advances: list[dict[str, str]] = field(default_factory=list)
    fields: list[dict[str, str]] = field(default_factory=list)
    logins: list[dict[str, str]] = field(default_factory=list)
    _sessions: dict[str, _Session] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def login(self, user: str, password: str, call: str) -> str:
        """A new token. `call` is the version of the call, v2 or v3.

        Raises:
            PeerError: 401, user or password is wrong.
        """
        with self._lock:
            if (user, password) != (self.user, self.password):
                raise PeerError(401, "usuário ou senha inválidos")
            token = secrets.token_hex(16)
            self._sessions[token] = _Session(self.clock())
            self.logins.append({"dsUsuario": user, "call": call})
            return token

    def use(self, token: str | None) -> None:
        """Count one call with a token.

        Raises:
            PeerError: 401, the token is missing, unknown or expired.
        """
        with self._lock:
            session = self._sessions.get(token or "")
            if session is None:
                raise PeerError(401, "tokenUsuario inválido")
            lifetime, uses = self.token_lifetime_seconds, self.token_uses
            too_old = lifetime is not None and self.clock() - session.began_at >= lifetime
            if too_old or (uses is not None and session.uses >= uses):
                raise PeerError(401, "tokenUsuario expirado")
            session.uses += 1

    def expire_tokens(self) -> None:
        """Forget every token now."""
        with self._lock:
            self._sessions.clear()

    def attach(self, file: StoredFile, values: Mapping[str, str]) -> Attachment:
        """Attach a file, once more if it is there already."""
        with self._lock:
            self.attachments.append(Attachment(len(self.attachments) + 1, file, values))
            return self.attachments[-1]

    def file_document(self, file: StoredFile, values: Mapping[str, Any]) -> FiledDocument:
        """File a document, once more if it is there already."""
        with self._lock:
            self.documents.append(FiledDocument(5501 + len(self.documents), file, values))
            return self.documents[-1]

    @property
    def summary(self) -> dict[str, Any]:
        """The state without file contents."""
        with self._lock:
            return {
                "attachments": [a.file.summary | dict(a.values) | {"id": a.id} for a in self.attachments],
                "documents": [d.file.summary | dict(d.values) | {"id": d.id} for d in self.documents],
                "advances": list(self.advances),
                "fields": list(self.fields),
                "logins": len(self.logins),
            }


class _Api:
    def __init__(self, smartshare: SmartShare) -> None:
        self._smartshare = smartshare

    def _prove_client(self, request: Request) -> None:
        expected = (self._smartshare.client, self._smartshare.client_key)
        if (self._header(request, "dsCliente"), self._header(request, "dsChaveAutenticacao")) != expected:
            raise PeerError(401, "dsCliente ou dsChaveAutenticacao inválidos")

    def _prove(self, request: Request) -> None:
        self._prove_client(request)
        self._smartshare.use(request.headers.get("tokenUsuario"))

    def _header(self, request: Request, name: str) -> str:
        value = request.headers.get(name, "")
        if self._smartshare.header_encoding == "percent":
            return unquote(value)
        return value.encode("latin-1").decode(self._smartshare.header_encoding, "replace")

    def _headers(self, request: Request, *names: str) -> dict[str, str]:
        values = {name: self._header(request, name) for name in names}
        for name, value in values.items():
            if not value:
                raise PeerError(400, f"informe {name} no cabeçalho")
        return values

    async def login_json(self, request: Request) -> Response:
        self._prove_client(request)
        return self._logged_in(await json_object(request), "v3")

    async def login_form(self, request: Request) -> Response:
        self._prove_client(request)
        if not request.headers.get("Content-Type", "").startswith("multipart/form-data"):
            raise PeerError(400, "envie multipart/form-data")
        async with request.form() as form:
            return self._logged_in(dict(form), "v2")

    def _logged_in(self, values: dict[str, Any], call: str) -> Response:
        need(values, "dsUsuario", "dsSenha")
        token = self._smartshare.login(str(values["dsUsuario"]), str(values["dsSenha"]), call)
        return JSONResponse({"cdUsuario": 1, "tokenUsuario": token})

    async def document(self, request: Request) -> Response:
        self._prove(request)
        body = await json_object(request)
        need(body, "dsTitulo", "dsArquivoOriginal", "cdTipoDocumento", "cdPasta", "file")
        content = body.pop("file")
        if not isinstance(content, str):
            raise PeerError(400, "file must be base64")
        file = StoredFile(
            str(body["dsArquivoOriginal"]), "application/octet-stream", content_of(content, "file")
        )
        document = self._smartshare.file_document(file, body)
        return JSONResponse(
            {
                "cdVersaoDocumento": document.id - 4800,
                "cdDocumento": document.id,
                "cdVersao": 1,
                "message": "",
            }
        )

    async def attach(self, request: Request) -> Response:
        self._prove(request)
        values = self._headers(request, *_ATTACHMENT_HEADERS)
        async with request.form() as form:
            part = form.get("file")
            if not isinstance(part, UploadFile):
                raise PeerError(400, "envie o arquivo na parte file")
            file = StoredFile(values["dsNomeArquivoOriginal"], part.content_type or "", await part.read())
        return JSONResponse({"cdAnexo": self._smartshare.attach(file, values).id, "message": ""})

    async def advance_by_flow(self, request: Request) -> Response:
        self._prove(request)
        values = self._headers(request, "cdFluxo", "dsEmailExecutor")
        body = await json_object(request)
        for name, value in values.items():
            if str(body.get(name)) != value:
                raise PeerError(400, f"{name} no corpo difere do cabeçalho")
        return self._advanced(request, values, "v1")

    async def advance_by_task(self, request: Request) -> Response:
        self._prove(request)
        return self._advanced(request, self._headers(request, "cdTarefa", "cdOpcao"), "v2")

    def _advanced(self, request: Request, values: dict[str, str], call: str) -> Response:
        more = {name: self._header(request, name) for name in ("cdFluxo", "cdTarefa", "cdOpcao")}
        said = {name: value for name, value in {**more, **values}.items() if value}
        self._smartshare.advances.append({**said, "call": call})
        return JSONResponse({"message": ""})

    async def fill_field(self, request: Request) -> Response:
        self._prove(request)
        body = await json_object(request)
        need(body, "cdFluxo", "cdTarefa", "cdCampoFormulario", "dsValor")
        self._smartshare.fields.append({name: str(value) for name, value in body.items()})
        return JSONResponse({"message": ""})

    def refusal(self, sentence: str, status: int) -> Response:
        return JSONResponse({"erro": sentence}, 200 if self._smartshare.errors_in_200 else status)


def create_app(smartshare: SmartShare) -> Starlette:
    """The API under `/SmartShareAPI/api`."""
    api = _Api(smartshare)
    base = "/SmartShareAPI/api"
    return Starlette(
        routes=[
            Route(f"{base}/v3/Usuario/ValidarLogin", api.login_json, methods=["POST"]),
            Route(f"{base}/v2/Usuario/ValidarLogin", api.login_form, methods=["POST"]),
            Route(f"{base}/v2/Documento", api.document, methods=["POST"]),
            Route(f"{base}/v1/Anexo/InserirAnexo", api.attach, methods=["POST"]),
            Route(f"{base}/v1/Fluxo/AvancaFluxo", api.advance_by_flow, methods=["POST"]),
            Route(f"{base}/v2/Fluxo/AvancaFluxo", api.advance_by_task, methods=["POST"]),
            Route(f"{base}/v1/Fluxo/PreencheCampoFormulario", api.fill_field, methods=["POST"]),
        ],
        exception_handlers=refusing(api.refusal),
    )
