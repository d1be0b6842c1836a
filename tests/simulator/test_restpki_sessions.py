"""Sessions of the simulated Rest PKI Core over HTTP: what users do, what applications read, who is called."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulator.files import make_pdf
from simulator.peer import PeerError, StoredFile
from simulator.restpki import RestPki, Session
from simulator.switches import switches_of
from simulator.world import World
from tests.waiting import PATIENCE_SECONDS, wait_until

BASE = "/restpki/api"
RETURN_URL = "http://app.invalid/back?order=7"


@pytest.fixture
def restpki(world: World) -> RestPki:
    return world.restpki


@pytest.fixture
def api(client: httpx.Client, restpki: RestPki) -> httpx.Client:
    client.headers["X-Api-Key"] = restpki.token
    return client


def make_session(restpki: RestPki, *names: str, **more: Any) -> Session:
    files = [StoredFile(name, "application/pdf", make_pdf(name)) for name in names or ("a.pdf",)]
    return restpki.open([restpki.add(file) for file in files], return_url=RETURN_URL, **more)


def read(api: httpx.Client, session: Session) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"{BASE}/signature-sessions/{session.id}").json()
    return found


def statuses(api: httpx.Client, session: Session) -> tuple[str, list[str]]:
    found = read(api, session)
    return found["status"], [document["status"] for document in found["documents"] or []]


def happen(api: httpx.Client, session: Session, action: str) -> httpx.Response:
    return api.post(f"/_events/restpki/{session.id}/{action}")


def test_a_user_signs_on_the_page_and_is_sent_back(api: httpx.Client, restpki: RestPki) -> None:
    body = {"returnUrl": RETURN_URL, "documents": []}
    created = api.post(f"{BASE}/signature-sessions", json=body).json()
    page = created["redirectUrl"]
    assert "Assinar" in httpx.get(page, verify=False, timeout=PATIENCE_SECONDS).text
    mine = ("meu <contrato>.pdf", make_pdf("x"), "application/pdf")
    answer = httpx.post(
        page, data={"action": "sign"}, files={"file": mine}, verify=False, timeout=PATIENCE_SECONDS
    )
    assert answer.status_code == 302
    back = f"{RETURN_URL}&signatureSessionId={created['sessionId']}"
    assert answer.headers["location"] == back
    assert httpx.get(page, verify=False, timeout=PATIENCE_SECONDS).headers["location"] == back
    session = restpki.session(created["sessionId"])
    assert statuses(api, session) == ("Completed", ["Completed"])
    [document_id] = session.document_ids
    assert restpki.documents[document_id].files["original-file"].name == "meu <contrato>.pdf"


def test_the_name_of_a_document_is_text_on_the_page(api: httpx.Client, restpki: RestPki) -> None:
    session = make_session(restpki, "<b>.pdf")
    text = httpx.get(f"{restpki.base_url}/sign/{session.token}", verify=False, timeout=PATIENCE_SECONDS).text
    assert "&lt;b&gt;.pdf" in text
    assert "<b>.pdf" not in text


def test_a_page_that_does_not_exist_is_refused(client: httpx.Client) -> None:
    assert client.get("/restpki/sign/x").status_code == 404
    assert client.post("/restpki/sign/x", files={"action": (None, "sign")}).status_code == 404


def test_without_a_return_address_the_window_may_be_closed(api: httpx.Client, restpki: RestPki) -> None:
    session = make_session(restpki)
    session.return_url = None
    page = f"{restpki.base_url}/sign/{session.token}"
    answer = httpx.post(page, files={"action": (None, "cancel")}, verify=False, timeout=PATIENCE_SECONDS)
    assert answer.status_code == 200
    assert "fechar" in answer.text
    assert restpki.return_address(session) is None


@pytest.mark.parametrize(
    ("action", "ended", "documents"),
    [
        ("sign", "Completed", ["Completed", "Completed"]),
        ("cancel", "UserCancelled", []),
        ("expire", "Expired", ["PendingSignature", "PendingSignature"]),
        ("fail", "ProcessingError", ["ProcessingError", "ProcessingError"]),
    ],
)
def test_each_control_call_ends_a_session_and_no_session_ends_twice(
    api: httpx.Client, restpki: RestPki, action: str, ended: str, documents: list[str]
) -> None:
    session = make_session(restpki, "a.pdf", "b.pdf")
    assert statuses(api, session) == ("Pending", ["PendingSignature", "PendingSignature"])
    answer = happen(api, session, action).json()
    assert answer["status"] == ended
    assert answer["redirect"] == f"{RETURN_URL}&signatureSessionId={session.id}"
    assert statuses(api, session) == (ended, documents)
    assert happen(api, session, "cancel").status_code == 409
    assert happen(api, session, "sign").status_code == 409
    assert happen(api, session, "dance").status_code == 400


def test_a_session_expires_by_itself(api: httpx.Client, restpki: RestPki) -> None:
    now = 100.0
    restpki.clock = lambda: now
    session = make_session(restpki)
    now += 4 * 3600 - 1
    assert read(api, session)["status"] == "Pending"
    now += 1
    assert read(api, session)["status"] == "Expired"


@pytest.mark.parametrize(("switch", "shown"), [("empty", 0), ("null", None), ("kept", 1)])
def test_documents_of_a_cancelled_session_are_as_the_switch_says(
    api: httpx.Client, restpki: RestPki, switch: Any, shown: int | None
) -> None:
    restpki.documents_on_cancel = switch
    session = make_session(restpki)
    restpki.cancel(session.id)
    documents = read(api, session)["documents"]
    assert (None if documents is None else len(documents)) == shown


def test_processing_goes_on_in_the_background_and_a_long_wait_hears_of_its_end(
    api: httpx.Client, restpki: RestPki
) -> None:
    restpki.processing_seconds, restpki.holding_seconds = None, 0.1
    session = make_session(restpki, "a.pdf", "b.pdf", background=True)
    wait = f"{BASE}/signature-sessions/{session.id}/when-completed"
    refused = api.get(wait)
    assert (refused.status_code, refused.json()["code"]) == (422, "BadSignatureSessionOperation")
    restpki.sign(session.id)
    restpki.complete(session.document_ids[0])
    assert statuses(api, session) == ("Processing", ["Completed", "Processing"])
    assert api.get(wait).json() == {"completed": False, "progress": 50.0}
    restpki.holding_seconds = 10
    timer = threading.Timer(0.1, restpki.finish, (session.id,))
    timer.start()
    assert api.get(wait).json() == {"completed": True, "progress": 100.0}
    timer.join()
    restpki.refuses_waiting_at_end = False
    assert api.get(wait).json()["completed"] is True


def test_the_processing_takes_the_time_that_the_switch_says(api: httpx.Client, restpki: RestPki) -> None:
    restpki.processing_seconds = 0.1
    session = make_session(restpki, "a.pdf", "b.pdf", background=True)
    restpki.sign(session.id)
    wait_until(lambda: statuses(api, session) == ("Completed", ["Completed", "Completed"]), "the end")


def test_an_error_of_the_processing_may_be_mended_by_the_server_itself(
    api: httpx.Client, restpki: RestPki
) -> None:
    restpki.processing_seconds = None
    session = make_session(restpki, background=True)
    restpki.sign(session.id)
    restpki.fail(session.id)
    assert read(api, session)["processingErrorCode"] == "ValidationError"
    restpki.finish(session.id)
    assert statuses(api, session) == ("Completed", ["Completed"])
    assert read(api, session)["processingErrorCode"] is None


def test_waiting_for_a_session_that_failed_is_as_the_switch_says(api: httpx.Client, restpki: RestPki) -> None:
    session = make_session(restpki)
    restpki.fail(session.id)
    wait = f"{BASE}/signature-sessions/{session.id}/when-completed"
    assert api.get(wait).status_code == 422
    restpki.refuses_waiting_at_end = False
    assert api.get(wait).json()["completed"] is False


def test_a_session_shows_the_word_that_the_switch_says(api: httpx.Client, restpki: RestPki) -> None:
    restpki.status_word = "Suspended"
    assert read(api, make_session(restpki))["status"] == "Suspended"


# Callbacks


class Door(BaseHTTPRequestHandler):
    """Notes what it is sent, and answers with the next of `statuses`, then 200."""

    statuses: list[int]
    heard: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).heard.append((self.headers.get("X-Api-Key", ""), body))
        self.send_response(type(self).statuses.pop(0) if type(self).statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name of the base)
        """Say nothing."""


@pytest.fixture
def door(restpki: RestPki) -> Iterator[type[Door]]:
    heard: type[Door] = type("Heard", (Door,), {"statuses": [], "heard": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), heard)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    restpki.webhook_url = f"http://127.0.0.1:{server.server_port}/callback"
    restpki.webhook_pause_seconds = 0.01
    yield heard
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_completed_document_is_called_about_once(restpki: RestPki, door: type[Door]) -> None:
    session = make_session(restpki, "a.pdf", "b.pdf")
    restpki.sign(session.id)
    wait_until(
        lambda: all(call.statuses for call in restpki.webhooks) and len(restpki.webhooks) == 2, "two calls"
    )
    assert sorted(body["document"]["id"] for _, body in door.heard) == sorted(session.document_ids)
    assert {key for key, _ in door.heard} == {restpki.webhook_secret}
    assert [call.statuses for call in restpki.webhooks] == [[200], [200]]


def test_a_callback_is_tried_as_often_as_the_switch_says(restpki: RestPki, door: type[Door]) -> None:
    door.statuses[:] = [503, 500, 200]
    restpki.complete(restpki.send().id)
    wait_until(lambda: restpki.webhooks[0].statuses == [503], "the answers")
    restpki.webhook_tries = 3
    door.statuses[:] = [503, 500, 200]
    restpki.complete(restpki.send().id)
    wait_until(lambda: restpki.webhooks[1].statuses == [503, 500, 200], "the answers")
    restpki.webhook_url = "http://127.0.0.1:9/nobody"
    restpki.webhook_tries = 1
    restpki.complete(restpki.send().id)
    wait_until(lambda: restpki.webhooks[2].statuses == [None], "the answers")


# Files and keys


def test_a_file_may_be_uploaded_before_by_form_or_in_parts(api: httpx.Client, restpki: RestPki) -> None:
    content = make_pdf("upload", 25_000)
    plain = api.post(f"{BASE}/plain-uploads", files={"file": ("ação.pdf", content, "application/pdf")}).json()
    assert (plain["name"], plain["length"]) == ("ação.pdf", 25_000)
    restpki.part_bytes = 10_000
    begun = api.post("/restpki/Api/MultipartUploads").json()
    assert begun["partSize"] == 10_000
    token = begun["blobToken"]
    tags = []
    for number in range(3):
        part = content[number * 10_000 : (number + 1) * 10_000]
        url = f"/restpki/Api/MultipartUploads/{token}/{number}"
        digest = base64.b64encode(hashlib.md5(part).digest()).decode()
        assert api.post(url, content=part, headers={"Content-MD5": "x"}).status_code == 400
        tags.append(api.post(url, content=part, headers={"Content-MD5": digest}).headers["etag"])
    end = f"/restpki/Api/MultipartUploads/{token}"
    assert api.post(end, json={"partETags": tags[::-1]}).status_code == 400
    assert api.post(end, json={"partETags": tags, "completeMD5": None}).status_code == 200
    references = [{"url": plain["url"]}, {"blobToken": token, "name": "b.pdf"}]
    documents = [{"file": reference} for reference in references]
    body = {"returnUrl": RETURN_URL, "documents": documents}
    created = api.post(f"{BASE}/signature-sessions", json=body).json()
    ids = restpki.session(created["sessionId"]).document_ids
    originals = [restpki.documents[document_id].files["original-file"] for document_id in ids]
    assert [(file.name, file.content) for file in originals] == [("ação.pdf", content), ("b.pdf", content)]


@pytest.mark.parametrize("reference", [{"url": "https://app.invalid/a.pdf"}, {"blobToken": "x"}])
def test_a_file_that_is_nowhere_is_refused_by_code(api: httpx.Client, reference: dict[str, str]) -> None:
    body = {"returnUrl": RETURN_URL, "documents": [{"file": reference}]}
    answer = api.post(f"{BASE}/signature-sessions", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "FileDownloadFailed")


def test_a_document_key_is_used_once_and_finds_its_document(api: httpx.Client, restpki: RestPki) -> None:
    made = api.post(f"{BASE}/document-keys").json()
    assert api.get(f"{BASE}/documents/keys/{made['key']}").json() == {"found": False, "document": None}
    file = {"name": "a.pdf", "content": base64.b64encode(make_pdf("x")).decode()}
    body = {"returnUrl": RETURN_URL, "documents": [{"file": file, "documentKey": made["formattedKey"]}]}
    assert api.post(f"{BASE}/signature-sessions", json=body).status_code == 200
    assert api.post(f"{BASE}/signature-sessions", json=body).json()["code"] == "DocumentKeyNotFound"
    found = api.get(f"{BASE}/documents/keys/{made['formattedKey']}").json()
    assert found["document"]["key"] == made["key"]
    restpki.complete(found["document"]["id"])
    [signer] = api.get(f"{BASE}/documents/{found['document']['id']}/signers").json()
    assert signer["date"]


def test_a_given_id_is_kept_only_if_the_switch_says_so(api: httpx.Client, restpki: RestPki) -> None:
    mine = "3dfdd6f0-884e-4092-abed-00f18ea6716a"
    file = {"name": "a.pdf", "content": base64.b64encode(make_pdf("x")).decode()}
    body = {"returnUrl": RETURN_URL, "documents": [{"id": mine, "file": file}]}
    for keeps in (False, True):
        restpki.keeps_given_ids = keeps
        created = api.post(f"{BASE}/signature-sessions", json=body).json()
        assert (restpki.session(created["sessionId"]).document_ids == [mine]) is keeps


@pytest.mark.parametrize("spelling", ["Bearer {}", "ApiKey {}"])
def test_the_key_is_taken_in_every_spelling_of_the_clients(
    client: httpx.Client, restpki: RestPki, spelling: str
) -> None:
    headers = {"Authorization": spelling.format(restpki.token)}
    assert client.get(f"{BASE}/documents/{restpki.send().id}", headers=headers).status_code == 200


def test_files_stand_in_the_answer_or_behind_a_redirect_on_request(
    api: httpx.Client, restpki: RestPki
) -> None:
    document = restpki.send()
    restpki.content_in_answers = True
    file = api.get(f"{BASE}/documents/{document.id}").json()["originalFile"]
    assert base64.b64decode(file["content"]) == document.files["original-file"].content
    assert (file["url"], file["location"]) == (None, None)
    restpki.content_in_answers, restpki.redirected_links = False, True
    link = api.get(f"{BASE}/documents/{document.id}").json()["originalFile"]["url"]
    assert httpx.get(link, verify=False, timeout=PATIENCE_SECONDS).status_code == 302
    followed = httpx.get(link, verify=False, timeout=PATIENCE_SECONDS, follow_redirects=True)
    assert followed.content == document.files["original-file"].content


# Switches


def test_switches_are_read_and_set_while_it_runs(client: httpx.Client, restpki: RestPki) -> None:
    before = client.get("/_switches/restpki").json()
    assert before["ticket_seconds"] is None
    assert before["documents_on_cancel"] == "empty"
    assert not {"documents", "sessions", "clock", "webhooks", "keys"} & set(before)
    change = {"ticket_seconds": 60, "shape": "old", "documents_on_cancel": "null", "processing": True}
    assert client.patch("/_switches/restpki", json=change).json() == {**before, **change}
    assert (restpki.ticket_seconds, restpki.processing) == (60, True)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shape": "round"}, "shape"),
        ({"documents": {}}, "documents"),
        ({"stale_status": "x"}, "stale_status"),
    ],
)
def test_a_wrong_switch_is_named_and_none_is_set(
    client: httpx.Client, restpki: RestPki, change: dict[str, Any], word: str
) -> None:
    answer = client.patch("/_switches/restpki", json={"ticket_seconds": 60, **change})
    assert answer.status_code == 422
    assert word in answer.json()["error"]
    assert restpki.ticket_seconds is None


def test_every_switch_is_described() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "simulators.md").read_text()
    assert [name for name in switches_of(RestPki()) if f"| `{name}` |" not in page] == []


def test_a_peer_that_is_none_has_no_switches(client: httpx.Client) -> None:
    assert client.get("/_switches/nobody").status_code == 404


def test_of_a_document_only_its_completion_happens(restpki: RestPki) -> None:
    with pytest.raises(PeerError):
        restpki.happen(restpki.send().id, "sign")
