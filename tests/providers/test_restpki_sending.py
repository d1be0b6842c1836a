"""Rest PKI Core: what is asked for when a session is started, and what is learned of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import (
    AccessError,
    NoAnswerError,
    PermanentError,
    SignspoolError,
    TransientError,
    UsageError,
)
from shared.providers._base import Answer, FileContent, Order, OutgoingFile, Request, Sent
from tests.providers.conftest import drive, make_provider

BASE = "https://core.pki.rest"
KEY = "yourapp|0123456789abcdef"
SESSION = "7c1f3a52-0d2e-4a6f-9b0e-5f1c2d7a9e41"
PAGE = "https://core.pki.rest/signature-session/OPAQUE_TOKEN"
CPF = "111.444.777-35"
MIB = 1024 * 1024
ROOT = Path(__file__).parent.parent.parent


def outgoing(name: str = "contrato.pdf", content: bytes = b"%PDF-1.7", size_bytes: int = 0) -> OutgoingFile:
    digest = hashlib.sha256(content).hexdigest()
    return OutgoingFile(name, "application/pdf", size_bytes or len(content), digest)


def order(*files: OutgoingFile, return_url: str | None = "https://app.test/r", **more: Any) -> Order:
    provider = make_provider("restpki")
    options = provider.Options.model_validate(more.pop("options", {}))
    return Order("2026-77", "Contract", files, (), options, return_url, more.pop("metadata", {}))


def shown_document(number: int, name: str) -> dict[str, Any]:
    return {"id": f"document-{number}", "status": "PendingSignature", "originalFile": {"name": name}}


class Api:
    """Answers as the provider does, and puts bodies together out of the contents of the files."""

    def __init__(self, *contents: bytes, documents: list[dict[str, Any]] | None = None) -> None:
        self.contents = contents
        self.documents = documents or []
        self.requests: list[Request] = []
        self.reading: Callable[[], Answer] = lambda: answer({"id": SESSION, "documents": self.documents})
        self.created = answer({"sessionId": SESSION, "redirectUrl": PAGE})
        self.uploaded: dict[str, Any] = {"url": "/api/plain-uploads/1", "name": "x"}

    def __call__(self, request: Request) -> Answer:
        self.requests.append(request)
        path = request.url.removeprefix(BASE)
        if path == "/api/plain-uploads":
            return answer(self.uploaded)
        if path == "/Api/MultipartUploads":
            return answer({"blobToken": "T0", "partSize": 5 * MIB})
        if path.startswith("/Api/MultipartUploads/T0/"):
            return Answer(200, {"etag": f'"{path.rpartition("/")[2]}"'})
        if path == "/Api/MultipartUploads/T0":
            return Answer(200, {})
        return self.reading() if request.method == "GET" else self.created

    def body(self, request: Request) -> bytes:
        pieces = request.content if isinstance(request.content, tuple) else (request.content or b"",)
        return b"".join(piece if isinstance(piece, bytes) else self.piece(piece) for piece in pieces)

    def piece(self, piece: FileContent) -> bytes:
        content = self.contents[piece.file]
        return base64.b64encode(content) if piece.encoding == "base64" else content

    @property
    def creation(self) -> dict[str, Any]:
        [request] = [request for request in self.requests if request.effect]
        found: dict[str, Any] = json.loads(self.body(request))
        return found


def answer(body: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, {}, json.dumps(body).encode())


def send(api: Api, wanted: Order, **settings: Any) -> Sent:
    provider = make_provider("restpki", token=KEY, **settings)
    sent: Sent = drive(provider.send(wanted), api)[1]
    return sent


def test_a_session_of_files_is_created_and_its_documents_are_read_from_it() -> None:
    contents = (b"%PDF-1.7 one", b"%PDF-1.7 two!")
    files = [outgoing("a.pdf", contents[0]), outgoing('ação "2".pdf', contents[1])]
    api = Api(*contents, documents=[shown_document(2, 'ação "2".pdf'), shown_document(1, "a.pdf")])
    sent = send(api, order(*files, metadata={"tenant": ("acme", "sul")}))
    assert [(request.method, request.url.removeprefix(BASE)) for request in api.requests] == [
        ("POST", "/api/signature-sessions"),
        ("GET", f"/api/signature-sessions/{SESSION}"),
    ]
    assert api.requests[0].headers["X-Api-Key"] == KEY
    assert api.creation["returnUrl"] == "https://app.test/r"
    assert api.creation["documentMetadata"] == {"tenant": ["acme", "sul"], "reference": ["2026-77"]}
    references = [document["file"] for document in api.creation["documents"]]
    assert [reference["name"] for reference in references] == ["a.pdf", 'ação "2".pdf']
    assert [base64.b64decode(reference["content"]) for reference in references] == list(contents)
    assert (sent.envelope_id, sent.redirect_url) == (SESSION, PAGE)
    assert [(document.document_id, document.file) for document in sent.documents] == [
        ("document-2", 1),
        ("document-1", 0),
    ]
    assert {document.references["session"] for document in sent.documents} == {SESSION}
    [ask] = sent.asks
    assert ask.subject == SESSION
    assert "OPAQUE_TOKEN" not in repr(sent)


def test_without_files_the_user_brings_them_and_the_session_is_asked_about() -> None:
    api = Api()
    sent = send(api, order())
    assert "documents" not in api.creation
    assert sent.documents == ()
    assert len(api.requests) == 1
    [ask] = sent.asks
    # It is known as ours, so that it is not dropped the first time that the provider does not find it.
    assert ask.memory


def test_every_option_is_said_in_the_providers_words() -> None:
    options = {
        "disable_downloads": "true",
        "background_processing": "true",
        "security_context": "803517AD-3bbc-4169-b085-60053a8f6dbf",
        "callback_argument": "order-4711",
        "cpf": CPF,
        "crypto_device": "true",
        "document_keys": ["FUFY-Q7SL-6XKM-BW9A"],
        "signature_type": "Cms",
    }
    api = Api(b"x", documents=[shown_document(1, "a.pdf")])
    send(api, order(outgoing("a.pdf", b"x"), return_url=None, options=options), reference_metadata="")
    [document] = api.creation["documents"]
    assert {name: value for name, value in api.creation.items() if name != "documents"} == {
        "returnUrl": None,
        "enableBackgroundProcessing": True,
        "disableDownloads": True,
        "securityContextId": "803517ad-3bbc-4169-b085-60053a8f6dbf",
        "callbackArgument": "order-4711",
        "certificateRequirements": [
            {"type": "CryptoDevice"},
            {"type": "Cpf", "argument": "11144477735"},
        ],
    }
    assert (document["documentKey"], document["signatureType"]) == ("FUFY-Q7SL-6XKM-BW9A", "Cms")


def test_every_option_is_described() -> None:
    page = (ROOT / "docs" / "providers" / "restpki.md").read_text()
    options = make_provider("restpki").Options.model_fields
    assert [name for name in options if f"| `{name}=" not in page] == []


@pytest.mark.parametrize("cpf", ["111.444.777-35", "11144477735", "111.111.111-11", "012.345.678-90"])
def test_a_cpf_is_written_in_any_way_and_shown_in_none(cpf: str) -> None:
    options = make_provider("restpki").Options(cpf=cpf)
    assert options.cpf == "".join(char for char in cpf if char.isdigit())
    assert options.cpf not in repr(options)


@pytest.mark.parametrize(
    "cpf", ["111.444.777-36", "1114447773", "", "111444777355", "1114447773x", "\u0661" * 11]
)
def test_a_cpf_that_is_none_is_refused_without_being_repeated(cpf: str) -> None:
    with pytest.raises(ValidationError) as raised:
        make_provider("restpki").Options(cpf=cpf)
    assert "CPF" in str(raised.value)
    assert not cpf or cpf not in str(raised.value)


@pytest.mark.parametrize("name", ["security_context", "signature_type", "no_such_option"])
def test_an_option_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        make_provider("restpki").Options.model_validate({name: "x"})


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"return_url": None}, "--return-url"),
        ({"return_url": "javascript:alert(1)"}, "http address"),
        ({"return_url": "https://["}, "http address"),
        ({"return_url": "https://app.test/" + "x" * 1024}, "1024"),
        ({"metadata": {"a/b": ("x",)}}, "letters"),
        ({"metadata": {"": ("x",)}}, "letters"),
        ({"metadata": {"x" * 51: ("x",)}}, "50"),
        ({"metadata": {"tenant": ("ok", "x" * 501)}}, "tenant: a value has more than 500"),
        ({"options": {"document_keys": ["A", "B"]}}, "as many keys as files"),
    ],
)
def test_what_the_provider_would_not_take_is_said_before_anything_is_sent(
    wanted: dict[str, Any], words: str
) -> None:
    api = Api(b"x")
    with pytest.raises(UsageError, match=words):
        send(api, order(outgoing("a.pdf", b"x"), **wanted))
    assert api.requests == []


def test_metadata_at_the_limits_is_taken() -> None:
    metadata = {"Número-da_proposta 1": ("x" * 500,), "x" * 50: ("",)}
    api = Api()
    send(api, order(metadata=metadata))
    assert set(api.creation["documentMetadata"]) == {*metadata, "reference"}


def test_metadata_of_the_same_name_as_the_references_wins() -> None:
    api = Api()
    send(api, order(metadata={"reference": ("mine",)}))
    assert api.creation["documentMetadata"] == {"reference": ["mine"]}


# Files


def test_a_larger_file_is_uploaded_before_and_known_by_its_link() -> None:
    content = b"%PDF-1.7" + bytes(MIB)
    api = Api(content, documents=[shown_document(1, "a.pdf")])
    send(api, order(outgoing('a".pdf', content)))
    upload, creation, _ = api.requests
    kind, _, boundary = upload.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    opening, body, ending = api.body(upload).partition(content)
    assert body == content
    assert opening.startswith(f"--{boundary}\r\n".encode())
    assert b'filename="a%22.pdf"' in opening
    assert ending == f"\r\n--{boundary}--\r\n".encode()
    assert not upload.effect
    assert creation.effect
    [document] = api.creation["documents"]
    assert document["file"] == {
        "name": 'a".pdf',
        "mimeType": "application/pdf",
        "length": len(content),
        "url": "/api/plain-uploads/1",
    }


def test_a_large_file_goes_in_parts_each_with_its_digest() -> None:
    file = outgoing("a.pdf", b"x", size_bytes=12 * MIB)
    api = Api(b"x", documents=[shown_document(1, "a.pdf")])
    send(api, order(file))
    parts = [request for request in api.requests if "/T0/" in request.url]
    assert [part.url.rpartition("/")[2] for part in parts] == ["0", "1", "2"]
    assert all(part.content_md5 for part in parts)
    assert [part.content for part in parts] == [
        (FileContent(0, start_bytes=start * 5 * MIB, size_bytes=5 * MIB),) for start in range(3)
    ]
    [ending] = [request for request in api.requests if request.url.endswith("/T0")]
    assert json.loads(api.body(ending)) == {"partETags": ['"0"', '"1"', '"2"'], "completeMD5": None}
    assert api.creation["documents"][0]["file"]["blobToken"] == "T0"


@pytest.mark.parametrize("uploaded", [{}, {"url": None}])
def test_an_upload_without_a_link_is_tried_again_and_nothing_was_sent(uploaded: dict[str, Any]) -> None:
    api = Api(bytes(2 * MIB))
    api.uploaded = uploaded
    with pytest.raises(TransientError, match="without a link"):
        send(api, order(outgoing("a.pdf", bytes(2 * MIB))))
    assert not any(request.effect for request in api.requests)


@pytest.mark.parametrize(
    "begun", [{"blobToken": "../x", "partSize": 9}, {"blobToken": "a"}, {"blobToken": "a", "partSize": 0}]
)
def test_parts_are_sent_nowhere_but_where_the_provider_says_in_its_own_words(begun: dict[str, Any]) -> None:
    class Strange(Api):
        def __call__(self, request: Request) -> Answer:
            self.requests.append(request)
            return answer(begun)

    api = Strange(b"x")
    with pytest.raises(TransientError, match="size of a part"):
        send(api, order(outgoing("a.pdf", b"x", size_bytes=6 * MIB)))
    assert len(api.requests) == 1


# What comes of it


@pytest.mark.parametrize(
    ("names", "shown", "places"),
    [
        (("a.pdf", "b.pdf"), ("b.pdf", "a.pdf"), [1, 0]),
        (("a.pdf", "a.pdf"), ("a.pdf", "a.pdf"), [0, 1]),
        (("a.pdf", "b.pdf"), ("a.pdf", "c.pdf"), [None, None]),
        (("a.pdf", "b.pdf"), ("a.pdf",), [None]),
    ],
)
def test_a_document_is_tied_to_a_file_only_where_that_is_no_guess(
    names: tuple[str, ...], shown: tuple[str, ...], places: list[int | None]
) -> None:
    api = Api(b"x", b"x", documents=[shown_document(place, name) for place, name in enumerate(shown)])
    sent = send(api, order(*(outgoing(name, b"x") for name in names)))
    assert [document.file for document in sent.documents] == places


@pytest.mark.parametrize("shown", [Answer(503, {}), Answer(200, {}, b"<html>"), Answer(401, {})])
def test_a_new_session_that_cannot_be_read_is_there_all_the_same(shown: Answer) -> None:
    api = Api(b"x")
    api.reading = lambda: shown
    sent = send(api, order(outgoing("a.pdf", b"x")))
    assert (sent.envelope_id, sent.redirect_url, sent.documents) == (SESSION, PAGE, ())
    assert [ask.subject for ask in sent.asks] == [SESSION]


def test_a_reading_that_is_not_answered_does_not_lose_the_new_session() -> None:
    steps: Generator[Request, Answer, Sent] = make_provider("restpki", token=KEY).send(
        order(outgoing("a.pdf", b"x"))
    )
    next(steps)
    steps.send(Api().created)
    steps.throw(NoAnswerError("silent"))
    with pytest.raises(StopIteration) as stop:
        steps.throw(NoAnswerError("silent"))
    assert stop.value.value.redirect_url == PAGE


@pytest.mark.parametrize(
    ("created", "error", "words"),
    [
        (Answer(400, {}, b"11144477735 is wrong"), PermanentError, "options"),
        (Answer(401, {}), AccessError, "token"),
        (answer({"code": "SecurityContextNotFound", "message": CPF}, 422), PermanentError, "SecurityCont"),
        (answer({"code": "InvalidPdf", "detail": CPF}, 422), PermanentError, "InvalidPdf"),
        (answer({"exceptionCode": "0HMVX"}, 500), TransientError, "0HMVX"),
        (answer({"sessionId": "x", "redirectUrl": PAGE}), TransientError, "without its id"),
        (answer({"sessionId": SESSION}), TransientError, "address"),
    ],
)
def test_what_a_failed_creation_means_and_no_message_tells_the_cpf(
    created: Answer, error: type[SignspoolError], words: str
) -> None:
    api = Api(b"x")
    api.created = created
    with pytest.raises(error, match=words) as raised:
        send(api, order(outgoing("a.pdf", b"x"), options={"cpf": CPF}))
    for secret in (CPF, "11144477735", KEY, "OPAQUE_TOKEN"):
        assert secret not in str(raised.value)
