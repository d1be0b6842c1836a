"""S-SIGN (Selbetti, Satelitti suite).

Source: https://docs.selbetti.com.br/?p=29143 and publicly readable integration code, read 2026-11.
Proof:  none of its own; a secret header or secret in the address and an address list, by setting.
Answer: not public; 200 with our own words.
Resends: not public.
File:   GET .../signer/IntegrationEnvelopeFile by the file id of the upload, not by the envelope id.
"""

from __future__ import annotations

from urllib.parse import quote

from pydantic import Field, HttpUrl, SecretStr

from shared.errors import WaitingError
from shared.events import EventType
from shared.providers._base import (
    Callback,
    DocumentView,
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


class Settings(SharedSecretSettings):
    """Settings of S-SIGN."""

    base_url: HttpUrl | None = Field(
        default=None,
        description="API root of the tenant, as in https://TENANT.satelitti.com.br/rest",
    )
    token: SecretStr | None = Field(default=None, description="the tenant's API token")
    authorization_scheme: str = Field(
        default="Custom", description="scheme word before the token in Authorization"
    )
    file_path: str = Field(default="/signer/IntegrationEnvelopeFile", description="path of the download call")
    signed_suffix: int = Field(default=2, description="EnvelopeFileSuffix of the signed file")
    report_suffix: int = Field(default=3, description="EnvelopeFileSuffix of the report")
    fetch_report: bool = Field(default=False, description="fetch the report too")


class SSign(SharedSecretProvider[Settings]):
    """S-SIGN: an integer envelope, four actions, files by the ids that their upload returned."""

    title = "S-SIGN"
    number = 1
    Settings = Settings
    # PENDING says that nothing happened yet, so it claims the lowest status and never undoes another.
    event_types = {
        "COMPLETED": EventType.COMPLETED,
        "PENDING": EventType.SENT,
        "EXPIRED": EventType.EXPIRED,
        "DELETED": EventType.DELETED,
    }
    references = {"file_ids": "ids that the upload of each file returned, separated by commas: 901,902"}

    def callback_id(self, callback: Callback) -> Head:
        body = callback.json
        name, value = find_field(body, "envelopeId")
        action_name, action = find_field(body, "action")
        return Head(id_text(value, name), id_text(action, action_name))

    @property
    def origins(self) -> frozenset[str]:
        base_url = self.settings.base_url
        return frozenset({origin_of(str(base_url))} if base_url else ())

    def signed_file(self, document: DocumentView) -> SignedFiles:
        settings = self.settings
        file_ids = [
            part.strip() for part in document.references.get("file_ids", "").split(",") if part.strip()
        ]
        if not file_ids:
            hint = how_to_register(self.name, document.document_id, "file_ids=901,902")
            raise WaitingError(f"no file ids are registered: {hint}")
        if settings.base_url is None or settings.token is None:
            raise WaitingError(f"set base_url and token under [providers.{self.name}] to fetch its files")
        wanted = [(FileKind.SIGNED, settings.signed_suffix)]
        if settings.fetch_report:
            wanted.append((FileKind.REPORT, settings.report_suffix))
        files = []
        for file_id in file_ids:
            for kind, suffix in wanted:
                answer = yield self._download(file_id, suffix)
                expect_success(answer, f"file {file_id}")
                files.append(SignedFile(answer.files[0], kind, f"{kind}:{file_id}"))
        return files

    def _download(self, file_id: str, suffix: int) -> Request:
        settings = self.settings
        assert settings.token is not None
        return Request(
            "GET",
            f"{str(settings.base_url).rstrip('/')}{settings.file_path}"
            f"?EnvelopeFileSuffix={suffix}&EnvelopeFileId={quote(file_id, safe='')}",
            headers={"Authorization": f"{settings.authorization_scheme} {settings.token.get_secret_value()}"},
            into=Into.FILE,
        )
