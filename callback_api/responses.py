"""The one table: error -> HTTP status and problem; acknowledgement -> reply."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from starlette.types import Send

from shared.errors import (
    NotProvenError,
    RefusedError,
    SpoolUnavailableError,
    TooLargeError,
    UnavailableError,
    UnknownProviderError,
    UnusableBodyError,
)
from shared.masking import mask
from shared.providers._base import Acknowledgement

PROBLEM_TYPE = "application/problem+json"
MAX_DETAIL_CHARACTERS = 300

MAX_KNOWN_SHAPES = 64
"""Media types with lengths whose headers are remembered."""

Headers = tuple[tuple[bytes, bytes], ...]


class NoSuchPathError(RefusedError):
    """Nothing is served under this path."""

    status = 404
    title = "Not found"


class MethodNotAllowedError(RefusedError):
    """The path does not know the method."""

    status = 405
    title = "Method not allowed"


class TooSlowError(RefusedError):
    """The body did not arrive in time."""

    status = 408
    title = "Body too slow"


class BusyError(UnavailableError):
    """As much as may be is in hand already."""


@dataclass(frozen=True, slots=True)
class Problem:
    """How one kind of error is answered.

    `detail` of None shows the error's own words; what is wrong inside this machine is for the log alone.
    """

    type: str
    status: int
    title: str
    detail: str | None = None
    again: bool = False
    """Whether the sender shall come back, as `Retry-After` says."""


def _refusal(name: str, kind: type[RefusedError]) -> Problem:
    return Problem(f"/problems/{name}", kind.status, kind.title)


# An error is answered as the nearest of its classes that stands here.
PROBLEMS: Mapping[type[BaseException], Problem] = {
    UnknownProviderError: _refusal("unknown-provider", UnknownProviderError),
    NotProvenError: _refusal("not-proven", NotProvenError),
    TooSlowError: _refusal("body-too-slow", TooSlowError),
    TooLargeError: _refusal("body-too-large", TooLargeError),
    UnusableBodyError: _refusal("unusable-body", UnusableBodyError),
    NoSuchPathError: _refusal("not-found", NoSuchPathError),
    MethodNotAllowedError: _refusal("method-not-allowed", MethodNotAllowedError),
    RefusedError: _refusal("refused", RefusedError),
    SpoolUnavailableError: Problem(
        "/problems/not-stored",
        503,
        "Cannot be stored now",
        "the callback was not stored: send it again after the time in Retry-After",
        again=True,
    ),
    BusyError: Problem(
        "/problems/busy",
        503,
        "Too many requests at once",
        "the callback was not stored: send it again after the time in Retry-After",
        again=True,
    ),
    # Whatever we did not foresee is our fault, and the provider shall come again.
    BaseException: Problem(
        "/problems/unavailable",
        503,
        "Not available now",
        "the request was not completed: send it again after the time in Retry-After",
        again=True,
    ),
}


class Reply(NamedTuple):
    """One answer, whole."""

    status: int
    headers: Headers
    body: bytes

    async def send(self, send: Send, *, head_only: bool = False, closing: bool = False) -> None:
        """Send it; `head_only` answers HEAD, `closing` announces the end of the connection and leaves the
        answer open, so that the caller can let the sender read it first."""
        headers = (*self.headers, (b"connection", b"close")) if closing else self.headers
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        body = b"" if head_only else self.body
        await send({"type": "http.response.body", "body": body, "more_body": closing})


def reply(
    status: int, body: bytes, media_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> Reply:
    """An answer with its length and media type."""
    known = _plain_headers(media_type, len(body))
    if not headers:
        return Reply(status, known, body)
    further = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()]
    return Reply(status, (*known, *further), body)


@lru_cache(MAX_KNOWN_SHAPES)
def _plain_headers(media_type: str, body_bytes: int) -> Headers:
    """The headers that every answer has; nearly all of them have the same."""
    return (b"content-type", media_type.encode("latin-1")), (b"content-length", b"%d" % body_bytes)


def accepted(acknowledgement: Acknowledgement, receipt_id: str) -> Reply:
    """The provider's words for a stored callback, else ours."""
    body = acknowledgement.body
    if body is None:
        body = b'{"status":"accepted","id":"%s"}' % receipt_id.encode("ascii")
    return reply(acknowledgement.status, body, acknowledgement.media_type, acknowledgement.headers)


def problem_of(error: BaseException) -> tuple[Problem, int, str]:
    """The row of the table that an error falls under, its status, and its detail."""
    problem = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    status = error.status if isinstance(error, RefusedError) else problem.status
    return problem, status, one_line(str(error) if problem.detail is None else problem.detail)


def refused(
    error: BaseException, *, retry_after_seconds: float, headers: Mapping[str, str] | None = None
) -> Reply:
    """The problem details (RFC 9457) for an error."""
    problem, status, detail = problem_of(error)
    title = error.title if isinstance(error, RefusedError) else problem.title
    return problem_reply(
        Problem(problem.type, status, title, detail, problem.again),
        retry_after_seconds=retry_after_seconds,
        headers=headers,
    )


def problem_reply(
    problem: Problem, *, retry_after_seconds: float, headers: Mapping[str, str] | None = None
) -> Reply:
    """A problem that has its detail, as an answer."""
    further = dict(headers or {})
    if problem.again:
        further["retry-after"] = str(max(1, math.ceil(retry_after_seconds)))
    body = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail or "",
    }
    return reply(problem.status, json.dumps(body).encode(), PROBLEM_TYPE, further)


def one_line(text: str) -> str:
    """A text as one printable line of bounded length, without secrets and numbers of persons."""
    text = mask(text[: 2 * MAX_DETAIL_CHARACTERS])
    line = "".join(char if char.isprintable() else " " for char in text[: MAX_DETAIL_CHARACTERS + 1])
    return line if len(line) <= MAX_DETAIL_CHARACTERS else line[: MAX_DETAIL_CHARACTERS - 1] + "…"
