"""The control paths: weather, state, and events."""

from __future__ import annotations

import httpx
import pytest

from simulator.world import World


def test_weather_is_made_listed_and_cleared_over_http(client: httpx.Client, world: World) -> None:
    made = client.post("/_weather", json={"peer": "ssign", "kind": "status", "status": 500, "times": None})
    assert made.status_code == 200
    assert made.json()[0]["status"] == 500
    assert [client.get("/ssign/rest").status_code for _ in range(2)] == [500, 500]
    assert len(client.get("/_weather").json()) == 1
    assert client.delete("/_weather").json() == []
    assert client.get("/ssign/rest").status_code == 404
    assert world.weather.storms == []


@pytest.mark.parametrize(
    ("content", "word"), [(b'{"peer": "dms", "kind": "reset", "staus": 1}', "staus"), (b"{", "Expecting")]
)
def test_a_wrong_storm_changes_nothing_and_names_the_wrong_key(
    client: httpx.Client, world: World, content: bytes, word: str
) -> None:
    answer = client.post("/_weather", content=content)
    assert answer.status_code == 422
    assert word in answer.json()["error"]
    assert world.weather.storms == []


def test_the_state_tells_all_but_contents_and_headers(client: httpx.Client, world: World) -> None:
    envelope = world.ssign.send("Contrato")
    document = world.certisign.send()
    headers = {"Authorization": f"Bearer {world.dms.token}", "Idempotency-Key": "k"}
    client.post("/dms/files", content=b"%PDF-secret", headers=headers)
    answer = client.get("/_state")
    state = answer.json()
    assert state["ssign"]["envelopes"] == [
        {"id": envelope.id, "name": "Contrato", "fileIds": [9001], "status": "PENDING"}
    ]
    assert state["certisign"]["documents"][0]["chave"] == document.chave
    assert state["dms"]["received"][0]["idempotencyKey"] == "k"
    assert state["dms"]["received"][0]["sizeBytes"] == 11
    assert state["requests"] == [
        {"peer": "dms", "method": "POST", "path": "/dms/files", "sizeBytes": 11, "storm": None, "status": 201}
    ]
    assert "secret" not in answer.text
    assert str(world.dms.token) not in answer.text


def test_an_event_happens_over_http_and_answers_the_callback_body(client: httpx.Client, world: World) -> None:
    envelope, document = world.ssign.send(), world.certisign.send()
    said = client.post(f"/_events/ssign/{envelope.id}/COMPLETED")
    assert said.json() == {"envelopeId": envelope.id, "action": "COMPLETED"}
    assert envelope.status == "COMPLETED"
    assert client.post(f"/_events/certisign/{document.id}/FLOW").json()["documentId"] == document.id
    assert document.signed
    assert client.post("/_events/ssign/1/COMPLETED").status_code == 404
    assert client.post("/_events/other/1/COMPLETED").status_code == 404
    assert client.post(f"/_events/ssign/{envelope.id}/DONE").status_code == 400
