"""Callback bodies of every documented action, and what reaches the door."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from shared.events import EventType
from shared.providers.certisign import Certisign
from shared.providers.ssign import SSign
from simulator.callbacks import samples, send_callback


@pytest.mark.parametrize(
    ("provider", "known", "id_name"),
    [("ssign", SSign, "envelopeId"), ("certisign", Certisign, "documentId")],
)
def test_there_is_a_sample_for_exactly_the_actions_that_the_provider_file_knows(
    provider: str, known: Any, id_name: str
) -> None:
    bodies = samples(provider)
    assert set(bodies) == set(known.event_types)
    for action, body in bodies.items():
        assert body["action"] == action
        assert isinstance(body[id_name], int)
        assert known.event_types[action] is not EventType.UNKNOWN


def test_only_refusals_carry_a_reason() -> None:
    for action, body in samples("certisign").items():
        assert bool(body["message"]) is action.endswith("-NOK")


def test_an_unknown_provider_has_no_samples() -> None:
    with pytest.raises(ValueError, match="ssign or certisign"):
        samples("arqsign")


def sent(body: Any, **more: Any) -> httpx.Request:
    """The request that reaches the door."""
    seen: list[httpx.Request] = []

    def door(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    async def call() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(door)) as client:
            await send_callback(client, "http://door/api/callback", "certisign", body, **more)

    asyncio.run(call())
    return seen[0]


def test_a_body_is_sent_as_utf8_json_with_provider_headers_and_query() -> None:
    body = samples("certisign")["SIGNATURE-NOK"]
    request = sent(body, headers={"X-Callback-Secret": "s"}, query={"a": "é"})
    assert request.method == "POST"
    assert dict(request.url.params) == {"provider": "certisign", "a": "é"}
    assert request.headers["X-Callback-Secret"] == "s"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.content) == body
    assert "Cláusula".encode() in request.content


def test_bytes_are_sent_as_they_are_and_the_content_type_may_be_replaced() -> None:
    request = sent(b"{not json", headers={"content-type": "text/plain"})
    assert request.content == b"{not json"
    assert request.headers.get_list("Content-Type") == ["text/plain"]
