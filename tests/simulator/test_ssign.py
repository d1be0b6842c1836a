"""S-SIGN over HTTP, as an application and as signspool call it."""

from __future__ import annotations

import base64

import httpx
import pytest

from simulator.files import make_pdf
from simulator.peer import NotReady, PeerError, StoredFile
from simulator.ssign import ORIGINAL, REPORT, SIGNED, example_envelope, example_upload
from simulator.world import World

BASE = "/ssign/rest/signer"


@pytest.fixture
def api(client: httpx.Client, world: World) -> httpx.Client:
    client.headers["Authorization"] = f"Custom {world.ssign.token}"
    return client


def download(api: httpx.Client, file_id: object, suffix: object) -> httpx.Response:
    return api.get(
        f"{BASE}/IntegrationEnvelopeFile",
        params={"EnvelopeFileSuffix": str(suffix), "EnvelopeFileId": str(file_id)},
    )


def test_upload_create_complete_download(api: httpx.Client, world: World) -> None:
    uploaded = api.post(f"{BASE}/IntegrationEnvelopeDocument", json=example_upload("contrato.pdf", "Texto"))
    assert uploaded.json() == {"id": 9001}
    created = api.post(f"{BASE}/IntegrationEnvelope", json=example_envelope("Contrato", 9001))
    assert created.json() == {"envelopeId": 155}
    assert world.ssign.complete(155) == {"envelopeId": 155, "action": "COMPLETED"}

    original = download(api, 9001, ORIGINAL)
    assert original.content == make_pdf("Texto")
    signed = download(api, 9001, SIGNED)
    assert signed.headers["Content-Type"] == "application/pdf"
    assert signed.headers["Content-Disposition"] == 'attachment; filename="contrato-assinado.pdf"'
    assert b"(Assinado: contrato.pdf)" in signed.content
    assert b"(Envelope 155: Contrato)" in signed.content
    assert b"assinaturas: contrato.pdf" in download(api, 9001, REPORT).content
    assert world.ssign.envelopes[155].request["Signers"][0]["Order"] == 1


@pytest.mark.parametrize(
    "scheme", ["Bearer simulated-ssign-token", "Custom wrong", "simulated-ssign-token", ""]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "IntegrationEnvelopeDocument"),
        ("POST", "IntegrationEnvelope"),
        ("GET", "IntegrationEnvelopeFile"),
    ],
)
def test_every_call_demands_the_scheme_word_and_the_token(
    client: httpx.Client, scheme: str, method: str, path: str
) -> None:
    answer = client.request(method, f"{BASE}/{path}", headers={"Authorization": scheme})
    assert answer.status_code == 401
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("suffix", [SIGNED, REPORT])
@pytest.mark.parametrize(
    ("not_ready", "status"), [(NotReady.NOT_FOUND, 404), (NotReady.CONFLICT, 409), (NotReady.EMPTY, 200)]
)
def test_the_signed_file_of_an_unfinished_envelope_is_not_ready(
    api: httpx.Client, world: World, not_ready: NotReady, status: int, suffix: int
) -> None:
    world.ssign.not_ready = not_ready
    envelope = world.ssign.send()
    answer = download(api, envelope.file_ids[0], suffix)
    assert answer.status_code == status
    assert (answer.content == b"") is (not_ready is NotReady.EMPTY)
    assert download(api, envelope.file_ids[0], ORIGINAL).status_code == 200


def test_a_file_is_not_found_by_its_envelope(api: httpx.Client, world: World) -> None:
    envelope = world.ssign.send()
    world.ssign.complete(envelope.id)
    assert download(api, envelope.id, SIGNED).status_code == 404


def test_each_file_of_an_envelope_has_its_own_signed_file(api: httpx.Client, world: World) -> None:
    world.ssign.signed_size_bytes = 50_000
    envelope = world.ssign.send(files=2)
    world.ssign.complete(envelope.id)
    contents = [download(api, file_id, SIGNED).content for file_id in envelope.file_ids]
    assert [len(content) for content in contents] == [50_000, 50_000]
    assert contents[0] != contents[1]
    assert contents[0] == download(api, envelope.file_ids[0], SIGNED).content


def test_a_given_signed_file_replaces_the_made_one_and_keeps_its_accents(
    api: httpx.Client, world: World
) -> None:
    envelope = world.ssign.send()
    world.ssign.complete(envelope.id)
    world.ssign.signed[envelope.file_ids[0]] = StoredFile('ação "1".pdf', "application/pdf", b"%PDF mine")
    answer = download(api, envelope.file_ids[0], SIGNED)
    assert answer.content == b"%PDF mine"
    disposition = "attachment; filename*=UTF-8''a%C3%A7%C3%A3o%20%221%22.pdf"
    assert answer.headers["Content-Disposition"] == disposition


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("IntegrationEnvelopeDocument", {"name": "a.pdf"}, "file is missing"),
        ("IntegrationEnvelopeDocument", {"name": "a.pdf", "file": "***"}, "base64"),
        ("IntegrationEnvelopeDocument", {"name": "a.pdf", "file": [37]}, "base64"),
        ("IntegrationEnvelope", example_envelope("a", 1), "document 1 was not uploaded"),
        ("IntegrationEnvelope", example_envelope("a"), "Documents is missing"),
        ("IntegrationEnvelope", example_envelope("a") | {"Documents": [{"Id": "x"}]}, "Documents.Id"),
        ("IntegrationEnvelope", ["a"], "JSON object"),
    ],
)
def test_an_unusable_body_is_refused_in_plain_text(
    api: httpx.Client, path: str, body: object, word: str
) -> None:
    answer = api.post(f"{BASE}/{path}", json=body)
    assert answer.status_code == 400
    assert word in answer.text
    assert api.post(f"{BASE}/{path}", content=b"{").status_code == 400


def test_an_unknown_suffix_or_file_is_refused(api: httpx.Client, world: World) -> None:
    file_id = world.ssign.send().file_ids[0]
    assert download(api, file_id, 4).status_code == 400
    assert download(api, "x", 2).status_code == 400
    assert download(api, 1, 2).status_code == 404


def test_what_happens_to_an_envelope_gives_the_callback_body(world: World) -> None:
    envelope_id = world.ssign.send().id
    happened = {
        "PENDING": world.ssign.pend,
        "EXPIRED": world.ssign.expire,
        "DELETED": world.ssign.delete,
        "COMPLETED": world.ssign.complete,
    }
    for action, happen in happened.items():
        assert happen(envelope_id) == {"envelopeId": envelope_id, "action": action}
        assert world.ssign.envelopes[envelope_id].status == action
    with pytest.raises(PeerError, match="envelope 1 is not known"):
        world.ssign.complete(1)
    with pytest.raises(PeerError, match="COMPLETED, PENDING"):
        world.ssign.happen(envelope_id, "SIGNED")


def test_base64_of_the_upload_is_what_is_kept(api: httpx.Client, world: World) -> None:
    content = bytes(range(256))
    body = {"name": "x.pdf", "file": base64.b64encode(content).decode()}
    api.post(f"{BASE}/IntegrationEnvelopeDocument", json=body)
    assert world.ssign.files[9001].content == content
