"""Signatures, held against the examples that AWS publishes for S3."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from processor.destinations._sigv4 import NOTHING_SHA256, Account, signed

pytestmark = pytest.mark.anyio

# Amazon S3 API Reference, «Signature Calculations for the Authorization Header: Transferring Payload in a
# Single Chunk», read on 2026-11-22.
EXAMPLE = Account("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", "us-east-1")
ADDRESS = "https://examplebucket.s3.amazonaws.com"
BODY_SHA256 = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def that_day() -> datetime:
    return datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("method", "path", "headers", "sha256", "names", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {"Range": "bytes=0-9"},
            NOTHING_SHA256,
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            BODY_SHA256,
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/?lifecycle=",
            {},
            NOTHING_SHA256,
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/?max-keys=2&prefix=J",
            {},
            NOTHING_SHA256,
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
async def test_the_published_examples(
    method: str, path: str, headers: dict[str, str], sha256: str, names: str, signature: str
) -> None:
    sent = await signed(EXAMPLE, method, ADDRESS + path, headers, sha256=sha256, now=that_day)
    assert sent["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    assert sent["X-Amz-Date"] == "20130524T000000Z"


def test_nobody_loads_the_library_who_does_not_sign() -> None:
    """It takes most of a second and ten megabytes."""
    script = "import sys, processor.destinations; print([m for m in sys.modules if m.startswith('botocore')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
