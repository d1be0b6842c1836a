"""Rest PKI Core: either shape of a callback, one event a document, and four kinds of proof."""

from __future__ import annotations

import base64
import json

import pytest

from shared.errors import NotProvenError, UnusableBodyError
from shared.events import EventType, Trust
from shared.providers._base import Head, Proof
from tests.providers.conftest import make_callback, make_provider, sample

ID = "3dfdd6f0-884e-4092-abed-00f18ea6716a"


@pytest.mark.parametrize("name", ["completed", "completed.old-shape"])
def test_either_shape_completes_the_document(name: str) -> None:
    provider = make_provider("restpki")
    callback = sample("restpki", name)
    [event] = provider.parse(provider.callback_id(callback), callback)
    assert (event.document_id, event.action, event.type) == (
        ID,
        "DocumentSignatureCompleted",
        EventType.COMPLETED,
    )


def test_metadata_and_key_are_learned_and_nothing_of_the_signers() -> None:
    provider = make_provider("restpki")
    [event] = provider.parse(Head(ID, "DocumentSignatureCompleted"), sample("restpki", "completed"))
    assert event.learned == {
        "document_key": "FUFYQ7SL6XKMBW9A",
        "metadata.envelope-id": "4711",
        "metadata.tenant": "acme",
    }
    [old] = provider.parse(Head(ID, "DocumentSignatureCompleted"), sample("restpki", "completed.old-shape"))
    assert old.learned == {"document_key": "FUFYQ7SL6XKMBW9A"}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (None, {}),
        ([], {}),
        ({"a": None, "b": [], "c": [None, ""], "d": "text", "e": [1]}, {"metadata.e": None}),
        ({"setor": ["jurídico", "compras"]}, {"metadata.setor": "jurídico", "metadata.setor.2": "compras"}),
        ({"n" * 51: ["x"], "long": ["x" * 501], "fits": ["x" * 500]}, {"metadata.fits": "x" * 500}),
    ],
)
def test_metadata_of_any_kind_is_no_crash(metadata: object, expected: dict[str, str | None]) -> None:
    callback = make_callback(json.dumps({"document": {"id": ID, "metadata": metadata}}).encode())
    [event] = make_provider("restpki").parse(Head(ID, "DocumentSignatureCompleted"), callback)
    # A number is no documented value; it is kept as it was written.
    assert event.learned == {name: "1" if value is None else value for name, value in expected.items()}


def test_what_is_learned_is_bounded() -> None:
    metadata = {f"name-{number}": ["x"] for number in range(1000)}
    callback = make_callback(json.dumps({"document": {"id": ID, "metadata": metadata}}).encode())
    [event] = make_provider("restpki").parse(Head(ID, "DocumentSignatureCompleted"), callback)
    assert len(event.learned) == 50


def test_other_tickets_and_the_other_shape_say_the_same_thing() -> None:
    provider = make_provider("restpki")

    def key(body: bytes) -> str:
        callback = make_callback(body)
        [event] = provider.parse(provider.callback_id(callback), callback)
        return str(event.key)

    first = sample("restpki", "completed").body
    again = first.replace(b"access_ticket=TICKET", b"access_ticket=OTHER")
    assert first != again
    assert key(first) == key(again) == key(sample("restpki", "completed.old-shape").body)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"document": {"id": "a"}}', "type is missing"),
        (b'{"type": null, "document": {"id": "a"}}', "type must be"),
        (b'{"type": "DocumentSignatureCompleted"}', "document is missing"),
        (b'{"type": "DocumentSignatureCompleted", "document": null}', "document must be an object"),
        (b'{"type": "DocumentSignatureCompleted", "document": {}}', "id is missing"),
        (b'{"type": "documentsignaturecompleted", "document": {"id": " "}}', "document.id is empty"),
    ],
)
def test_an_unusable_body_names_what_is_missing(body: bytes, word: str) -> None:
    with pytest.raises(UnusableBodyError, match=word):
        make_provider("restpki").callback_id(make_callback(body))


def test_a_type_nobody_knows_is_kept_even_without_a_document() -> None:
    provider = make_provider("restpki")
    callback = make_callback(b'{"type": "SignatureSessionExpired", "session": {"id": "7"}}')
    head = provider.callback_id(callback)
    assert head == Head("unknown", "SignatureSessionExpired")
    assert [event.type for event in provider.parse(head, callback)] == [EventType.UNKNOWN]
    with_document = make_callback(b'{"type": "DocumentArchived", "document": {"id": "7"}}')
    assert provider.callback_id(with_document) == Head("7", "DocumentArchived")


def test_a_type_that_was_taught_needs_its_document() -> None:
    provider = make_provider("restpki", actions={"DocumentFailed": "failed"})
    with pytest.raises(UnusableBodyError):
        provider.callback_id(make_callback(b'{"type": "DocumentFailed"}'))


# Who sent it


def basic(credential: str, encoding: str = "utf-8") -> str:
    return "Basic " + base64.b64encode(credential.encode(encoding)).decode()


@pytest.mark.parametrize("header", ["authorization", "authentication"])
@pytest.mark.parametrize(
    ("scheme", "value", "key_id"),
    [
        ("bearer", "Bearer t0ken-two", "new"),
        ("bearer", "bearer   t0ken-one", "old"),
        ("basic", basic("t0ken:one"), "colon"),
        ("basic", basic("ação:s3nha"), "accents"),
        ("basic", basic("ação:s3nha", "latin-1"), "accents"),
    ],
)
def test_basic_and_bearer_come_in_either_header(header: str, scheme: str, value: str, key_id: str) -> None:
    secrets = {
        "bearer": {"old": "t0ken-one", "new": "t0ken-two"},
        "basic": {"colon": "t0ken:one", "accents": "ação:s3nha"},
    }[scheme]
    provider = make_provider("restpki", authentication=scheme, secrets=secrets)
    assert provider.why_closed() is None
    assert provider.authenticate(make_callback(b"{}", headers={header: value})) == Proof(Trust.PROVEN, key_id)


def test_the_header_of_a_proxy_does_not_hide_the_providers() -> None:
    provider = make_provider("restpki", authentication="bearer", secret="t0ken")
    headers = {"authorization": basic("proxy:x"), "authentication": "Bearer t0ken"}
    assert provider.authenticate(make_callback(b"{}", headers=headers)).trust is Trust.PROVEN


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        ("bearer", {}),
        ("bearer", {"authorization": ""}),
        ("bearer", {"authorization": "Bearer"}),
        ("bearer", {"authorization": "Bearer "}),
        ("bearer", {"authorization": "us3r:t0ken"}),
        ("bearer", {"authorization": "Bearer us3r:t0ke"}),
        ("bearer", {"authorization": basic("us3r:t0ken")}),
        ("bearer", {"authorization": "Custom us3r:t0ken"}),
        ("bearer", {"x-api-key": "us3r:t0ken"}),
        ("basic", {}),
        ("basic", {"authentication": "Basic"}),
        ("basic", {"authentication": "Basic us3r:t0ken"}),
        ("basic", {"authentication": "Basic \xe9"}),
        ("basic", {"authentication": basic("us3r:other")}),
        ("basic", {"authentication": basic("other:t0ken")}),
        ("basic", {"authentication": "Bearer us3r:t0ken"}),
        ("basic", {"authentication": basic("us3r:t0ken").replace("Basic", "Bearer")}),
    ],
)
def test_anything_else_is_not_proven_and_no_message_repeats_it(scheme: str, headers: dict[str, str]) -> None:
    provider = make_provider("restpki", authentication=scheme, secret="us3r:t0ken")
    with pytest.raises(NotProvenError) as refused:
        provider.authenticate(make_callback(b"{}", headers=headers))
    assert "t0ken" not in str(refused.value)
    assert "us3r" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_nothing_behind_the_scheme_word_is_no_proof_even_of_an_empty_secret(scheme: str) -> None:
    provider = make_provider("restpki", authentication=scheme, secrets={"by-mistake": ""})
    for value in (f"{scheme} ", scheme):
        with pytest.raises(NotProvenError):
            provider.authenticate(make_callback(b"{}", headers={"authorization": value}))


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_right_secret_from_a_wrong_address_is_not_proven(scheme: str) -> None:
    provider = make_provider("restpki", authentication=scheme, secret="a:b", allow_addresses=["192.0.2.0/24"])
    headers = {"authorization": {"basic": basic("a:b"), "bearer": "Bearer a:b"}[scheme]}
    with pytest.raises(NotProvenError, match="address"):
        provider.authenticate(make_callback(b"{}", headers=headers))
    assert (
        provider.authenticate(make_callback(b"{}", headers=headers, address="192.0.2.7")).key_id == "default"
    )


def test_the_panels_api_key_comes_in_its_own_header_by_default() -> None:
    provider = make_provider("restpki", secret="webhook-key")
    assert (
        provider.authenticate(make_callback(b"{}", headers={"x-api-key": "webhook-key"})).key_id == "default"
    )


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_scheme_without_secret_keeps_the_door_closed(scheme: str) -> None:
    assert make_provider("restpki", authentication=scheme).why_closed() is not None


def test_a_basic_secret_without_a_user_keeps_the_door_closed_and_is_not_shown() -> None:
    provider = make_provider("restpki", authentication="basic", secrets={"a": "user:x", "b": "s3cret"})
    closed = provider.why_closed()
    assert closed is not None
    assert "USER:PASSWORD, and b is not" in closed
    assert "s3cret" not in closed
