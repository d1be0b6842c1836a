"""What the answers of Posten signering mean: when the next poll is permitted, and what an error leads to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from shared.errors import AccessError, PermanentError, TransientError, UnusableBodyError
from shared.providers._base import Answer, excerpt, retry_after_seconds
from shared.providers._posten_xml import instant, mask, read_error

POLL_TIME = "x-next-permitted-poll-time"
FLOOD_FILTER = "dosfilter"
NO_TIME_SECONDS = 600.0
"""The pause where the service should have named a time and did not."""
MAX_WAIT_SECONDS = 900.0
FLOOD_SECONDS = 30.0
_MARGIN_SECONDS = 1.0
"""The Date of an answer is of whole seconds."""

_NO_ACCESS = frozenset({"NOT_AUTHORIZED", "BROKER_NOT_AUTHORIZED"})
_FOR_GOOD = frozenset({"SCHEMA_VALIDATION_ERROR", "ASICE_VALIDATION_FAILED", "FEATURE_NOT_AVAILABLE"})
_CODE = re.compile(r"[A-Z][A-Z0-9_]{2,79}")


def wait_seconds(headers: Mapping[str, str], fallback_seconds: float) -> float:
    """Seconds until the next poll is permitted, by the server's own clock, and never longer than 15 minutes.

    Without a time, or with one that cannot be read, it is the fallback; 0 for a time that has passed.
    """
    permitted = instant(headers.get(POLL_TIME, "").partition("[")[0].strip())
    if permitted is None:
        return fallback_seconds
    try:
        date = parsedate_to_datetime(headers.get("date", ""))
        seconds = (permitted - date).total_seconds()
    except (TypeError, ValueError):
        return fallback_seconds
    return min(seconds + _MARGIN_SECONDS, MAX_WAIT_SECONDS) if seconds > 0 else 0.0


def refused_seconds(headers: Mapping[str, str]) -> float:
    """Seconds to wait after a 429: until the time that it names, or as long as the flood filter blocks."""
    if FLOOD_FILTER in headers:
        return max(FLOOD_SECONDS, wait_seconds(headers, FLOOD_SECONDS))
    return wait_seconds(headers, NO_TIME_SECONDS)


def server_time(answer: Answer) -> datetime:
    """The service's clock when it answered.

    Raises:
        TransientError: the answer does not say.
    """
    try:
        return parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        raise TransientError(
            "the service's answer has no Date, which the package has to be signed with"
        ) from None


def error_code(answer: Answer) -> str:
    """The `error-code` of an answer, empty where it has none."""
    if "xml" not in answer.headers.get("content-type", ""):
        return ""
    try:
        code = read_error(answer.body).code
    except UnusableBodyError:
        return ""
    return code if _CODE.fullmatch(code) else ""


def expect(answer: Answer, what: str) -> None:
    """Return when an answer is a success, else raise what its code means, or what its status does.

    Raises:
        AccessError: the certificate, or the organisation in it, is not accepted.
        PermanentError: repeating it cannot help.
        TransientError: it may.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    code = error_code(answer)
    said = f"{what} was answered with {status} {_words(answer, code)}"
    if code in _NO_ACCESS or (status in (401, 403) and not code):
        raise AccessError(
            f"{said}: see that sender and certificate are those of an organisation with access, "
            "and that a broker is authorised for the sender"
        )
    if code in _FOR_GOOD:
        raise PermanentError(said)
    if status == 429:
        raise TransientError(said, retry_after_seconds=refused_seconds(answer.headers))
    if status == 408 or status >= 500:
        raise TransientError(said, retry_after_seconds=retry_after_seconds(answer.headers))
    raise PermanentError(said)


def _words(answer: Answer, code: str) -> str:
    """What an error says of itself, in one line and without personal numbers."""
    if code:
        return mask(f"{code} ({excerpt(read_error(answer.body).message.encode())})")
    return mask(f"({excerpt(answer.body)})")
