"""Reading what providers say: what the status of an answer means, ids and fields as they come, addresses."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from shared import jsontext
from shared.errors import AccessError, NotReadyError, PermanentError, TransientError, UnusableBodyError
from shared.masking import mask
from shared.providers._values import Answer


def expect_success(answer: Answer, what: str) -> None:
    """Return when the answer is a success, else raise what its status means.

    Raises:
        AccessError: 401 or 403, our own key is not accepted: nothing helps but a person.
        NotReadyError: 404, 409 or 425: the file is not there, perhaps not yet.
        TransientError: 408, 429 and 5xx.
        PermanentError: any other status.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    said = f"{what} was answered with {status}"
    if status in (401, 403):
        raise AccessError(f"{said}: correct the provider's token in the settings, then retry")
    if status in (404, 409, 425):
        raise NotReadyError(f"{said}: not ready, or the registered reference is wrong")
    if status in (408, 429) or status >= 500:
        raise TransientError(said, retry_after_seconds=retry_after_seconds(answer.headers))
    raise PermanentError(f"{said}: {excerpt(answer.body)}")


def answered_object(answer: Answer, what: str) -> dict[str, Any]:
    """The JSON object that an answer in memory holds; numbers come as they were written.

    Raises:
        TransientError: it holds something else, as an error page of a proxy is.
    """
    try:
        return jsontext.parse_object(answer.body.decode("utf-8-sig"))
    except ValueError:
        raise TransientError(f"{what} came as something else than a JSON object: asked again") from None


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; None for nonsense, or none.

    A date is counted from the answer's own Date, so that the clocks need not agree.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 9:
        return float(value)
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        # A TypeError comes of a date without a zone beside one that has one.
        return None
    return max(0.0, wait.total_seconds())


def excerpt(body: bytes, length: int = 200) -> str:
    """The beginning of a body for a message: one line, printable, without numbers of persons."""
    # With some more than can be shown, so that no number is cut in two and then not seen to be one.
    text = mask(body[: (length + 16) * 4].decode("utf-8", "replace"))
    return "".join(char if char.isprintable() else " " for char in text)[:length].strip() or "empty body"


def how_to_register(provider: str, document_id: str, reference: str) -> str:
    """The command that registers a reference of a document, ready to be typed for an ordinary id."""
    named = shlex.quote(document_id) if document_id.isprintable() and len(document_id) <= 60 else "ID"
    return f"signspool documents register {provider} {named} --ref {reference}"


def id_text(value: object, name: str) -> str:
    """An id as text: a JSON text as it is, a whole number as it was written.

    Raises:
        UnusableBodyError: empty, or of another kind.
    """
    if isinstance(value, str) and (
        isinstance(value, jsontext.WholeNumber) or not isinstance(value, jsontext.Number)
    ):
        if value.strip():
            return str(value)
        raise UnusableBodyError(f"{name} is empty")
    kind = jsontext.kind_of(value)
    raise UnusableBodyError(f"{name} must be a text or a whole number, this is {kind}")


def find_field(body: Mapping[str, Any], *names: str) -> tuple[str, object]:
    """The first field that has one of the names, whatever their letter case, as (name, value).

    Raises:
        UnusableBodyError: there is none.
    """
    for name in names:
        if name in body:
            return name, body[name]
    by_folded = {key.casefold(): key for key in body}
    for name in names:
        if (key := by_folded.get(name.casefold())) is not None:
            return key, body[key]
    raise UnusableBodyError(f"{' or '.join(names)} is missing")


def origin_of(url: str) -> str:
    """The origin of an address: scheme, host and port in one spelling, `https://host:443`.

    Raises:
        ValueError: not an http or https address with a host, or it carries a user name.
    """
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    if not parts.hostname or port is None or "@" in parts.netloc:
        raise ValueError("an http or https address with a host is needed, without a user name")
    return f"{parts.scheme}://{parts.hostname.lower()}:{port}"
