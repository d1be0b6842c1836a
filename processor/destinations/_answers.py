"""What an answer means for the request that had, or may have had, an effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shared import jsontext
from shared.errors import NoAnswerError, PermanentError, TransientError
from shared.providers._base import Answer, excerpt, retry_after_seconds

_REFERENCE_LENGTH = 500


def expect_taken(
    answer: Answer, what: str, *, secrets: Iterable[str] = (), conflict_passes: bool = False
) -> None:
    """Return when the answer is a success, else raise what its status means.

    `what` begins the message. `secrets` are blotted out should the other side have repeated one.
    `conflict_passes` says that 409 means «the same request is in work at this moment».

    Raises:
        TransientError: 401 and 403, our own account is not accepted, which no document is to blame for; 408,
            425, 429 and 503, which say that the request was not handled.
        NoAnswerError: any other 5xx, which leaves open what was done before it broke.
        PermanentError: any other status.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    said = f"{what} was answered with {status}"
    if status in (401, 403):
        raise TransientError(f"{said}: correct the account in the settings, or its rights over there")
    wait_seconds = retry_after_seconds(answer.headers)
    if status in (408, 425, 429, 503) or (status == 409 and conflict_passes):
        raise TransientError(said, retry_after_seconds=wait_seconds)
    words = blotted_excerpt(answer.body, secrets)
    if status >= 500:
        raise NoAnswerError(
            f"{said}, which leaves open whether it was done: {words}", retry_after_seconds=wait_seconds
        )
    raise PermanentError(f"{said}: {words}")


def json_object(answer: Answer) -> Mapping[str, Any] | None:
    """The JSON object that an answer is, or None."""
    try:
        value = jsontext.loads(answer.body.decode("utf-8-sig"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def is_page(answer: Answer) -> bool:
    """Whether the answer is a web page, as from a proxy or of a login, and not one of an API."""
    start = answer.body.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
    is_html = answer.headers.get("content-type", "").lower().startswith("text/html")
    return start.startswith((b"<!doctype html", b"<html")) or (is_html and start.startswith(b"<"))


def said_error(fields: Mapping[str, Any], error_fields: Iterable[str], secrets: Iterable[str]) -> str:
    """What an answer that counts as a success says of an error, in a few words; empty when it says nothing.

    Field names are compared whatever their letter case. Empty values, 0 and false say nothing, but
    `success: false` does.
    """
    folded = {name.casefold(): value for name, value in fields.items()}
    for name in error_fields:
        value = folded.get(name.casefold())
        if _is_filled(value):
            return f"{name}: {blotted_excerpt(str(value).encode('utf-8', 'replace'), secrets)}"
    if "success" in folded and not _is_filled(folded["success"]):
        return "success: false"
    return ""


def reference_text(value: object) -> str:
    """A reference that the other side gave, fit to be stored; empty for anything but a text or number."""
    if not isinstance(value, str) or not value.strip():
        return ""
    return excerpt(value.encode("utf-8", "replace"), _REFERENCE_LENGTH)


def blotted_excerpt(body: bytes, secrets: Iterable[str]) -> str:
    """The beginning of a body for a message, every secret in it blotted out before anything is cut off."""
    for secret in filter(None, secrets):
        for written in {secret.encode("utf-8"), secret.encode("latin-1", "replace")}:
            body = body.replace(written, b"***")
    return excerpt(body)


def _is_filled(value: object) -> bool:
    # Numbers come as texts, and some services write truth values as texts too.
    return value.strip().lower() not in ("", "0", "false") if isinstance(value, str) else bool(value)
