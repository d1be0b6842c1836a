"""S-SIGN: exact ids, four actions, files by the ids of their upload."""

from __future__ import annotations

import pytest

from shared.errors import (
    NotReadyError,
    PermanentError,
    TransientError,
    UnusableBodyError,
    WaitingError,
)
from shared.events import EventType
from shared.providers._base import Answer, DocumentView, FileKind, Head, Into, Request
from tests.providers.conftest import drive, make_callback, make_file, make_provider, sample

API = {"base_url": "https://tenant.satelitti.com.br/rest", "token": "t0ken"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("completed", EventType.COMPLETED),
        ("pending", EventType.SENT),
        ("expired", EventType.EXPIRED),
        ("deleted", EventType.DELETED),
    ],
)
def test_what_each_action_means(name: str, kind: EventType) -> None:
    provider = make_provider("ssign")
    callback = sample("ssign", name)
    [event] = provider.parse(provider.callback_id(callback), callback)
    assert (event.document_id, event.type) == ("155", kind)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"155", "155"),
        (b'"155"', "155"),
        (b"9007199254740993", "9007199254740993"),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
        (b"-1", "-1"),
        (b"0", "0"),
        (b'"a/../b"', "a/../b"),
    ],
)
def test_ids_are_exact(written: bytes, expected: str) -> None:
    body = b'{"envelopeId": ' + written + b', "action": "COMPLETED"}'
    assert make_provider("ssign").callback_id(make_callback(body)) == Head(expected, "COMPLETED")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"action": "COMPLETED"}', "envelopeId is missing"),
        (b'{"envelopeId": 155}', "action is missing"),
        (b'{"envelopeId": "", "action": "COMPLETED"}', "envelopeId is empty"),
        (b'{"envelopeId": {}, "action": "COMPLETED"}', "this is an object"),
        (b'{"envelopeId": 1.5, "action": "COMPLETED"}', "whole number"),
        (b'{"envelopeId": true, "action": "COMPLETED"}', "this is a boolean"),
        (b'{"envelopeId": 155, "action": null}', "action must be"),
    ],
)
def test_an_unusable_body_names_what_is_missing(body: bytes, word: str) -> None:
    with pytest.raises(UnusableBodyError, match=word):
        make_provider("ssign").callback_id(make_callback(body))


def test_the_letter_case_of_field_names_does_not_matter() -> None:
    body = b'{"EnvelopeID": 155, "Action": "completed"}'
    provider = make_provider("ssign")
    head = provider.callback_id(make_callback(body))
    assert head == Head("155", "completed")
    assert provider.event_type(head.action) is EventType.COMPLETED


def test_the_secret_may_stand_in_the_address() -> None:
    provider = make_provider("ssign", authentication="query", secret="s3cret", secret_query="key")
    assert provider.authenticate(make_callback(b"{}", query={"key": "s3cret"})).key_id == "default"


def test_files_are_fetched_by_file_id_and_suffix_with_the_scheme_custom() -> None:
    provider = make_provider("ssign", **API, fetch_report=True)
    view = DocumentView("155", {"file_ids": "901, 902"})
    requests, files = drive(
        provider.signed_file(view), lambda request: Answer(200, {}, files=(make_file(1, request.url),))
    )
    path = "https://tenant.satelitti.com.br/rest/signer/IntegrationEnvelopeFile"
    assert [request.url for request in requests] == [
        f"{path}?EnvelopeFileSuffix=2&EnvelopeFileId=901",
        f"{path}?EnvelopeFileSuffix=3&EnvelopeFileId=901",
        f"{path}?EnvelopeFileSuffix=2&EnvelopeFileId=902",
        f"{path}?EnvelopeFileSuffix=3&EnvelopeFileId=902",
    ]
    assert all(request.headers == {"Authorization": "Custom t0ken"} for request in requests)
    assert all(request.into is Into.FILE for request in requests)
    assert [(file.kind, file.source) for file in files] == [
        (FileKind.SIGNED, "signed:901"),
        (FileKind.REPORT, "report:901"),
        (FileKind.SIGNED, "signed:902"),
        (FileKind.REPORT, "report:902"),
    ]


def test_a_file_id_cannot_change_the_address() -> None:
    provider = make_provider("ssign", **API)
    view = DocumentView("155", {"file_ids": "1&EnvelopeFileSuffix=1#/../x"})
    requests, _ = drive(provider.signed_file(view), lambda _: Answer(200, {}, files=(make_file(1, "x"),)))
    assert requests[0].url.endswith("EnvelopeFileId=1%26EnvelopeFileSuffix%3D1%23%2F..%2Fx")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, WaitingError),
        (403, WaitingError),
        (404, NotReadyError),
        (409, NotReadyError),
        (400, PermanentError),
        (429, TransientError),
        (500, TransientError),
    ],
)
def test_what_a_failed_download_means(status: int, error: type[Exception]) -> None:
    def answer(_: Request) -> Answer:
        return Answer(status, {"retry-after": "7"}, b"Arquivo n\xc3\xa3o encontrado")

    with pytest.raises(error) as raised:
        drive(make_provider("ssign", **API).signed_file(DocumentView("155", {"file_ids": "901"})), answer)
    assert "t0ken" not in str(raised.value)


def test_without_file_ids_it_says_how_to_register_them() -> None:
    with pytest.raises(WaitingError, match="documents register ssign 155 --ref file_ids="):
        next(make_provider("ssign", **API).signed_file(DocumentView("155", {"file_ids": " , "})))


def test_requests_go_to_the_configured_host_alone() -> None:
    assert make_provider("ssign", **API).origins == {"https://tenant.satelitti.com.br:443"}
    assert make_provider("ssign").origins == frozenset()
