"""Rest PKI Core: files behind links that grow stale, may be relative, and lead to configured hosts alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import (
    AccessError,
    NotReadyError,
    PermanentError,
    SignspoolError,
    TransientError,
    WaitingError,
)
from shared.providers._base import Answer, DocumentView, FileKind, Into, Request
from tests.providers.conftest import drive, make_file, make_provider, sample

ID = "3dfdd6f0-884e-4092-abed-00f18ea6716a"
BASE = "https://core.pki.rest"
KEY = "yourapp|0123456789abcdef"
VIEW = DocumentView(ID, {})


def model(**changes: Any) -> dict[str, Any]:
    """A document as the API gives it: that of the sample, with changes."""
    found: dict[str, Any] = json.loads(sample("restpki", "completed").body)["document"]
    return copy.deepcopy(found) | changes


def file(link: str | None, **more: Any) -> dict[str, Any]:
    """A file model; the length is that of `make_file`."""
    return {"name": "Contrato.pdf", "length": 9, "url": link, **more}


class Api:
    """Answers as the provider does: its documents in turn, the last one for ever, and what links lead to."""

    def __init__(self, *models: dict[str, Any], links: dict[str, int] | None = None) -> None:
        self.models = list(models)
        self.links = links or {}

    def __call__(self, request: Request) -> Answer:
        if request.into is Into.JSON_TREE:
            shown = self.models.pop(0) if len(self.models) > 1 else self.models[0]
            return Answer(200, {}, json.dumps(shown).encode())
        status = self.links.get(request.url, 200)
        return Answer(status, {}, files=(make_file(1, "from-the-header.pdf"),) if status == 200 else ())


def fetch(
    answer: Callable[[Request], Answer], document: DocumentView = VIEW, **settings: Any
) -> tuple[list[Request], Any]:
    provider = make_provider("restpki", token=KEY, **settings)
    return drive(provider.signed_file(document), answer)


def test_the_document_is_read_and_its_own_link_followed() -> None:
    link = f"{BASE}/api/documents/{ID}/signed-file?access_ticket=FRESH"
    requests, [found] = fetch(Api(model(signedFile=file(link))), subscription="77")
    key = {"X-Api-Key": KEY, "X-Subscription": "77"}
    assert requests == [
        Request(
            "GET",
            f"{BASE}/api/documents/{ID}",
            {"Accept": "application/json", **key},
            into=Into.JSON_TREE,
            file_fields=frozenset({"content"}),
        ),
        Request("GET", link, key, into=Into.FILE, redirects=True),
    ]
    assert (found.kind, found.source, found.file.name) == (FileKind.SIGNED, "signed", "Contrato.pdf")


@pytest.mark.parametrize("name", ["completed", "completed.old-shape"])
def test_either_shape_of_the_document_has_its_link(name: str) -> None:
    shown = json.loads(sample("restpki", name).body)["document"]
    shown["signedFile"]["length"] = None
    requests, _ = fetch(Api(shown))
    assert requests[1].url == f"{BASE}/api/documents/{ID}/signed-file?access_ticket=TICKET"


@pytest.mark.parametrize(
    ("base_url", "link", "url"),
    [
        (
            BASE,
            "/api/documents/x/signed-file?access_ticket=T",
            f"{BASE}/api/documents/x/signed-file?access_ticket=T",
        ),
        (f"{BASE}/", "api/x?t=1", f"{BASE}/api/x?t=1"),
        ("https://pki.example/rest", "api/x?t=1", "https://pki.example/rest/api/x?t=1"),
        ("https://pki.example/rest", "/api/x?t=1", "https://pki.example/rest/api/x?t=1"),
        ("https://pki.example/rest/", "/rest/api/x?t=1", "https://pki.example/rest/api/x?t=1"),
    ],
)
def test_a_relative_link_starts_at_the_endpoint(base_url: str, link: str, url: str) -> None:
    requests, _ = fetch(Api(model(signedFile=file(link))), base_url=base_url)
    assert requests[0].url == f"{base_url.rstrip('/')}/api/documents/{ID}"
    assert requests[1].url == url


def test_a_link_that_names_a_host_alone_is_none_of_an_endpoint_with_a_path() -> None:
    with pytest.raises(WaitingError, match=r"https://evil\.example:443"):
        fetch(Api(model(signedFile=file("//evil.example/x"))), base_url="https://core.pki.rest/rest")


@pytest.mark.parametrize(
    "link",
    [
        "https://core.pki.rest.evil.example/x",
        "//evil.example/x",
        "http://core.pki.rest/x",
        "https://core.pki.rest:444/x",
        "https://\ud800.example/x",
    ],
)
def test_a_link_to_any_other_host_waits_for_the_setting_and_is_not_asked(link: str) -> None:
    requests: list[Request] = []

    def answer(request: Request) -> Answer:
        requests.append(request)
        return Answer(200, {}, json.dumps(model(signedFile=file(f"{link}?access_ticket=T1CKET"))).encode())

    with pytest.raises(WaitingError, match="link_origins") as waiting:
        fetch(answer)
    assert len(requests) == 1
    assert "T1CKET" not in str(waiting.value)


@pytest.mark.parametrize(
    "link", ["ftp://core.pki.rest/x", "https://u:p@core.pki.rest/x", "https://[/x", "mailto:x"]
)
def test_a_link_that_is_none_is_not_asked(link: str) -> None:
    with pytest.raises(PermanentError, match="no http address"):
        fetch(Api(model(signedFile=file(link))))


def test_a_further_host_is_asked_without_the_key() -> None:
    link = "https://files.example/x?sig=1"
    requests, _ = fetch(Api(model(signedFile=file(link))), link_origins=["https://files.example"])
    assert (requests[1].url, requests[1].headers) == (link, {})


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_stale_link_has_the_document_read_again(status: int) -> None:
    old, fresh = f"{BASE}/x?access_ticket=OLD", f"{BASE}/x?access_ticket=FRESH"
    api = Api(model(signedFile=file(old)), model(signedFile=file(fresh, length="9")), links={old: status})
    requests, [found] = fetch(api)
    read = f"{BASE}/api/documents/{ID}"
    assert [request.url for request in requests] == [read, old, read, fresh]
    assert found.file.name == "Contrato.pdf"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_fresh_link_that_is_stale_too_is_for_later_and_never_for_good(status: int) -> None:
    link = f"{BASE}/x?access_ticket=T1CKET"
    with pytest.raises(TransientError, match="a fresh one") as raised:
        fetch(Api(model(signedFile=file(link)), links={link: status}))
    assert "T1CKET" not in str(raised.value)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_provider_in_trouble_is_not_asked_twice(status: int) -> None:
    link = f"{BASE}/x"
    requests: list[Request] = []
    api = Api(model(signedFile=file(link)), links={link: status})

    def answer(request: Request) -> Answer:
        requests.append(request)
        return api(request)

    with pytest.raises(TransientError):
        fetch(answer)
    assert len(requests) == 2


@pytest.mark.parametrize("length", [8, 10, "123456789012345678901234567890"])
def test_a_file_of_another_length_is_fetched_again(length: object) -> None:
    with pytest.raises(TransientError, match="9 bytes came of signedFile"):
        fetch(Api(model(signedFile=file(f"{BASE}/x", length=length))))


@pytest.mark.parametrize("length", [None, "", True, -9, [9], "9 "])
def test_a_length_that_is_none_is_not_held_against_the_file(length: object) -> None:
    _, [found] = fetch(Api(model(signedFile=file(f"{BASE}/x", length=length))))
    assert found.kind is FileKind.SIGNED


@pytest.mark.parametrize("signed", [None, "text", {}, file(None), file("")])
def test_a_document_without_signed_file_is_not_ready(signed: object) -> None:
    with pytest.raises(NotReadyError):
        fetch(Api(model(signedFile=signed)))


def test_a_file_inside_of_the_answer_is_taken_from_there_whatever_its_link() -> None:
    inside = (make_file(1, ""), make_file(2, ""))
    shown = model(
        originalFile=file(None, content=0),
        signedFile=file(f"{BASE}/x", content=1, mimeType="application/pdf"),
    )
    requests, [found] = fetch(lambda _: Answer(200, {}, json.dumps(shown).encode(), files=inside))
    assert len(requests) == 1
    assert (found.file.token, found.file.name) == (2, "Contrato.pdf")
    assert found.file.media_type == "application/pdf"


def test_a_file_inside_of_the_answer_that_has_another_length_is_read_again() -> None:
    shown = model(signedFile=file(None, content=0, length=8))
    with pytest.raises(TransientError, match="9 bytes came of signedFile"):
        fetch(lambda _: Answer(200, {}, json.dumps(shown).encode(), files=(make_file(1, ""),)))


class Elsewhere:
    """A document whose link is a redirect, to where `targets` lead one after the other."""

    def __init__(self, *targets: str) -> None:
        self.targets = list(targets)
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        if request.into is Into.JSON_TREE:
            return Answer(200, {}, json.dumps(model(signedFile=file(f"{BASE}/x"))).encode())
        self.asked.append(request)
        if self.targets:
            return Answer(302, {"location": self.targets.pop(0)})
        return Answer(200, {}, files=(make_file(1, ""),))


@pytest.mark.parametrize(
    ("target", "url", "with_key"),
    [
        ("/y?sig=1", f"{BASE}/y?sig=1", True),
        ("https://files.example/y?sig=1", "https://files.example/y?sig=1", False),
    ],
)
def test_a_link_that_is_a_redirect_is_followed_once_within_the_settings(
    target: str, url: str, with_key: bool
) -> None:
    api = Elsewhere(target)
    _, [found] = fetch(api, link_origins=["https://files.example"])
    assert [(request.url, bool(request.headers)) for request in api.asked] == [
        (f"{BASE}/x", True),
        (url, with_key),
    ]
    assert found.file.token == 1


def test_a_redirect_to_another_host_waits_for_the_setting_and_tells_no_ticket() -> None:
    api = Elsewhere("https://files.example/y?sig=T1CKET")
    with pytest.raises(WaitingError, match=r"https://files\.example:443.*link_origins") as waiting:
        fetch(api)
    assert len(api.asked) == 1
    assert "T1CKET" not in str(waiting.value)


@pytest.mark.parametrize("targets", [("/y", "/z"), ("",)])
def test_redirects_in_a_row_or_to_nowhere_are_for_later(targets: tuple[str, ...]) -> None:
    with pytest.raises(TransientError, match="302"):
        fetch(Elsewhere(*targets))


@pytest.mark.parametrize(
    ("kind", "marked", "wanted"),
    [
        ("Cms", file(f"{BASE}/marked"), ["signed", "marked"]),
        ("Cades", None, ["signed", "original"]),
        ("Pdf", file(f"{BASE}/marked"), ["signed"]),
        ("Xml", None, ["signed"]),
    ],
)
def test_of_a_cms_signature_the_signed_content_is_fetched_on_request(
    kind: str, marked: object, wanted: list[str]
) -> None:
    files = {
        "signedFile": file(f"{BASE}/signed"),
        "markedFile": marked,
        "originalFile": file(f"{BASE}/original"),
    }
    requests, found = fetch(Api(model(signatureType=kind, **files)), fetch_content=True)
    assert [request.url for request in requests[1:]] == [f"{BASE}/{name}" for name in wanted]
    assert [(item.kind, item.source) for item in found] == [
        (FileKind.SIGNED, "signed"),
        (FileKind.ORIGINAL, "original"),
    ][: len(wanted)]
    requests, _ = fetch(Api(model(signatureType=kind, **files)))
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, b"", AccessError, "token"),
        (403, b"", AccessError, "token"),
        (404, b"<html>", PermanentError, "base_url"),
        (400, b"x", PermanentError, "400"),
        (415, b"", PermanentError, "415"),
        (422, b'{"code": "DocumentNotFound"}', PermanentError, "422 DocumentNotFound"),
        (422, b'{"code": "BackgroundProcessing"}', NotReadyError, "BackgroundProcessing"),
        (422, b'{"code": "SubscriptionLimit"}', PermanentError, "SubscriptionLimit"),
        (422, b"<html>", PermanentError, "422 without code"),
        (422, b'{"code": "\\ud800"}', PermanentError, "422"),
        (429, b"", TransientError, "429"),
        (500, b'{"exceptionCode": "0HMVX"}', TransientError, "500, exception 0HMVX"),
        (500, b"", TransientError, "without exceptionCode"),
        (503, b"", TransientError, "503"),
        (200, b"<html>Manuten\xc3\xa7\xc3\xa3o</html>", TransientError, "JSON object"),
        (200, b"[" * 100_000, TransientError, "JSON object"),
        (200, b"\xff", TransientError, "JSON object"),
    ],
)
def test_what_a_failed_reading_means(
    status: int, body: bytes, error: type[SignspoolError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        fetch(lambda _: Answer(status, {"retry-after": "7"}, body))
    assert type(raised.value) is error
    assert KEY not in str(raised.value)
    if isinstance(raised.value, TransientError) and status >= 429:
        assert raised.value.retry_after_seconds == 7


def test_settings_can_make_a_code_mean_later() -> None:
    def answer(_: Request) -> Answer:
        return Answer(422, {}, b'{"code": "SubscriptionLimit"}')

    with pytest.raises(NotReadyError):
        fetch(answer, retry_codes=["SubscriptionLimit"])


@pytest.mark.parametrize("document_id", ["../../system/info", "..", "a?b", "a b", "\u0661", "a" * 65])
def test_an_id_that_is_none_never_becomes_an_address(document_id: str) -> None:
    def answer(request: Request) -> Answer:
        raise AssertionError(f"asked for {request.url}")

    with pytest.raises(PermanentError, match="GUID"):
        fetch(answer, DocumentView(document_id, {}))


def test_requests_go_to_the_configured_hosts_alone() -> None:
    assert make_provider("restpki").origins == {"https://core.pki.rest:443"}
    own = make_provider(
        "restpki", base_url="https://pki.example/x", link_origins=["https://files.example:8443/y"]
    )
    assert own.origins == {"https://pki.example:443", "https://files.example:8443"}
