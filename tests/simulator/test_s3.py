"""The simulated object store believes signatures alone, and the digests that it works out itself."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from lxml import etree

from simulator.s3 import S3
from simulator.s3_api import signature
from simulator.world import World

PATH = "/simulated-bucket/ssign/155/a%20b%2Bc.pdf"
CONTENT = b"%PDF signed"


def test_the_signature_is_that_of_the_published_example() -> None:
    """Amazon S3 API Reference, «Transferring Payload in a Single Chunk», GET Object; read on 2026-11-22."""
    nothing = hashlib.sha256(b"").hexdigest()
    canonical = (
        "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n"
        f"x-amz-content-sha256:{nothing}\nx-amz-date:20130524T000000Z\n\n"
        f"host;range;x-amz-content-sha256;x-amz-date\n{nothing}"
    )
    key, scope = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524/us-east-1/s3/aws4_request"
    assert signature(key, scope, "20130524T000000Z", canonical) == (
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def signed(client: httpx.Client, store: S3, method: str, path: str = PATH, **more: Any) -> httpx.Response:
    """Send a request that is signed with what the store knows, unless `more` says otherwise."""
    content: bytes = more.get("content", CONTENT if method == "PUT" else b"")
    at: datetime = more.get("at", datetime.now(UTC))
    instant = at.strftime("%Y%m%dT%H%M%SZ")
    region = more.get("region", store.region)
    headers = {
        "host": client.base_url.netloc.decode(),
        "x-amz-content-sha256": hashlib.sha256(more.get("signed", content)).hexdigest(),
        "x-amz-date": instant,
        **more.get("headers", {}),
    }
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{headers['x-amz-content-sha256']}"
    scope = f"{instant[:8]}/{region}/s3/aws4_request"
    word = signature(more.get("secret_key", store.secret_key), scope, instant, canonical)
    access_key = more.get("access_key", store.access_key)
    headers["authorization"] = more.get(
        "authorization",
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={word}",
    )
    return client.request(method, path, content=content, headers={**headers, **more.get("unsigned", {})})


@pytest.fixture
def store(world: World) -> S3:
    return world.s3


def test_an_object_is_stored_under_its_key_and_told_of(client: httpx.Client, store: S3, world: World) -> None:
    headers = {"content-type": "application/pdf", "x-amz-meta-sha256": "abc", "if-none-match": "*"}
    assert signed(client, store, "PUT", headers=headers).status_code == 200
    (held,) = store.objects
    assert (held.file.name, held.file.content) == ("ssign/155/a b+c.pdf", CONTENT)
    told = signed(client, store, "HEAD")
    assert told.status_code == 200
    assert told.headers["x-amz-meta-sha256"] == "abc"
    assert told.headers["content-length"] == str(len(CONTENT))
    assert signed(client, store, "PUT", headers={"if-none-match": "*"}).status_code == 412
    assert signed(client, store, "HEAD", "/simulated-bucket/other").status_code == 404
    assert world.summary["s3"]["puts"] == 1
    assert [request.status for request in world.requests_to("s3")] == [200, 200, 412, 404]


def test_a_bucket_keeps_versions_if_it_is_told_to(client: httpx.Client, store: S3) -> None:
    assert "x-amz-version-id" not in signed(client, store, "PUT").headers
    store.versioning = True
    assert [signed(client, store, "PUT").headers["x-amz-version-id"] for _ in range(2)] == ["v2", "v3"]
    assert [held.version for held in store.objects] == ["", "v2", "v3"]


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"authorization": "Bearer x"}, 403, "AccessDenied"),
        ({"access_key": "OTHER"}, 403, "InvalidAccessKeyId"),
        ({"secret_key": "other"}, 403, "SignatureDoesNotMatch"),
        ({"region": "sa-east-1"}, 400, "AuthorizationHeaderMalformed"),
        ({"headers": {"x-amz-security-token": "t"}}, 400, "InvalidToken"),
        ({"unsigned": {"x-amz-meta-more": "1"}}, 403, "AccessDenied"),
        ({"unsigned": {"x-amz-date": "20130524T000000Z"}}, 403, "RequestTimeTooSkewed"),
        ({"at": datetime.now(UTC) - timedelta(hours=1)}, 403, "RequestTimeTooSkewed"),
        ({"signed": b"other"}, 400, "XAmzContentSHA256Mismatch"),
        ({"headers": {"x-amz-checksum-sha256": base64.b64encode(b"x" * 32).decode()}}, 400, "BadDigest"),
    ],
)
def test_whoever_is_not_right_is_told_why(
    client: httpx.Client, store: S3, *, more: dict[str, Any], status: int, code: str
) -> None:
    answer = signed(client, store, "PUT", **more)
    root = etree.fromstring(answer.content)
    assert (answer.status_code, root.findtext("Code")) == (status, code)
    assert store.objects == []


def test_another_bucket_is_not_there(client: httpx.Client, store: S3) -> None:
    store.bucket = "renamed"
    assert b"NoSuchBucket" in signed(client, store, "PUT").content


def test_an_upload_arrives_damaged_on_request(client: httpx.Client, store: S3) -> None:
    store.damaged = 1
    assert [signed(client, store, "PUT").status_code for _ in range(2)] == [400, 200]
    assert store.objects[0].file.content == CONTENT
