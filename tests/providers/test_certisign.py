"""Certisign: number 0, either spelling of the id, FLOW alone completes, the package by its key."""

from __future__ import annotations

import pytest

from shared.errors import NotReadyError, WaitingError
from shared.events import EventType
from shared.providers._base import Answer, DocumentView, FileKind, Head, Into
from tests.providers.conftest import drive, make_callback, make_file, make_provider, sample

LINK = "https://api-sbx.portaldeassinaturas.com.br/api/v2/document/package?key=A1B2C3D4E5F6A7B8"
SANDBOX = "https://api-sbx.portaldeassinaturas.com.br"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flow", EventType.COMPLETED),
        ("flow.minimal", EventType.COMPLETED),
        ("flow.documentID-spelling", EventType.COMPLETED),
        ("step", EventType.PROGRESS),
        ("signature-digital", EventType.PROGRESS),
        ("signature-nok", EventType.DECLINED),
    ],
)
def test_what_each_action_means(name: str, kind: EventType) -> None:
    provider = make_provider("certisign")
    callback = sample("certisign", name)
    [event] = provider.parse(provider.callback_id(callback), callback)
    assert (event.document_id, event.type) == ("48213", kind)


def test_its_number_is_zero_and_counts() -> None:
    assert make_provider("certisign").file_number == 0


def test_a_refusal_brings_its_reason_along() -> None:
    provider = make_provider("certisign")
    callback = sample("certisign", "signature-nok")
    [event] = provider.parse(provider.callback_id(callback), callback)
    assert event.message == "Cláusula 3 em desacordo com a proposta."


def test_a_suffix_behind_a_known_action_does_not_complete() -> None:
    assert make_provider("certisign").event_type("FLOW-START") is EventType.UNKNOWN
    assert make_provider("certisign").event_type(" flow ") is EventType.COMPLETED


def test_two_steps_are_two_things_and_one_flow_sent_twice_is_one() -> None:
    provider = make_provider("certisign")

    def key(body: bytes) -> str:
        callback = make_callback(body)
        [event] = provider.parse(provider.callback_id(callback), callback)
        return str(event.key)

    assert key(b'{"documentId":1,"action":"STEP","message":"1"}') != key(
        b'{"documentId":1,"action":"STEP","message":"2"}'
    )
    assert key(b'{"documentId":1,"action":"FLOW"}') == key(b'{"documentId":1,"action":"FLOW","message":""}')


def test_either_spelling_of_the_id_is_read_and_the_documented_one_first() -> None:
    provider = make_provider("certisign")
    both = make_callback(b'{"documentID": 2, "documentId": 1, "action": "FLOW"}')
    assert provider.callback_id(both) == Head("1", "FLOW")


@pytest.mark.parametrize("shape", ["object", "array", "zip"])
def test_the_package_is_asked_for_by_chave_and_every_shape_gives_its_files(shape: str) -> None:
    provider = make_provider("certisign", base_url=SANDBOX, token="k3y", zipped=shape == "zip")
    files = {
        "object": (make_file(1, "Contrato.pdf"),),
        "array": (make_file(1, "Contrato.pdf"), make_file(2, "Contrato-Manifesto.pdf")),
        "zip": (
            make_file(1, "Contrato.zip"),
            make_file(2, "Contrato-Manifesto.pdf", inside=1),
            make_file(3, "Contrato.pdf", inside=1),
        ),
    }[shape]
    requests, found = drive(
        provider.signed_file(DocumentView("48213", {"chave": "A1B2&x=1"})),
        lambda _: Answer(200, {}, files=files),
    )
    [request] = requests
    assert request.url == (
        f"{SANDBOX}/api/v2/document/package?key=A1B2%26x%3D1"
        f"&includeOriginal=false&includeManifest=false&zipped={str(shape == 'zip').lower()}"
    )
    assert request.headers == {"Token": "k3y"}
    assert request.into is Into.JSON_FILES
    signed = [file.file.name for file in found if file.kind is FileKind.SIGNED]
    assert signed == ["Contrato.pdf"]
    assert len({file.source for file in found}) == len(found)


def test_a_detached_signature_keeps_the_zip_whole() -> None:
    provider = make_provider("certisign", base_url=SANDBOX, token="k3y", zipped=True)
    files = (
        make_file(1, "Contrato.zip"),
        make_file(2, "Contrato.p7s", inside=1),
        make_file(3, "Contrato.docx", inside=1),
    )
    _, found = drive(
        provider.signed_file(DocumentView("48213", {"chave": "A"})), lambda _: Answer(200, {}, files=files)
    )
    assert [(file.file.name, file.kind) for file in found] == [("Contrato.zip", FileKind.SIGNED)]


def test_an_empty_package_is_not_ready() -> None:
    provider = make_provider("certisign", token="k3y")
    with pytest.raises(NotReadyError):
        drive(provider.signed_file(DocumentView("1", {"chave": "A"})), lambda _: Answer(200, {}))


@pytest.mark.parametrize(
    "link",
    [
        LINK.replace("https", "http"),
        LINK.replace("api-sbx", "evil"),
        LINK.replace(".com.br/", ".com.br.evil.example/"),
        LINK.replace("https://", "https://user@"),
        LINK.replace(".com.br/", ".com.br:444/"),
        "not an address",
        "",
    ],
)
def test_a_link_to_any_other_host_is_never_used(link: str) -> None:
    provider = make_provider("certisign", base_url=SANDBOX, token="k3y", key_from_callback=True)
    with pytest.raises(WaitingError, match="chave"):
        next(provider.signed_file(DocumentView("1", {}, {"apiDownload": link})))


def test_a_link_to_the_configured_host_gives_its_key_only_when_allowed() -> None:
    view = DocumentView("1", {}, {"apiDownload": LINK})
    allowed = make_provider("certisign", base_url=SANDBOX, token="k3y", key_from_callback=True)
    assert "key=A1B2C3D4E5F6A7B8&" in next(allowed.signed_file(view)).url
    careful = make_provider("certisign", base_url=SANDBOX, token="k3y")
    with pytest.raises(WaitingError, match="chave"):
        next(careful.signed_file(view))
