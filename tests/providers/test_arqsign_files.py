"""ArqSign's files: several for a process, in order, each with its record, and only of what is concluded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import NotReadyError, PermanentError, TransientError, WaitingError
from shared.providers._base import Answer, DocumentView, FileKind, Into, Request, SignedFile
from tests.providers.conftest import SAMPLES, drive, make_file, make_provider

PROCESS = "eaf4417d-441d-4f4b-9a30-a79118c5cc8a"
KEYS = {"app_key": "app-k3y", "subscription_key": "sub-k3y"}
FILE_FIELDS = {"base64documento", "documento", "base64registro", "base64", "arquivo"}
V2 = "https://api-rest.arqsign.com:443"


def answered(tree: dict[str, Any], status: int = 200) -> Answer:
    """An answer as the downloader hands it over: in the place of each file stands its index."""
    count = 0

    def without_files(value: Any, name: str = "") -> Any:
        nonlocal count
        if isinstance(value, dict):
            return {key: without_files(inner, key.strip().casefold()) for key, inner in value.items()}
        if isinstance(value, list):
            return [without_files(inner) for inner in value]
        if name not in FILE_FIELDS or value is None:
            return value
        count += 1
        return count - 1

    body = json.dumps(without_files(tree)).encode()
    return Answer(status, {}, body, tuple(make_file(token, "") for token in range(count)))


def printed(name: str) -> dict[str, Any]:
    """An answer as the manual prints it."""
    found: dict[str, Any] = json.loads((SAMPLES / "arqsign" / "answers" / f"{name}.json").read_text())
    return found


def fetch(tree: dict[str, Any], status: int = 200, **settings: Any) -> list[SignedFile]:
    provider = make_provider("arqsign", **KEYS, **settings)
    files: list[SignedFile]
    _, files = drive(provider.signed_file(DocumentView(PROCESS, {})), lambda _: answered(tree, status))
    return files


def first_request(document_id: str = PROCESS, **settings: Any) -> Request:
    request: Request = next(make_provider("arqsign", **settings).signed_file(DocumentView(document_id, {})))
    return request


def test_the_current_generation_takes_two_keys_and_the_old_one_its_one() -> None:
    request = first_request(**KEYS)
    assert request.url == f"https://api-rest.arqsign.com/api/v2/processo/{PROCESS}"
    assert request.headers == {"AppKey": "app-k3y", "SubscriptionKey": "sub-k3y"}
    assert (request.method, request.into) == ("GET", Into.JSON_TREE)
    assert request.file_fields == FILE_FIELDS
    old = first_request(generation="v1", app_key="app-k3y")
    assert old.url == f"https://api.arqsign.com/api/v1/processo/{PROCESS}"
    assert old.headers == {"AppKey": "app-k3y"}


def test_base_address_path_and_header_names_are_settings() -> None:
    settings = {
        **KEYS,
        "base_url": "https://proxy.example:8443/arq/",
        "process_path": "/p/{idProcesso}/tudo",
        "app_key_header": "Authorization",
        "subscription_key_header": "X-Sub",
    }
    request = first_request(**settings)
    assert request.url == f"https://proxy.example:8443/arq/p/{PROCESS}/tudo"
    assert request.headers == {"Authorization": "app-k3y", "X-Sub": "sub-k3y"}
    assert make_provider("arqsign", **settings).origins == {"https://proxy.example:8443"}
    assert make_provider("arqsign").origins == {V2}


@pytest.mark.parametrize("document_id", ["..", ".", "a/b", "a?b", "a%2fb", "é", "", "a" * 101, "a\nb"])
def test_what_is_no_id_of_a_process_reaches_no_address(document_id: str) -> None:
    with pytest.raises(PermanentError):
        first_request(document_id, **KEYS)


def test_every_file_comes_in_its_order_with_its_record_and_its_label() -> None:
    tree = printed("v2.concluido")
    # The first is printed with its order, the second with a slip in the name of it.
    tree["documentos"].reverse()
    found = [(file.kind, file.source, file.file.name, file.file.token) for file in fetch(tree)]
    first, second = (f"c7a0d6f2-0000-4000-8000-00000000000{number}" for number in (1, 2))
    assert found == [
        (FileKind.SIGNED, f"signed:{first}", "contrato.pdf", 2),
        (FileKind.REPORT, f"report:{first}", "contrato_Registro de assinaturas.pdf", 3),
        (FileKind.SIGNED, f"signed:{second}", "anexo.pdf", 0),
        (FileKind.REPORT, f"report:{second}", "anexo_Registro de assinaturas.pdf", 1),
    ]
    assert {file.file.media_type for file in fetch(tree)} == {"application/pdf"}


def test_the_old_generation_has_one_file_with_its_record_beside_it() -> None:
    found = [(file.kind, file.source, file.file.name) for file in fetch(printed("v1.concluido"), 201)]
    assert found == [
        (FileKind.SIGNED, "signed:1", "contrato.pdf"),
        (FileKind.REPORT, "report:1", "contrato_Registro de assinaturas.pdf"),
    ]


def test_the_letter_case_of_names_does_not_matter() -> None:
    def shout(value: Any) -> Any:
        if isinstance(value, dict):
            return {key[:1].upper() + key[1:]: shout(inner) for key, inner in value.items()}
        return [shout(inner) for inner in value] if isinstance(value, list) else value

    for name in ("v2.concluido", "v1.concluido"):
        assert fetch(shout(printed(name))) == fetch(printed(name))


def test_records_may_come_as_a_list_and_may_be_left_out() -> None:
    record = {"NomeRegistro": "r.pdf", "Base64Registro": "JVBERi0="}
    tree = {
        "status": "concluido",
        "documentos": [{"base64Documento": "JVBERi0=", "registroAssinaturas": [record, record]}],
    }
    assert [file.source for file in fetch(tree)] == ["signed:1", "report:1", "report:1:2"]
    assert [file.source for file in fetch(tree, fetch_record=False)] == ["signed:1"]


@pytest.mark.parametrize("name", ["v2.em-processo", "v2.cancelado-pelo-remetente"])
def test_files_of_what_is_not_concluded_are_never_taken(name: str) -> None:
    with pytest.raises(NotReadyError, match="not Concluído") as waiting:
        fetch(printed(name), not_ready_wait_seconds=77.0)
    assert waiting.value.retry_after_seconds == 77.0


@pytest.mark.parametrize("status", [None, "", "Concluído?", 4, {"status": "Concluído"}])
def test_a_status_of_any_other_word_is_not_concluded(status: object) -> None:
    with pytest.raises(NotReadyError):
        fetch({**printed("v2.concluido"), "status": status})


@pytest.mark.parametrize(
    "documents",
    [
        None,
        [],
        {},
        [{"base64Documento": None}],
        [{"nomeDocumento": "a.pdf"}],
        [{"base64Documento": "x", "registroAssinaturas": {"base64": None}}],
    ],
)
def test_a_concluded_process_that_lacks_a_file_is_not_ready(documents: object) -> None:
    with pytest.raises(NotReadyError):
        fetch({"status": "Concluído", "documentos": documents})


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (401, WaitingError, "AppKey"),
        (403, TransientError, "calls are used up"),
        (429, TransientError, "calls are used up"),
        (404, WaitingError, "process_path"),
        (400, PermanentError, "Documento excluído"),
        (500, TransientError, "500"),
    ],
)
def test_what_a_failed_call_means(status: int, error: type[Exception], word: str) -> None:
    provider = make_provider("arqsign", **KEYS)

    def answer(_: Request) -> Answer:
        return Answer(status, {}, "Documento excluído.".encode())

    with pytest.raises(error, match=word) as raised:
        drive(provider.signed_file(DocumentView(PROCESS, {})), answer)
    assert "k3y" not in str(raised.value)


@pytest.mark.parametrize(("headers", "seconds"), [({}, 3600.0), ({"retry-after": "9"}, 9.0)])
def test_over_quota_waits_as_told_or_as_set(headers: dict[str, str], seconds: float) -> None:
    steps = make_provider("arqsign", **KEYS).signed_file(DocumentView(PROCESS, {}))
    with pytest.raises(TransientError) as waiting:
        drive(steps, lambda _: Answer(429, headers))
    assert waiting.value.retry_after_seconds == seconds


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"Concluido"'])
def test_an_answer_that_is_no_object_is_asked_for_again(body: bytes) -> None:
    steps = make_provider("arqsign", **KEYS).signed_file(DocumentView(PROCESS, {}))
    with pytest.raises(TransientError):
        drive(steps, lambda _: Answer(200, {}, body))


def test_without_a_key_it_says_what_to_set() -> None:
    with pytest.raises(WaitingError, match=r"app_key .* \[providers.arqsign\]"):
        first_request()


RECORDS = "registroAssinaturas"
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "ordemDocumento", "nomeDocumento", "base64Documento", "registroAssinaturas"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(documents=TREES, document=TREES, record=TREES)
def test_whatever_a_concluded_process_looks_like_its_files_come_or_it_is_not_ready(
    documents: object, document: object, record: object
) -> None:
    tree = {
        "status": "Concluído",
        "documentos": documents,
        "documento": document,
        "registroAssinaturas": record,
    }
    answer = Answer(200, {}, json.dumps(tree).encode(), tuple(make_file(token, "") for token in range(2)))
    steps = make_provider("arqsign", **KEYS).signed_file(DocumentView(PROCESS, {}))
    try:
        _, files = drive(steps, lambda _: answer)
    except NotReadyError:
        return
    assert files
    assert all(isinstance(file.file.name, str) for file in files)
