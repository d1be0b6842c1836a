"""Callback bodies as the providers send them, and the sending of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

SSIGN_ACTIONS = ("COMPLETED", "PENDING", "EXPIRED", "DELETED")
"""Every documented action of S-SIGN."""
CERTISIGN_ACTIONS = (
    "FLOW",
    "STEP",
    "SIGNATURE-DIGITAL",
    "SIGNATURE-ELETRONIC",
    "SIGNATURE-SERVER",
    "SIGNATURE-NOK",
    "AUTHORIZATION-OK",
    "AUTHORIZATION-NOK",
    "APPROVAL-OK",
    "APPROVAL-NOK",
)
"""Every documented action of Certisign; ELETRONIC is the provider's spelling."""

Body = dict[str, Any]
"""A callback body before it becomes JSON."""


def ssign_body(envelope_id: int, action: str) -> Body:
    """What S-SIGN sends about an envelope."""
    return {"envelopeId": envelope_id, "action": action}


def certisign_body(
    document_id: int, action: str, *, name: str, identifier: str, message: str = "", api_download: str
) -> Body:
    """What Certisign sends about a document.

    `name` is the document's for FLOW and STEP, else that of the person who acted; `identifier` is a person's
    tax number.
    """
    return {
        "documentId": document_id,
        "name": name,
        "identifier": identifier,
        "action": action,
        "message": message,
        "apiDownload": api_download,
    }


def samples(provider: str) -> dict[str, Body]:
    """One body per documented action of `ssign` or `certisign`, about an envelope that need not exist.

    Raises:
        ValueError: another provider.
    """
    if provider == "ssign":
        return {action: ssign_body(155, action) for action in SSIGN_ACTIONS}
    if provider == "certisign":
        return {action: _certisign_sample(action) for action in CERTISIGN_ACTIONS}
    raise ValueError(f"provider must be ssign or certisign, this is {provider!r}")


async def send_callback(
    client: httpx.AsyncClient,
    door_url: str,
    provider: str,
    body: bytes | Body,
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> httpx.Response:
    """POST a callback to the door, as in `http://127.0.0.1:8080/api/callback`, and return its answer.

    Bytes are sent as they are. `headers` and `query` are sent besides Content-Type and `provider`, which
    they may replace.
    """
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode("utf-8")
    sent = httpx.Headers({"Content-Type": "application/json"})
    sent.update(headers)
    return await client.post(
        door_url, params={"provider": provider, **(query or {})}, headers=sent, content=content
    )


def _certisign_sample(action: str) -> Body:
    about_document = action in ("FLOW", "STEP")
    return certisign_body(
        48213,
        action,
        name="Contrato 2026-0042" if about_document else "Signatária Exemplo",
        identifier="12345678909",
        message="Cláusula 3 em desacordo com a proposta." if action.endswith("-NOK") else "",
        api_download="https://certisign.invalid/api/v2/document/package?key=A1B2C3D4E5F6A7B8",
    )
