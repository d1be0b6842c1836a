"""Certisign over HTTP, in every form its answers are known to take."""

from __future__ import annotations

import base64
import io
import zipfile
from typing import Any

import httpx
import pytest

from simulator.certisign import BytesAs, Document, PackageShape
from simulator.files import make_p7s, make_pdf
from simulator.peer import NotReady, PeerError
from simulator.world import World
from tests.waiting import PATIENCE_SECONDS

BASE = "/certisign/api/v2/document"
PERSON = {
    "name": "Signatária Exemplo",
    "email": "s@example.com",
    "individualIdentificationCode": "12345678909",
}


@pytest.fixture
def api(client: httpx.Client, world: World) -> httpx.Client:
    client.headers["token"] = world.certisign.token
    return client


def signed(world: World, name: str = "Contrato") -> Document:
    document = world.certisign.send(name)
    world.certisign.finish(document.id)
    return document


def package(api: httpx.Client, chave: str, **flags: str) -> httpx.Response:
    return api.get(f"{BASE}/package", params={"key": chave, **flags})


def entries(file: dict[str, Any]) -> dict[str, bytes]:
    assert file["mimeType"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(file["bytes"]))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    "given",
    [base64.b64encode(make_pdf("Texto")).decode(), list(make_pdf("Texto"))],
    ids=["base64", "integers"],
)
def test_upload_create_sign_fetch(api: httpx.Client, world: World, server: Any, given: object) -> None:
    upload = api.post(f"{BASE}/upload", json={"fileName": "contrato.pdf", "bytes": given}).json()
    body = {
        "document": {"name": "Contrato", "upload": {"id": upload["uploadId"], "name": "contrato.pdf"}},
        "sender": PERSON,
        "typeId": 1,
        "signers": [PERSON | {"step": 1, "title": "Signatário"}],
        "electronicSigners": [PERSON | {"step": 2}],
    }
    created = api.post(f"{BASE}/create", json=body).json()
    assert created["id"] == 48213
    assert len(created["chave"]) == 16
    assert created["inProcessing"] is False
    assert world.certisign.documents[48213].original.content == make_pdf("Texto")
    flow = world.certisign.finish(48213)
    assert flow == {
        "documentId": 48213,
        "name": "Contrato",
        "identifier": "12345678909",
        "action": "FLOW",
        "message": "",
        "apiDownload": f"{server.url}{BASE}/package?key={created['chave']}",
    }
    # The link of the callback itself works, and works only with the token.
    (file,) = api.get(flow["apiDownload"]).json()
    assert b"(Assinado: Contrato)" in base64.b64decode(file["bytes"])
    assert httpx.get(flow["apiDownload"], timeout=PATIENCE_SECONDS).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "upload"),
        ("POST", "create"),
        ("GET", "package"),
        ("GET", "flowActions"),
        ("GET", "ValidateSignatures"),
    ],
)
def test_every_call_demands_the_token_in_any_letter_case(
    client: httpx.Client, world: World, method: str, path: str
) -> None:
    wrong = client.request(method, f"{BASE}/{path}", headers={"Token": "wrong"})
    assert wrong.status_code == 401
    assert "message" in wrong.json()
    for name in ("Token", "token", "TOKEN"):
        answer = client.request(method, f"{BASE}/{path}", headers={name: world.certisign.token})
        assert answer.status_code in (400, 404)


def test_the_package_is_a_list_unless_a_zip_is_asked_for(api: httpx.Client, world: World) -> None:
    chave = signed(world).chave
    flags = {"includeOriginal": "true", "includeManifest": "true"}
    names = ["Contrato-Manifesto.pdf", "Contrato.pdf", "Contrato-Original.pdf"]
    assert [file["name"] for file in package(api, chave, **flags).json()] == names
    assert [file["name"] for file in package(api, chave).json()] == ["Contrato.pdf"]
    zipped = package(api, chave, zipped="true", **flags).json()
    assert zipped["name"] == "Contrato.zip"
    assert list(entries(zipped)) == names
    assert entries(zipped)["Contrato-Original.pdf"] == make_pdf("Contrato")


def test_the_form_of_the_package_can_be_forced(api: httpx.Client, world: World) -> None:
    chave = signed(world).chave
    world.certisign.package_shape = PackageShape.OBJECT
    one = package(api, chave, includeManifest="true", zipped="true").json()
    assert (one["name"], one["mimeType"]) == ("Contrato.pdf", "application/pdf")
    world.certisign.package_shape = PackageShape.ARRAY
    assert isinstance(package(api, chave, zipped="true").json(), list)
    world.certisign.package_shape = PackageShape.ZIPPED
    assert list(entries(package(api, chave).json())) == ["Contrato.pdf"]


def test_bytes_come_as_a_list_of_integers_on_request(api: httpx.Client, world: World) -> None:
    chave = signed(world).chave
    (as_text,) = package(api, chave).json()
    world.certisign.bytes_as = BytesAs.INTEGERS
    (as_list,) = package(api, chave).json()
    assert bytes(as_list["bytes"]) == base64.b64decode(as_text["bytes"])
    assert as_list["bytes"][:4] == [37, 80, 68, 70]


@pytest.mark.parametrize("shape", list(PackageShape))
def test_a_cades_package_is_a_zip_with_signature_content_and_manifest(
    api: httpx.Client, world: World, shape: PackageShape
) -> None:
    world.certisign.cades = True
    world.certisign.package_shape = shape
    answer = package(api, signed(world).chave).json()
    found = entries(answer[0] if shape is PackageShape.ARRAY else answer)
    assert list(found) == ["Contrato-Manifesto.pdf", "Contrato.pdf", "Contrato.pdf.p7s"]
    assert found["Contrato.pdf"] == make_pdf("Contrato")
    assert found["Contrato.pdf.p7s"] == make_p7s(make_pdf("Contrato"))


@pytest.mark.parametrize(("not_ready", "status"), [(NotReady.CONFLICT, 409), (NotReady.NOT_FOUND, 404)])
def test_a_package_is_not_ready_until_signed_and_processed(
    api: httpx.Client, world: World, not_ready: NotReady, status: int
) -> None:
    world.certisign.not_ready = not_ready
    world.certisign.in_processing = True
    document = world.certisign.send()
    assert package(api, document.chave).status_code == status
    world.certisign.finish(document.id)
    assert package(api, document.chave).status_code == status
    world.certisign.finish_processing(document.id)
    assert package(api, document.chave).status_code == 200


def test_a_package_that_is_not_ready_may_be_a_success_without_bytes(api: httpx.Client, world: World) -> None:
    world.certisign.not_ready = NotReady.EMPTY
    chave = world.certisign.send().chave
    assert package(api, chave).json() == [{"name": "Contrato 2026-0042", "mimeType": None, "bytes": None}]
    assert package(api, chave, zipped="true").json()["bytes"] is None


def test_the_package_is_not_found_by_the_document_id(api: httpx.Client, world: World) -> None:
    assert package(api, str(signed(world).id)).status_code == 404


def test_flow_actions_and_validation_tell_who_has_acted(api: httpx.Client, world: World) -> None:
    document = world.certisign.send(steps=2)
    world.certisign.finish_step(document.id)
    steps = api.get(f"{BASE}/flowActions", params={"id": document.id}).json()["steps"]
    assert [(step["order"], step["status"]) for step in steps] == [(1, 2), (2, 1)]
    assert [step["attendees"][0]["actionTaken"] for step in steps] == [True, False]
    checked = api.get(f"{BASE}/ValidateSignatures", params={"key": document.chave}).json()
    assert (checked["key"], checked["isValid"], len(checked["signatures"])) == (document.chave, False, 1)
    world.certisign.finish(document.id)
    checked = api.get(f"{BASE}/ValidateSignatures", params={"key": document.chave}).json()
    assert (checked["isValid"], len(checked["signatures"])) == (True, 2)


def test_a_trigger_chooses_the_callbacks_of_the_same_flow(world: World) -> None:
    def actions(trigger: Any) -> list[str]:
        document = world.certisign.send(steps=2, signers=2)
        return [body["action"] for body in world.certisign.play(document.id, trigger)]

    digital = "SIGNATURE-DIGITAL"
    assert actions("FLOW") == ["FLOW"]
    assert actions("STEP") == ["STEP", "STEP", "FLOW"]
    assert actions("ACTION") == [digital, digital, "STEP", digital, digital, "STEP", "FLOW"]
    assert all(document.signed for document in world.certisign.documents.values())


def test_each_documented_action_can_happen_by_its_name(world: World) -> None:
    document = world.certisign.send(steps=4)
    for action in (
        "AUTHORIZATION-OK",
        "APPROVAL-OK",
        "SIGNATURE-DIGITAL",
        "SIGNATURE-ELETRONIC",
        "SIGNATURE-SERVER",
        "STEP",
        "AUTHORIZATION-NOK",
        "APPROVAL-NOK",
        "SIGNATURE-NOK",
    ):
        body = world.certisign.happen(document.id, action)
        assert (body["action"], body["documentId"]) == (action, document.id)
        assert not document.signed
    assert body["message"] == "Cláusula 3 em desacordo com a proposta."
    assert body["name"] == "Signatária 4.1"
    assert document.refused
    assert world.certisign.happen(document.id, "FLOW")["action"] == "FLOW"
    assert document.signed
    with pytest.raises(PeerError, match="everybody has signed"):
        world.certisign.happen(document.id, "SIGNATURE-DIGITAL")
    with pytest.raises(PeerError, match="must be one of FLOW"):
        world.certisign.happen(document.id, "SIGNATURE-MAGIC")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("upload", {"fileName": "a.pdf", "bytes": [256]}),
        ("upload", {"fileName": "a.pdf", "bytes": 7}),
        ("upload", {"bytes": "JVBERg=="}),
        (
            "create",
            {"document": {"name": "a", "upload": {"id": "no"}}, "sender": PERSON, "signers": [PERSON]},
        ),
        ("create", {"document": "a", "sender": PERSON}),
        ("create", {"document": {"name": "a", "upload": {"id": "no"}}, "sender": PERSON, "signers": "x"}),
    ],
)
def test_an_unusable_body_is_refused(api: httpx.Client, path: str, body: object) -> None:
    answer = api.post(f"{BASE}/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_a_document_needs_somebody_to_sign(api: httpx.Client, world: World) -> None:
    upload_id = world.certisign.upload("a.pdf", b"%PDF")
    body = {"document": {"name": "a", "upload": {"id": upload_id}}, "sender": PERSON, "signers": []}
    assert "signers" in api.post(f"{BASE}/create", json=body).json()["message"]
