"""Answers of Posten signering for tests of its provider file, and the certificate that it takes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

from shared.providers._base import Answer, Request
from simulator.certificates import Authority, pem_of
from simulator.posten_wire import error_document
from tests.providers.conftest import SAMPLES

ROOT = "https://api.signering.posten.no/api/123456789"
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
DATE = "Sun, 22 Nov 2026 09:00:00 GMT"
LATER = "2026-11-22T10:00:30.000+01:00"
XML = {"content-type": "application/xml", "date": DATE}


@cache
def pair() -> dict[str, str]:
    """Settings that name a certificate, its key, and who vouches for the other side."""
    authority = Authority("Rot")
    certificate, key = authority.issue("AVSENDER AS", organisation="123456789")
    return {
        "certificate": pem_of(certificate).decode(),
        "key": pem_of(key).decode(),
        "authorities": pem_of(authority.certificate).decode(),
    }


def body(name: str) -> bytes:
    return (SAMPLES / "posten" / f"{name}.xml").read_bytes()


def on(url: str) -> str:
    """A sample's address on the host of the settings."""
    return url.replace("api.difitest.", "api.")


def answering(*answers: Answer) -> Callable[[Request], Answer]:
    waiting = list(answers)
    return lambda _request: waiting.pop(0)


def coded(status: int, code: str) -> Answer:
    return Answer(status, XML, error_document(code, "01013300001 is wrong", wire=True))
