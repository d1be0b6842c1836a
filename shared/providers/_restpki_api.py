"""Requests to an installation of Rest PKI Core, and what its refusals mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.errors import NotReadyError, PermanentError, TransientError
from shared.providers._base import (
    Answer,
    Into,
    Request,
    answered_object,
    excerpt,
    expect_success,
    origin_of,
    retry_after_seconds,
)

UNKNOWN_SESSION = "SignatureSessionNotFound"
GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True)
class Api:
    """One installation, as the settings name it. `base_url` has no slash at its end."""

    provider: str
    base_url: str
    origins: frozenset[str]
    key: Mapping[str, str] = field(repr=False)
    """The headers that say who asks."""
    retry_codes: frozenset[str]
    """Codes of a 422 answer that mean later."""

    @property
    def headers(self) -> dict[str, str]:
        """Of a request that wants JSON."""
        return {"Accept": "application/json", **self.key}

    @property
    def own_origin(self) -> str:
        """Where the key may go."""
        return origin_of(self.base_url)

    def get(self, path: str, *, silence_seconds: float | None = None) -> Request:
        """A reading."""
        return Request("GET", self.base_url + path, self.headers, silence_seconds=silence_seconds)

    def get_with_files(self, path: str) -> Request:
        """A reading of what may hold files, which then do not come into memory."""
        return Request(
            "GET",
            self.base_url + path,
            self.headers,
            into=Into.JSON_TREE,
            file_fields=frozenset({"content"}),
        )

    def expect(self, answer: Answer, what: str) -> None:
        """Return when the answer is a success, else raise what its status and its code mean.

        Raises:
            NotReadyError: 422 with a code that means later.
            PermanentError: 422 with any other; 404.
            TransientError: 500.
            As `expect_success`: every other status.
        """
        said = f"{what} was answered with {answer.status}"
        if answer.status == 422:
            code = code_of(answer)
            if code in self.retry_codes:
                raise NotReadyError(f"{said} {code}: not ready")
            raise PermanentError(f"{said} {code}: look at it at the provider")
        if answer.status == 404:
            raise PermanentError(f"{said}: correct base_url, or look for it at the provider")
        if answer.status == 500:
            raise TransientError(
                f"{said}, exception {word_in(answer, 'exceptionCode')}",
                retry_after_seconds=retry_after_seconds(answer.headers),
            )
        expect_success(answer, what)


def code_of(answer: Answer) -> str:
    """The code of a 422 answer, fit for a message."""
    return word_in(answer, "code")


def word_in(answer: Answer, name: str) -> str:
    """A word that stands in an error answer, fit for a message."""
    try:
        word = text(answered_object(answer, "the error").get(name))
    except TransientError:
        word = ""
    return excerpt(word.encode("utf-8", "replace"), 60) if word else f"without {name}"


def text(value: object) -> str:
    """A text, or an empty one in place of anything else: nearly all fields may be null."""
    return value if isinstance(value, str) else ""
