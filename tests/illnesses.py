"""The ways in which a peer can be ill, and what becomes of the work that meets each."""

from __future__ import annotations

from dataclasses import dataclass

from tests import misbehaving as ill
from tests.misbehaving import Behaviour, answering, answering_raw

PDF = b"%PDF-1.7\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"

FETCHES = ("ssign", "certisign")
UPLOADS = ("repeatable", "once", "smartshare", "bucket")
"""An HTTP receiver that knows the idempotency key, one that does not, SmartShare, and an object store."""
RETRY, HELD, FAILED, DONE = "due", "held", "failed", "done"


@dataclass(frozen=True)
class Illness:
    """How a peer behaves, and the state of what was tried then.

    `uploads` is in the order of `UPLOADS`, without the object store: for that it is as for a receiver that
    knows repeats, but for a success, which no store tells of like this.

    `reason` stands in the reason of everything that is not done.
    """

    name: str
    behave: Behaviour
    fetch: str
    uploads: tuple[str, str, str]
    reason: str = ""
    json_fetch: str = ""
    """For Certisign, when it is not as for S-SIGN."""
    waits_seconds: float = 0.0
    """How long the peer asked to be left alone."""
    silence_seconds: float = 20.0
    total_seconds: float = 40.0
    """For how long it may be silent, and how long its whole answer may take."""
    outlasts: bool = False
    """Whether it ends by such a limit alone, so that time has to pass."""

    def expected(self) -> dict[str, str]:
        return {
            "ssign": self.fetch,
            "certisign": self.json_fetch or self.fetch,
            **dict(zip(UPLOADS, (*self.uploads, self._bucket), strict=True)),
        }

    @property
    def _bucket(self) -> str:
        # Nor is it an object store that answers 404 without a code of S3.
        return RETRY if self.uploads[0] == DONE or self.name in NO_STORE_HERE else self.uploads[0]


UNKNOWN = (RETRY, HELD, HELD)
"""Whether the upload arrived cannot be told: sent again only to a receiver that can tell a repeat."""
NOT_DONE = (RETRY, RETRY, RETRY)
REFUSED = (FAILED, FAILED, FAILED)
ARRIVED = (DONE, DONE, DONE)

NO_STORE_HERE = {"404 that is endless"}

NEVER = 1e6
ELSEWHERE = "http://127.0.0.2:9/steal?token=1"
PAGE = b"<!doctype html><title>Login</title><p>{seen}</p>"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + PDF
UNENDED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + PDF


def moved(status: int, location: str) -> Behaviour:
    return answering(status, PAGE, location=location)


ILLNESSES = [
    Illness("silence", ill.silent, RETRY, UNKNOWN, "silent for", total_seconds=NEVER, outlasts=True),
    Illness("a reset before the answer", ill.resetting, RETRY, UNKNOWN, "broke the connection off"),
    Illness("a reset in its middle", ill.resetting_in_the_middle, RETRY, UNKNOWN, "broke the connection off"),
    Illness("no answer at all", answering_raw(b""), RETRY, UNKNOWN, "broke the connection off"),
    Illness("another protocol", answering_raw(b"220 ready\r\n\r\n"), RETRY, UNKNOWN, "broke the connection"),
    Illness("a body cut short", answering_raw(CUT), RETRY, UNKNOWN, "broke the connection off"),
    Illness("chunks without an end", answering_raw(UNENDED), RETRY, UNKNOWN, "broke the connection off"),
    Illness(
        "a body longer than announced",
        answering(200, PDF, content_length=str(len(PDF) - 10)),
        RETRY,
        ARRIVED,
        "cut off|not the JSON",
    ),
    Illness(
        "a dripping body",
        ill.dripping,
        RETRY,
        UNKNOWN,
        "did not finish its answer within",
        silence_seconds=NEVER,
        outlasts=True,
    ),
    Illness(
        "dripping headers",
        ill.dripping_headers,
        RETRY,
        UNKNOWN,
        "did not finish its answer within",
        silence_seconds=NEVER,
        outlasts=True,
    ),
    Illness("endless headers", ill.endless_headers, RETRY, UNKNOWN, "broke the connection off"),
    Illness(
        "an endless file",
        ill.endless(PDF, b" "),
        FAILED,
        UNKNOWN,
        "max_file|more than|JSON",
        json_fetch=RETRY,
    ),
    Illness("an endless package", ill.endless(b'{"x": "', b"x"), FAILED, UNKNOWN, "max_file|more than"),
    Illness("408", answering(408, PAGE), RETRY, NOT_DONE, "408"),
    Illness("429", answering(429, PAGE), RETRY, NOT_DONE, "429"),
    Illness("429 with seconds", answering(429, PAGE, retry_after="500"), RETRY, NOT_DONE, "429", "", 500),
    Illness("429 with a date", ill.pausing_until(500), RETRY, NOT_DONE, "429", "", 500),
    Illness("503", answering(503, PAGE), RETRY, NOT_DONE, "503"),
    Illness("503 with seconds", answering(503, PAGE, retry_after="500"), RETRY, NOT_DONE, "503", "", 500),
    Illness("500", answering(500, PAGE), RETRY, UNKNOWN, "500"),
    Illness("502", answering(502, PAGE), RETRY, UNKNOWN, "502"),
    Illness("504", answering(504, PAGE), RETRY, UNKNOWN, "504"),
    Illness("429 that is cut short", answering(429, PAGE, content_length="9000"), RETRY, NOT_DONE, "429"),
    Illness("404 that is endless", ill.endless_error, RETRY, REFUSED, "404"),
    Illness("401", answering(401, PAGE), RETRY, NOT_DONE, "401"),
    Illness("403", answering(403, PAGE), RETRY, NOT_DONE, "403"),
    Illness("400", answering(400, PAGE), FAILED, REFUSED, "400"),
    Illness("302 to another host", moved(302, ELSEWHERE), RETRY, UNKNOWN, "http://127.0.0.2:9, which is not"),
    Illness(
        "307 to another host", moved(307, ELSEWHERE), RETRY, NOT_DONE, "http://127.0.0.2:9, which is not"
    ),
    Illness("302 to the same host", moved(302, "/login"), RETRY, UNKNOWN, "a redirect to"),
    Illness("308 to nonsense", moved(308, "http://[/"), RETRY, NOT_DONE, "an address that is none"),
    Illness("a page with 200", answering(200, PAGE, content_type="text/html"), RETRY, UNKNOWN, "page"),
    Illness(
        "a page with 200 that is called a PDF",
        answering(200, PAGE, content_type="application/pdf"),
        RETRY,
        UNKNOWN,
        "page",
    ),
    Illness(
        "a notice with 200",
        answering(200, b"Service unavailable", content_type="text/plain"),
        RETRY,
        ARRIVED,
        "a text where|not the JSON",
    ),
    Illness(
        "an error with 200",
        answering(200, ill.json_body({"erro": "{seen}"})),
        RETRY,
        (DONE, DONE, FAILED),
        "JSON|erro",
    ),
    Illness("an empty 200", answering(200), RETRY, ARRIVED, "not ready|cut off"),
    Illness("204", answering_raw(b"HTTP/1.1 204 No Content\r\n\r\n"), RETRY, ARRIVED, "not ready|cut off"),
    Illness("a part with 206", answering(206, PDF), RETRY, ARRIVED, "part where the whole"),
    Illness(
        "a compressed bomb",
        answering(200, ill.bomb(b'{"x": "', b'"}'), content_encoding="gzip"),
        FAILED,
        UNKNOWN,
        "max_file|more than",
    ),
    Illness(
        "an unknown compression", answering(200, b"?", content_encoding="br"), RETRY, UNKNOWN, "compress"
    ),
    Illness(
        "a damaged compression", answering(200, b"?", content_encoding="gzip"), RETRY, UNKNOWN, "compress"
    ),
]
