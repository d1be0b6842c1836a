"""ArqSign's API: its requests, what its answers mean, and the files of a process."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from shared.errors import (
    AccessError,
    NotReadyError,
    OverQuotaError,
    PermanentError,
    WaitingError,
)
from shared.providers._arqsign_settings import GENERATIONS, Settings
from shared.providers._arqsign_words import Fields, objects, text
from shared.providers._base import (
    Answer,
    FileKind,
    Into,
    Request,
    SignedFile,
    answered_object,
    expect_success,
    origin_of,
    retry_after_seconds,
)

_PROCESS_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")

_FILE_FIELDS = frozenset({"base64documento", "documento", "base64registro", "base64", "arquivo"})
"""Every name, of either generation, under which a file stands."""


def is_process_id(value: str) -> bool:
    """Whether a text can be the id of a process: nothing that would change an address."""
    return _PROCESS_ID.fullmatch(value) is not None


class Api:
    """The API with the account's keys. `name` is that of the provider in the settings."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.base_url = str(settings.base_url or GENERATIONS[settings.generation].base_url).rstrip("/")

    @property
    def origin(self) -> str:
        """Where every request goes."""
        return origin_of(self.base_url)

    @property
    def headers(self) -> dict[str, str]:
        """The account's keys.

        Raises:
            WaitingError: they are not set.
        """
        settings = self.settings
        if settings.app_key is None:
            raise WaitingError(
                f"set app_key (and subscription_key for v2) under [providers.{self.name}] to reach its API"
            )
        headers = {settings.app_key_header: settings.app_key.get_secret_value()}
        if settings.subscription_key is not None:
            headers[settings.subscription_key_header] = settings.subscription_key.get_secret_value()
        return headers

    def about(self, path: str, process_id: str, *, method: str = "GET") -> Request:
        """A request about one process.

        Raises:
            PermanentError: this is no id of a process.
            WaitingError: the keys are not set.
        """
        if not is_process_id(process_id):
            raise PermanentError("this is no id of a process: it cannot stand in the address of a call")
        return Request(
            method, self.base_url + path.replace("{idProcesso}", quote(process_id, safe="")), self.headers
        )

    def process(self, process_id: str) -> Request:
        """The request for a process with its files.

        Raises:
            As `about`.
        """
        path = self.settings.process_path or GENERATIONS[self.settings.generation].process_path
        return replace(self.about(path, process_id), into=Into.JSON_TREE, file_fields=_FILE_FIELDS)

    def object_of(self, answer: Answer, what: str) -> Fields:
        """The object in an answer that is a success.

        Raises:
            AccessError: 401, the AppKey was replaced.
            WaitingError: 404, there is no such call: that too is for a person.
            OverQuotaError: the account has used up its calls.
            TransientError: the server has trouble, or the answer is no JSON object.
            PermanentError: 400, the process is unknown or deleted; any other status.
        """
        self.expect(answer, what)
        return Fields(answered_object(answer, what))

    def expect(self, answer: Answer, what: str) -> None:
        """Return when an answer is a success.

        Raises:
            As `object_of`.
        """
        settings = self.settings
        if answer.status in settings.over_quota_statuses:
            asked = retry_after_seconds(answer.headers)
            raise OverQuotaError(
                f"ArqSign answered with {answer.status}: the account's calls are used up, it is asked later",
                retry_after_seconds=settings.over_quota_wait_seconds if asked is None else asked,
            )
        if answer.status == 401:
            raise AccessError(
                "ArqSign accepts our keys no more (a new AppKey ends the old one at once): set app_key and "
                f"subscription_key under [providers.{self.name}], then start again"
            )
        if answer.status == 404:
            raise WaitingError(
                "ArqSign knows no such call: correct generation, base_url or the path (process_path, "
                f"status_path, signers_path) under [providers.{self.name}], then retry"
            )
        expect_success(answer, what)

    def files(self, process: Fields, answer: Answer) -> list[SignedFile]:
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
        named = replace(file, name=text(label), media_type="application/pdf")
        return SignedFile(named, kind, f"{kind}:{source}")


def _documents(process: Fields) -> Sequence[Fields]:
    """The documents of a process in their order: v2 has a list of them, v1 a single one beside its record."""
    single = process.get("documento")
    if isinstance(single, dict):
        return [Fields({**single, "registroAssinaturas": process.get("registroassinaturas")})]
    documents = objects(process.get("documentos"))
    places = {id(document): place for place, document in enumerate(documents, start=1)}

    def order(document: Fields) -> int:
        place = text(document.get("ordemdocumento"))
        return int(place) if re.fullmatch(r"\d{1,6}", place) else places[id(document)]

    return sorted(documents, key=order)


def _source(document_id: object, place: int) -> str:
    """Where a file came from, the same whenever it is fetched: the document's id, or its place."""
    found = text(document_id)
    return found if is_process_id(found) else str(place)
