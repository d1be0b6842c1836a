"""Callbacks and answers for provider tests, without any I/O."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.providers import AnyProvider, provider_classes
from shared.providers._base import Answer, Callback, FetchedFile, Request
from shared.providers._verify import HmacSettings, SharedSecretSettings

SAMPLES = Path(__file__).parent.parent / "samples"


def make_provider(name: str, **settings: Any) -> Any:
    """A provider with these settings, open when they say nothing of authentication."""
    made = provider_classes()[name]
    if made.calls_back and not {"authentication", "secret", "secrets"} & settings.keys():
        settings["authentication"] = "none"
    return made(name, made.Settings(**settings))


def make_callback(
    body: bytes,
    *,
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    address: str = "10.1.2.3",
) -> Callback:
    """A request as the door hands it over."""
    return Callback(
        body,
        {"content-type": "application/json", **(headers or {})},
        query or {},
        address,
        datetime(2026, 11, 21, tzinfo=UTC),
    )


def proof_of(provider: AnyProvider, secret: str, body: bytes) -> dict[str, str]:
    """The headers by which a provider with these settings proves that it knows a secret."""
    settings = provider.settings
    if isinstance(settings, HmacSettings):
        digest = hmac.digest(secret.encode(), body, "sha256")
        written = digest.hex() if settings.hmac_encoding == "hex" else base64.b64encode(digest).decode()
        return {settings.hmac_header.lower(): written}
    assert isinstance(settings, SharedSecretSettings)
    # Header values come off the wire read as latin-1.
    return {settings.secret_header.lower(): secret.encode().decode("latin-1")}


def sample(provider: str, name: str) -> Callback:
    """A captured callback."""
    return make_callback((SAMPLES / provider / f"{name}.json").read_bytes())


def make_file(token: int, name: str, inside: int | None = None) -> FetchedFile:
    """A file as the downloader tells of it."""
    return FetchedFile(token, name, "application/pdf", 9, f"{token:064d}", b"%PDF-1.7\n", inside)


def drive(
    steps: Generator[Request, Answer, Any], answer: Callable[[Request], Answer]
) -> tuple[list[Request], Any]:
    """Run a `signed_file` to its end; returns the requests it made and what it returned."""
    requests = []
    try:
        request = next(steps)
        while True:
            requests.append(request)
            request = steps.send(answer(request))
    except StopIteration as end:
        return requests, end.value
