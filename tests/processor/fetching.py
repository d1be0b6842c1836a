"""Doubles and answers for tests that fetch signed files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
from pydantic import HttpUrl, SecretStr

from processor.download import StoredFile, fetch_files
from processor.outside import Outside
from processor.signatures import SignatureCheck
from shared.providers import certisign, ssign
from shared.providers._base import (
    DocumentView,
    Provider,
    SignedFiles,
)

MIB = 1024 * 1024
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 20 + b"\n%%EOF\n"
REPORT = b"%PDF-1.4\nreport\n%%EOF\n"
P7S = bytes.fromhex("3082 03f3 0609 2a864886f70d010702") + bytes(1000)

Handler = Callable[[httpx.Request], httpx.Response]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_ssign(**settings: Any) -> ssign.SSign:
    base_url = HttpUrl("https://tenant.example/rest")
    return ssign.SSign("ssign", ssign.Settings(base_url=base_url, token=SecretStr("t"), **settings))


def make_certisign(**settings: Any) -> certisign.Certisign:
    base_url = HttpUrl("https://api.example")
    return certisign.Certisign(
        "certisign", certisign.Settings(base_url=base_url, token=SecretStr("t"), **settings)
    )


class Scripted(ssign.SSign):
    """A provider whose files are fetched by the generator that a test hands it."""

    def __init__(self, script: Callable[[DocumentView], SignedFiles]) -> None:
        settings = ssign.Settings(base_url=HttpUrl("https://tenant.example/rest"), token=SecretStr("t"))
        super().__init__("scripted", settings)
        self._script = script

    def signed_file(self, document: DocumentView) -> SignedFiles:
        return self._script(document)


def make_outside(provider: Provider[Any], handler: Handler) -> Outside:
    return Outside(
        provider.name,
        origins=provider.origins,
        connect_timeout_seconds=60,
        read_timeout_seconds=60,
        total_timeout_seconds=120,
        transport=httpx.MockTransport(handler),
    )


async def fetch(
    folder: Path,
    provider: Provider[Any],
    handler: Handler,
    *,
    document_id: str = "155",
    max_file_bytes: int = MIB,
) -> list[StoredFile]:
    document = DocumentView(document_id, {"file_ids": "901", "chave": "A1B2"})
    async with aclosing(make_outside(provider, handler)) as outside:
        return await fetch_files(
            provider, document, outside, folder, max_file_bytes=max_file_bytes, signatures=SignatureCheck()
        )


def run(folder: Path, provider: Provider[Any], handler: Handler, **options: Any) -> list[StoredFile]:
    return asyncio.run(fetch(folder, provider, handler, **options))


def answering(data: bytes, status: int = 200, **headers: str) -> Handler:
    """A server that always answers the same, as a stream of unknown length."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: httpx.Response(status, headers=named, content=pieces(data))


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def package(name: str, data: bytes, media_type: str = "application/pdf", **other: Any) -> dict[str, Any]:
    return {"name": name, "mimeType": media_type, "bytes": base64.b64encode(data).decode(), **other}


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "."), data)
    return buffer.getvalue()


def names_in(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))
