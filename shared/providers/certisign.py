"""Certisign, Portal de Assinaturas.

Source: https://desenvolvedor.portaldeassinaturas.com.br/documentation/callback, public clients; read 2026-11.
Proof:  none of its own; the `headers` of the callback set-up are the place for a shared secret.
Answer: not public; 200 with our own words.
Resends: every 30 minutes for 24 hours in the newer edition of the manual, every 2 hours for 8 in the older.
File:   GET /api/v2/document/package by `chave`, the key that creation returned, not by the document id.
"""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qs, urlencode, urlsplit

from pydantic import Field, HttpUrl, SecretStr

from shared.errors import NotReadyError, WaitingError
from shared.events import Event, EventType
from shared.providers._base import (
    Answer,
    Callback,
    DocumentView,
    FetchedFile,
    FileKind,
    Head,
    Into,
    Request,
    SignedFile,
    SignedFiles,
    expect_success,
    find_field,
    how_to_register,
    id_text,
    origin_of,
)
from shared.providers._verify import SharedSecretProvider, SharedSecretSettings

_MANIFEST = "-manifesto"


class Settings(SharedSecretSettings):
    """Settings of Certisign."""

    base_url: HttpUrl = Field(
        default=HttpUrl("https://api.portaldeassinaturas.com.br"),
        description="API root; the sandbox is https://api-sbx.portaldeassinaturas.com.br",
    )
    token: SecretStr | None = Field(default=None, description="subscription key")
    token_header: str = Field(default="Token", description="header that carries the subscription key")
    package_path: str = Field(default="/api/v2/document/package", description="path of the package call")
    include_original: bool = Field(default=False, description="ask for the original file too")
    include_manifest: bool = Field(default=False, description="ask for the manifest too")
    zipped: bool = Field(default=False, description="ask for one zip instead of a list of files")
    key_from_callback: bool = Field(
        default=False,
        description=(
            "when no chave is registered, take it from apiDownload, "
            "if its host is exactly the one of base_url"
        ),
    )


class Certisign(SharedSecretProvider[Settings]):
    """Certisign: number 0, `documentId` spelled either way, several actions of which FLOW alone completes."""

    title = "Certisign"
    number = 0
    id_field = "documentId"
    Settings = Settings
    event_types = {
        "FLOW": EventType.COMPLETED,
        "STEP": EventType.PROGRESS,
        "SIGNATURE-DIGITAL": EventType.PROGRESS,
        "SIGNATURE-ELETRONIC": EventType.PROGRESS,
        "SIGNATURE-SERVER": EventType.PROGRESS,
        "SIGNATURE-NOK": EventType.DECLINED,
        "AUTHORIZATION-OK": EventType.PROGRESS,
        "AUTHORIZATION-NOK": EventType.DECLINED,
        "APPROVAL-OK": EventType.PROGRESS,
        "APPROVAL-NOK": EventType.DECLINED,
    }
    references = {"chave": "the key that creating the document returned; the package call takes it"}

    def callback_id(self, callback: Callback) -> Head:
        body = callback.json
        name, value = find_field(body, "documentId", "documentID")
        action_name, action = find_field(body, "action")
        return Head(id_text(value, name), id_text(action, action_name))

    def parse(self, head: Head, callback: Callback) -> list[Event]:
        # Every step and every signer sends the same action, so what tells two of them apart is the body. An
        # action that claims a status says the same thing however often it comes.
        action = head.action.strip().upper()
        claims = self.event_type(head.action).status is not None
        key = action if claims else f"{action}:{hashlib.sha256(callback.body).hexdigest()[:32]}"
        value = callback.decoded.value
        body = value if isinstance(value, dict) else {}
        learned = {"apiDownload": text} if (text := _text(body.get("apiDownload"))) else {}
        return [self.event(head, key=key, message=_text(body.get("message")), **learned)]

    @property
    def origins(self) -> frozenset[str]:
        return frozenset({origin_of(str(self.settings.base_url))})

    def signed_file(self, document: DocumentView) -> SignedFiles:
        key = document.references.get("chave") or self._key_from(document.learned.get("apiDownload", ""))
        if not key:
            hint = how_to_register(self.name, document.document_id, "chave=...")
            raise WaitingError(f"no chave is registered: {hint}")
        if self.settings.token is None:
            raise WaitingError(f"set token under [providers.{self.name}] to fetch its files")
        answer = yield self._package(key)
        expect_success(answer, "the package")
        return _chosen(answer, hashlib.sha256(key.encode()).hexdigest()[:12])

    def _key_from(self, url: str) -> str:
        """The key at the end of `apiDownload`, if that is allowed and the host is the configured one."""
        if not self.settings.key_from_callback or not url:
            return ""
        try:
            if origin_of(url) not in self.origins:
                return ""
        except ValueError:
            return ""
        return (parse_qs(urlsplit(url).query).get("key") or [""])[0]

    def _package(self, key: str) -> Request:
        settings = self.settings
        assert settings.token is not None
        query = urlencode(
            {
                "key": key,
                "includeOriginal": str(settings.include_original).lower(),
                "includeManifest": str(settings.include_manifest).lower(),
                "zipped": str(settings.zipped).lower(),
            }
        )
        return Request(
            "GET",
            f"{str(settings.base_url).rstrip('/')}{settings.package_path}?{query}",
            headers={settings.token_header: settings.token.get_secret_value()},
            into=Into.JSON_FILES,
        )


def _chosen(answer: Answer, package: str) -> list[SignedFile]:
    """The files worth keeping: those of a zip rather than the zip, unless a detached signature needs both.

    `package` tells packages of different keys apart.

    Raises:
        NotReadyError: the package is empty.
    """
    if not answer.files:
        raise NotReadyError("the package is empty: not ready")
    files: list[FetchedFile] = []
    for file in answer.files:
        if file.inside is not None:
            continue
        entries = [entry for entry in answer.files if entry.inside == file.token]
        detached = any(entry.name.lower().endswith(".p7s") for entry in entries)
        files += entries if entries and not detached else [file]
    return [
        SignedFile(file, _kind(file), f"{_kind(file)}:{package}:{place}")
        for place, file in enumerate(files, start=1)
    ]


def _kind(file: FetchedFile) -> FileKind:
    stem = file.name.rpartition(".")[0].lower() or file.name.lower()
    if stem.endswith(_MANIFEST):
        return FileKind.MANIFEST
    return FileKind.ORIGINAL if stem.endswith("-original") else FileKind.SIGNED


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
