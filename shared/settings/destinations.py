"""Settings of the destinations: where signed files go, and where the workflow is moved.

Templates (`${name}`) are explained in `docs/destinations.md`. Every one is checked when the settings are
read, so that a misspelt name stops the start instead of the first delivery.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from shared import template
from shared.events import DocumentStatus
from shared.providers._base import origin_of
from shared.settings.destination_base import DELIVERY_NAMES, DestinationSection
from shared.settings.s3 import S3Settings
from shared.settings.sections import Section

_SECRET_NAMES = frozenset({"client_key", "password", "token"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Framing is decided by the body alone; a header that contradicts it would desynchronise the connection.
_FRAMING = frozenset({"connection", "content-length", "host", "transfer-encoding"})

BodyKind = Literal["json", "form", "multipart", "none"]


class FolderSettings(DestinationSection):
    """A folder on a disk or on a mounted share."""

    kind: Literal["folder"] = Field(description='kind of destination: "folder"')
    path: Path = Field(description="folder to deliver into; it must exist", examples=["/srv/signed"])
    name: str = Field(
        default="${provider}/${document_id}/${file_name}",
        description="template of the file's path under `path`; folders in it are made",
    )

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        # A daemon's working directory is nobody's intention.
        return path.expanduser().absolute()

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, name: str) -> str:
        template.check(name, DELIVERY_NAMES)
        if not name or name.startswith("/") or name.endswith("/") or "\0" in name:
            raise ValueError("name must be a relative path that ends in a file name")
        if ".." in PurePosixPath(name).parts:
            raise ValueError("name must not contain the folder ..")
        return name


class HttpSettings(DestinationSection):
    """A web service that takes one file a request."""

    kind: Literal["http"] = Field(description='kind of destination: "http"')
    url: str = Field(
        description="template of the address; scheme and host must be written out",
        examples=["https://HOST/files/${document_id}"],
    )
    method: Literal["POST", "PUT"] = Field(default="POST", description="HTTP method")
    body: Literal["multipart", "raw"] = Field(
        default="multipart",
        description='"multipart" sends the file as a form part, "raw" as the whole body',
    )
    file_part: str = Field(default="file", description="name of the part that is the file", min_length=1)
    fields: dict[str, str] = Field(
        default_factory=dict, description="further form fields, name = template; multipart only"
    )
    headers: dict[str, str] = Field(default_factory=dict, description="further headers, name = template")
    token: SecretStr | None = Field(
        default=None,
        description="secret sent in Authorization; `${token}` in headers and fields",
        min_length=1,
    )
    authorization_scheme: str = Field(
        default="Bearer",
        description="word before the token in Authorization; empty sends no Authorization header",
    )
    idempotency_header: str = Field(
        default="Idempotency-Key", description="header that carries the idempotency key; empty sends none"
    )
    repeatable: bool = Field(
        default=True,
        description="the receiver knows the idempotency key, so an upload without an answer is sent again",
    )
    ca_file: Path | None = Field(
        default=None, description="certificate authorities (PEM) to trust in place of the public ones"
    )

    @field_validator("url")
    @classmethod
    def _fixed_host(cls, url: str) -> str:
        parsed = template.check(url, DELIVERY_NAMES)
        first = parsed.pieces[0] if parsed.pieces else ""
        # A value may stand after the host only, so that no document can choose where its file goes.
        if not isinstance(first, str) or (len(parsed.pieces) > 1 and first.count("/") < 3):
            raise ValueError("url must begin with https://HOST/; templates may follow the host only")
        origin_of(first)
        return url

    @model_validator(mode="after")
    def _templates(self) -> Self:
        names = DELIVERY_NAMES | ({"token"} if self.token else set())
        for text in (*self.headers.values(), *self.fields.values()):
            template.check(text, names)
        _check_headers(self.headers, multipart=self.body == "multipart")
        if self.idempotency_header:
            _check_headers({self.idempotency_header: ""}, multipart=False)
        if self.body == "raw" and self.fields:
            raise ValueError('fields need body = "multipart"')
        return self

    @property
    def origins(self) -> frozenset[str]:
        """The one origin that requests go to."""
        return frozenset({origin_of(str(template.parse(self.url).pieces[0]))})


class _Call(Section):
    """One call of an API. What is given is laid over the defaults key by key; an empty text drops a key."""

    default_headers: ClassVar[dict[str, str]] = {}
    default_fields: ClassVar[dict[str, Any]] = {}
    names: ClassVar[frozenset[str]] = frozenset()
    registered: ClassVar[bool] = True
    carries_file: ClassVar[bool] = False

    method: Literal["GET", "POST", "PUT", "PATCH"] = Field(default="POST", description="HTTP method")
    path: str = Field(description="template of the path under base_url")
    body: BodyKind = Field(
        default="json", description='how fields are sent: "json", "form", "multipart" or "none"'
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="headers, name = template; laid over the defaults, an empty text drops one",
        validate_default=True,
    )
    fields: dict[str, Any] = Field(
        default_factory=dict,
        description="fields, name = template, number, list or table; laid over the defaults likewise",
        validate_default=True,
    )
    success_field: str = Field(
        default="", description="field that an answer must have to count as a success; empty asks for none"
    )

    @field_validator("headers")
    @classmethod
    def _over_default_headers(cls, given: dict[str, str]) -> dict[str, str]:
        replaced = {name.casefold() for name in given}
        kept = {name: text for name, text in cls.default_headers.items() if name.casefold() not in replaced}
        return {name: text for name, text in {**kept, **given}.items() if text}

    @field_validator("fields")
    @classmethod
    def _over_default_fields(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in {**cls.default_fields, **given}.items() if value != ""}

    @field_validator("path")
    @classmethod
    def _no_secret_in_path(cls, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError("path must begin with /")
        template.check(path, cls.names - _SECRET_NAMES, registered=cls.registered)
        return path

    @model_validator(mode="after")
    def _templates(self) -> Self:
        _check_headers(self.headers, multipart=self.body == "multipart")
        for text in self.headers.values():
            template.check(text, self.names, registered=self.registered)
        contents = sum(self._check_value(value) for value in self.fields.values())
        if self.body == "none" and self.fields.keys() - self.default_fields.keys():
            raise ValueError('fields are given, but body = "none" sends none')
        if self.body in ("form", "multipart"):
            nested = [name for name, value in self.fields.items() if isinstance(value, (dict, list))]
            if nested:
                raise ValueError(f'{nested[0]} is a list or a table, which only body = "json" can carry')
        self._check_content(contents)
        return self

    def _check_value(self, value: object) -> int:
        """Check every text in a field's value; returns how often the file's content stands in it."""
        if isinstance(value, dict):
            return sum(map(self._check_value, value.values()))
        if isinstance(value, list):
            return sum(map(self._check_value, value))
        if not isinstance(value, (str, int, float, bool)):
            raise ValueError("a field must be a text, a number, true, false, a list or a table")
        if value == f"${{{template.FILE_CONTENT}}}" and self.carries_file and self.body == "json":
            return 1
        if isinstance(value, str):
            if f"${{{template.FILE_CONTENT}" in value:
                raise ValueError(
                    '${file_base64} must be the whole text of a field of an upload with body = "json"'
                )
            template.check(value, self.names, registered=self.registered)
        return 0

    def _check_content(self, contents: int) -> None:
        if not self.carries_file:
            return
        if self.body == "json" and contents != 1:
            raise ValueError("exactly one field must be ${file_base64}, else the file is not sent")
        if self.body not in ("json", "multipart"):
            raise ValueError('an upload needs body = "json" or body = "multipart"')


_CLIENT = {"dsCliente": "${client}", "dsChaveAutenticacao": "${client_key}"}
_SESSION = {**_CLIENT, "tokenUsuario": "${token}"}
_ACCOUNT_NAMES = frozenset({"client", "client_key", "user", "password"})
_SESSION_NAMES = _ACCOUNT_NAMES | {"token"}


class LoginCall(_Call):
    """The call that turns user and password into a token."""

    default_headers = _CLIENT
    default_fields = {"dsUsuario": "${user}", "dsSenha": "${password}"}
    names = _ACCOUNT_NAMES
    # One token serves every document, so it cannot depend on one.
    registered = False

    path: str = Field(default="/v3/Usuario/ValidarLogin", description="path under base_url")


class AttachmentCall(_Call):
    """The call that attaches a file to a workflow task."""

    default_headers = {
        **_SESSION,
        "cdFluxo": "${dms.cdFluxo}",
        "cdTarefa": "${dms.cdTarefa}",
        "cdTipoAnexo": "${dms.cdTipoAnexo}",
        "dsAnexo": "${file_name}",
        "dsNomeArquivoOriginal": "${file_name}",
    }
    names = _SESSION_NAMES | DELIVERY_NAMES
    carries_file = True

    path: str = Field(default="/v1/Anexo/InserirAnexo", description="path under base_url")
    body: BodyKind = Field(default="multipart", description='"multipart", or "json" with ${file_base64}')
    file_part: str = Field(default="file", description="name of the part that is the file", min_length=1)


class DocumentCall(_Call):
    """The call that files a new document."""

    default_headers = _SESSION
    default_fields = {
        "dsTitulo": "${file_name}",
        "dsArquivoOriginal": "${file_name}",
        "cdTipoDocumento": "${dms.cdTipoDocumento}",
        "dtEfetivacao": "${dms.dtEfetivacao|}",
        "dtVencimento": "${dms.dtVencimento|}",
        "idTipoRevisao": 0,
        "cdPasta": "${dms.cdPasta}",
        "lstIndicesArray": [],
        "lstPerfilArray": [],
        "stGerarAprovacao": False,
        "file": "${file_base64}",
    }
    names = _SESSION_NAMES | DELIVERY_NAMES
    carries_file = True

    path: str = Field(default="/v2/Documento", description="path under base_url")
    file_part: str = Field(default="file", description="name of the part that is the file", min_length=1)
    success_field: str = Field(
        default="cdDocumento",
        description="field that an answer must have to count as a success; empty asks for none",
    )


class AdvanceCall(_Call):
    """The call that advances the workflow."""

    default_headers = {
        **_SESSION,
        "cdFluxo": "${dms.cdFluxo}",
        "dsEmailExecutor": "${dms.dsEmailExecutor}",
        "cdOpcao": "${option}",
    }
    default_fields = {"cdFluxo": "${dms.cdFluxo}", "dsEmailExecutor": "${dms.dsEmailExecutor}"}
    names = _SESSION_NAMES | template.DOCUMENT_NAMES | {"option"}

    path: str = Field(default="/v1/Fluxo/AvancaFluxo", description="path under base_url")


class SmartshareSettings(DestinationSection):
    """SmartShare, the ECM and BPM of Selbetti."""

    kind: Literal["smartshare"] = Field(description='kind of destination: "smartshare"')
    base_url: HttpUrl = Field(
        description="API root, as in https://HOST/ROOT/SmartShareAPI/api",
        examples=["https://HOST/ROOT/SmartShareAPI/api"],
    )
    client: str = Field(description="client name, sent as dsCliente", min_length=1)
    client_key: SecretStr = Field(description="client key, sent as dsChaveAutenticacao", min_length=1)
    user: str = Field(description="user who uploads and advances", min_length=1)
    password: SecretStr = Field(description="the user's password", min_length=1)
    upload: Literal["attachment", "document"] = Field(
        default="attachment",
        description='"attachment" attaches the file to a workflow task, "document" files a new document',
    )
    header_encoding: Literal["latin-1", "utf-8", "percent"] = Field(
        default="latin-1", description="how letters outside ASCII are sent in header values"
    )
    login: LoginCall = Field(default_factory=LoginCall, description="login call")
    attachment: AttachmentCall = Field(default_factory=AttachmentCall, description="attachment call")
    document: DocumentCall = Field(default_factory=DocumentCall, description="document call")
    advance: AdvanceCall = Field(default_factory=AdvanceCall, description="workflow call")
    token_field: str = Field(
        default="tokenUsuario", description="field of the login's answer that is the token", min_length=1
    )
    advance_on: dict[DocumentStatus, str] = Field(
        default={DocumentStatus.COMPLETED: ""},
        description="statuses that advance the workflow, status = exit option (empty takes the only exit); "
        "an empty table never advances",
    )
    error_fields: list[str] = Field(
        default=["erro", "error", "errors", "dsErro", "exceptionMessage"],
        description="fields that, when filled, make an answer a failure whatever its HTTP status",
    )
    unknown_upload: Literal["hold", "retry"] = Field(
        default="hold",
        description='an upload without an answer: "hold" leaves it to a person, "retry" may file it twice',
    )
    ca_file: Path | None = Field(
        default=None, description="certificate authorities (PEM) to trust in place of the public ones"
    )

    @field_validator("base_url")
    @classmethod
    def _no_query(cls, base_url: HttpUrl) -> HttpUrl:
        if base_url.query is not None or base_url.fragment is not None:
            raise ValueError("base_url must end with its path: remove what follows ? or #")
        origin_of(str(base_url))
        return base_url

    @property
    def origins(self) -> frozenset[str]:
        """The one origin that requests go to."""
        return frozenset({origin_of(str(self.base_url))})


DestinationSettings = Annotated[
    SmartshareSettings | HttpSettings | FolderSettings | S3Settings, Field(discriminator="kind")
]
"""The settings of one destination, told apart by `kind`."""


def _check_headers(headers: dict[str, str], *, multipart: bool) -> None:
    """Return when every name is a header name that does not belong to the message's framing."""
    for name in headers:
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in _FRAMING or (multipart and name.lower() == "content-type"):
            raise ValueError(f"the header {name} is made by signspool; remove it")
