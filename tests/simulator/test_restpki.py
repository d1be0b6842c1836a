"""Rest PKI Core over HTTP: sessions, documents and links, in every form that is known of them."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from shared.providers._base import Head
from simulator.files import make_p7s, make_pdf
from simulator.peer import PeerError
from simulator.restpki import RestPki
from simulator.restpki_shapes import Shape, SignatureType
from simulator.restpki_store import COMPLETED
from simulator.server import SimulatorServer
from simulator.world import World
from tests.providers.conftest import SAMPLES, make_callback, make_provider
from tests.waiting import PATIENCE_SECONDS

BASE = "/restpki/api"


@pytest.fixture
def restpki(world: World) -> RestPki:
    return world.restpki


@pytest.fixture
def api(client: httpx.Client, restpki: RestPki) -> httpx.Client:
    client.headers["X-Api-Key"] = restpki.token
    return client


def read(api: httpx.Client, document_id: str) -> dict[str, Any]:
    answer = api.get(f"{BASE}/documents/{document_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def without_key(link: str) -> httpx.Response:
    return httpx.get(link, timeout=PATIENCE_SECONDS, verify=False)


def session_of(**more: Any) -> dict[str, Any]:
    file = {"name": "contrato.pdf", "content": base64.b64encode(make_pdf("Texto")).decode()}
    return {"returnUrl": None, "enableBackgroundProcessing": True, "documents": [{"file": file}], **more}


def test_a_session_is_made_signed_called_back_and_read(api: httpx.Client, restpki: RestPki) -> None:
    body = session_of(documentMetadata={"tenant": ["acme"]}, callbackArgument="order-4711")
    body["documents"][0]["metadata"] = {"envelope-id": ["4711"]}
    created = api.post(f"{BASE}/signature-sessions/", json=body).json()
    assert set(created) == {"sessionId", "redirectUrl"}

    def session() -> dict[str, Any]:
        found: dict[str, Any] = api.get(f"{BASE}/signature-sessions/{created['sessionId']}").json()
        return found

    pending = session()
    assert (pending["status"], pending["callbackArgument"]) == ("Pending", "order-4711")
    [document] = pending["documents"]
    assert (document["status"], document["signedFile"]) == ("PendingSignature", None)
    callback = api.post(f"/_events/restpki/{document['id']}/{COMPLETED}").json()
    assert callback["type"] == COMPLETED
    assert callback["document"]["metadata"] == {"tenant": ["acme"], "envelope-id": ["4711"]}
    done = session()
    assert (done["status"], done["documents"][0]["status"]) == ("Completed", "Completed")
    assert not {"signers", "metadata"} & set(done["documents"][0])
    assert done["documents"][0]["dateSigned"]
    signed = without_key(read(api, document["id"])["signedFile"]["url"])
    assert b"(Assinado: contrato.pdf)" in signed.content
    assert without_key(read(api, document["id"])["originalFile"]["url"]).content == make_pdf("Texto")


@pytest.mark.parametrize("shape", list(Shape))
def test_callbacks_have_the_fields_of_the_samples(restpki: RestPki, shape: Shape) -> None:
    """The simulated bodies and the public ones, but for what stands in the certificate."""
    restpki.shape = shape
    name = {Shape.CURRENT: "completed", Shape.OLD: "completed.old-shape"}[shape]
    public = json.loads((SAMPLES / "restpki" / f"{name}.json").read_text())
    document = restpki.send(metadata={"envelope-id": ["4711"]})
    made = restpki.complete(document.id)
    assert set(made) == set(public)
    assert set(made["document"]) == set(public["document"])
    assert set(made["document"]["signedFile"]) == set(public["document"]["signedFile"])
    provider = make_provider("restpki")
    assert provider.callback_id(make_callback(json.dumps(made).encode())) == Head(document.id, COMPLETED)


def test_every_reading_has_other_tickets_and_each_opens_its_own_file_only(
    api: httpx.Client, restpki: RestPki
) -> None:
    document = restpki.send()
    restpki.complete(document.id)
    first, second = read(api, document.id), read(api, document.id)
    assert first["signedFile"]["url"] != second["signedFile"]["url"]
    for shown in (first, second):
        answer = without_key(shown["signedFile"]["url"])
        assert answer.content == document.files["signed-file"].content
        assert len(answer.content) == shown["signedFile"]["length"]
        original, signed = shown["originalFile"]["url"], shown["signedFile"]["url"]
        crossed = f"{original.partition('?')[0]}?{signed.partition('?')[2]}"
        assert without_key(crossed).status_code == 403
    assert without_key(first["signedFile"]["url"].partition("?")[0]).status_code == 403


def test_a_ticket_dies_with_its_time_and_answers_as_the_switch_says(
    api: httpx.Client, restpki: RestPki
) -> None:
    now = 100.0
    restpki.clock = lambda: now
    restpki.ticket_seconds, restpki.stale_status = 60, 410
    document = restpki.send()
    link = read(api, document.id)["originalFile"]["url"]
    now = 159.9
    assert without_key(link).status_code == 200
    now = 160.0
    assert without_key(link).status_code == 410
    assert without_key(read(api, document.id)["originalFile"]["url"]).status_code == 200


def test_links_are_relative_on_request(api: httpx.Client, restpki: RestPki) -> None:
    restpki.relative_links = True
    document = restpki.send()
    link = read(api, document.id)["originalFile"]["url"]
    assert link.startswith(f"/api/documents/{document.id}/original-file?access_ticket=")
    assert without_key(f"{restpki.base_url}{link}").status_code == 200


def test_a_cms_signature_is_no_pdf_and_is_of_the_marked_file(api: httpx.Client, restpki: RestPki) -> None:
    document = restpki.send(signature_type=SignatureType.CMS, marked=True)
    restpki.complete(document.id)
    shown = read(api, document.id)
    assert shown["signatureType"] == "Cms"
    marked = without_key(shown["markedFile"]["url"]).content
    assert without_key(shown["signedFile"]["url"]).content == make_p7s(marked)


def test_a_signed_file_has_the_length_that_was_asked_for(restpki: RestPki) -> None:
    restpki.signed_size_bytes = 50_000
    document = restpki.send()
    restpki.complete(document.id)
    signed_at = document.signed_at
    restpki.complete(document.id)
    assert document.signed_at is signed_at
    assert len(document.files["signed-file"].content) == 50_000


@pytest.mark.parametrize("header", ["Authorization", "Authentication"])
@pytest.mark.parametrize("kind", ["none", "api_key", "basic", "bearer"])
def test_callbacks_prove_themselves_as_the_provider_file_expects(
    restpki: RestPki, kind: Any, header: Any
) -> None:
    restpki.authentication, restpki.scheme_header = kind, header
    headers = {name.lower(): value for name, value in restpki.webhook_headers.items()}
    settings = {"none": {"authentication": "none"}, "api_key": {"secret": restpki.webhook_secret}}
    scheme = {"authentication": kind, "secret": restpki.webhook_secret}
    provider = make_provider("restpki", **settings.get(kind, scheme))
    proof = provider.authenticate(make_callback(b"{}", headers=headers))
    assert str(proof.trust) == ("open" if kind == "none" else "proven")
    assert bool(headers) is (kind != "none")


@pytest.mark.parametrize("path", ["documents/x", "signature-sessions/x", "signature-sessions"])
def test_every_call_but_a_link_demands_the_key(client: httpx.Client, restpki: RestPki, path: str) -> None:
    method = "GET" if path.endswith("x") else "POST"
    for headers in ({}, {"X-Api-Key": "wrong"}, {"X-Api-Key": restpki.token.partition("|")[2]}):
        assert client.request(method, f"{BASE}/{path}", headers=headers).status_code == 401


def test_refusals_have_their_codes(api: httpx.Client, restpki: RestPki) -> None:
    def code(path: str) -> tuple[int, str]:
        answer = api.get(f"{BASE}/{path}")
        return answer.status_code, answer.json()["code"]

    assert code("documents/x") == (422, "DocumentNotFound")
    assert code("signature-sessions/x") == (422, "SignatureSessionNotFound")
    restpki.processing = True
    assert code(f"documents/{restpki.send().id}") == (422, "BackgroundProcessing")
    with pytest.raises(PeerError, match=COMPLETED):
        restpki.happen(restpki.send().id, "UserCancelled")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"enableBackgroundProcessing": False}, "returnUrl"),
        ({"documents": "x"}, "documents"),
        ({"callbackArgument": "x" * 1025}, "callbackArgument"),
        ({"certificateRequirements": [{"type": "Nif"}]}, "CryptoDevice, Cpf"),
        ({"documents": ["x"]}, "documents"),
        ({"documents": [{}]}, "file must be"),
        ({"documents": [{"file": {"name": "a.pdf"}}]}, "content is missing"),
        (
            {"documents": [{"file": {"name": "a", "content": "JVBERg=="}, "signatureType": "Pades"}]},
            "Pdf, Cms",
        ),
        ({"documentMetadata": {"a": "b"}}, "documentMetadata"),
    ],
)
def test_an_unusable_session_is_refused(api: httpx.Client, change: dict[str, Any], word: str) -> None:
    answer = api.post(f"{BASE}/signature-sessions", json=session_of(**change))
    assert answer.status_code == 400
    assert word in answer.json()["message"]


def test_the_state_tells_neither_contents_nor_tickets(
    api: httpx.Client, restpki: RestPki, server: SimulatorServer
) -> None:
    document = restpki.send()
    link = read(api, document.id)["originalFile"]["url"]
    assert link.startswith(f"{server.url}/restpki/api/")
    state = api.get("/_state")
    assert state.json()["restpki"]["documents"][0]["id"] == document.id
    assert link.partition("access_ticket=")[2] not in state.text
