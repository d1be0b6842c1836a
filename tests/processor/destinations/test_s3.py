"""An object store as destination: what goes over the wire, and what each answer means."""

from __future__ import annotations

import base64
import hashlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.responses import HTMLResponse, Response

from processor.destinations.s3 import S3Destination
from processor.outside import Outside
from shared.clock import Clock
from shared.errors import (
    AccessError,
    NoAnswerError,
    NotSentError,
    PermanentError,
    TransientError,
    WaitingError,
)
from shared.settings.s3 import S3Settings

pytestmark = pytest.mark.anyio

ACCESS_KEY, SECRET_KEY, TOKEN = "AKIDEXAMPLE5512", "a/secret+key5512", "a-session-token5512"
STORED = Response(headers={"ETag": '"1"'})

Make = Callable[..., S3Destination]


@pytest.fixture
def make(receiver: Any, make_outside: Any) -> Make:
    receiver.answer = lambda _request: STORED

    def make(**changes: Any) -> S3Destination:
        given = {
            "kind": "s3",
            "endpoint": receiver.url,
            "bucket": "contracts",
            "region": "us-east-1",
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
        }
        settings = S3Settings.model_validate({**given, **changes})
        outside = make_outside("archive", origins=settings.origins)
        return S3Destination("archive", settings, outside, Clock())

    return make


def said(status: int, code: str = "", message: str = "", more: str = "") -> Response:
    """An error as S3 says it."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    return Response(text if code else "", status_code=status, media_type="application/xml")


async def refusal(destination: S3Destination, parcel: Any, mark: Any) -> Exception:
    with pytest.raises((WaitingError, PermanentError, TransientError)) as caught:
        await destination.deliver(parcel, mark)
    return caught.value


async def test_a_file_is_one_put_with_its_type_digest_and_key(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    parcel = make_parcel(b"signed bytes")
    assert await make().deliver(parcel, mark) == "ssign/155/contrato.pdf"
    (request,) = receiver.requests
    assert (request.method, request.path) == ("PUT", "/contracts/ssign/155/contrato.pdf")
    assert request.body == b"signed bytes"
    checksum = base64.b64encode(hashlib.sha256(b"signed bytes").digest())
    expected = {
        "content-length": b"12",
        "content-type": b"application/pdf",
        "if-none-match": b"*",
        "x-amz-content-sha256": parcel.sha256.encode(),
        "x-amz-checksum-sha256": checksum,
        "x-amz-meta-sha256": parcel.sha256.encode(),
        "x-amz-meta-idempotency-key": parcel.idempotency_key.encode(),
        "x-amz-storage-class": None,
        "x-amz-server-side-encryption": None,
        "x-amz-security-token": None,
        "transfer-encoding": None,
    }
    assert {name: request.header(name) for name in expected} == expected
    assert mark.seen == [[]], "marked once, before the store heard of it"


async def test_what_the_settings_ask_for_is_asked_of_the_store_and_signed(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    destination = make(
        session_token=TOKEN,
        storage_class="STANDARD_IA",
        server_side_encryption="aws:kms",
        kms_key_id="arn:aws:kms:sa-east-1:1:key/2",
        overwrite=True,
        checksum=False,
    )
    await destination.deliver(make_parcel(), mark)
    (request,) = receiver.requests
    expected = {
        "x-amz-security-token": TOKEN.encode(),
        "x-amz-storage-class": b"STANDARD_IA",
        "x-amz-server-side-encryption": b"aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": b"arn:aws:kms:sa-east-1:1:key/2",
    }
    assert {name: request.header(name) for name in expected} == expected
    assert request.header("if-none-match") is None
    assert request.header("x-amz-checksum-sha256") is None
    names = request.header("authorization").decode().partition("SignedHeaders=")[2].partition(",")[0]
    assert expected.keys() <= set(names.split(";"))


@pytest.mark.parametrize(
    ("key", "changes", "path"),
    [
        ("${file_name}", {"name": "a b+c~&ü.pdf"}, "/contracts/a%20b%2Bc%257E%2526%C3%BC.pdf"),
        ("${document_id}/x", {"document_id": "a/../b"}, "/contracts/a%252F..%252Fb/x"),
        ("${document_id}/x", {"document_id": ".."}, "/contracts/%252E%252E/x"),
        ("${document_id}/x", {"document_id": "u\u0308?#"}, "/contracts/%C3%BC%253F%2523/x"),
        ("a+b ü/${dms.area|none}", {}, "/contracts/a%2Bb%20%C3%BC/none"),
        ("${dms.a|}.${dms.b|}/x", {}, "/contracts/%252E/x"),
        ("${document_id}", {"document_id": "x" * 300}, None),
    ],
)
async def test_a_key_is_written_so_that_store_and_proxies_read_the_same(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, *, key: str, changes: Any, path: str | None
) -> None:
    await make(key=key).deliver(make_parcel(**changes), mark)
    (sent,) = receiver.paths()
    if path is None:
        assert sent.startswith("/contracts/xxx")
        assert len(sent) == len("/contracts/") + 200 + len("25"), "cut, with a digest of the whole"
    else:
        assert sent == path


@pytest.mark.parametrize("key", ["${dms.area|}/x", "a/${dms.area|}/x", "a/${dms.area|}"])
async def test_a_key_with_an_empty_part_is_refused_before_anything_is_sent(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, key: str
) -> None:
    assert "is empty" in str(await refusal(make(key=key), make_parcel(), mark))
    assert (receiver.requests, mark.seen) == ([], [])


async def test_a_key_above_1000_bytes_is_refused(make: Make, make_parcel: Any, mark: Any) -> None:
    error = await refusal(
        make(key="/".join(["${document_id}"] * 6)), make_parcel(document_id="x" * 180), mark
    )
    assert isinstance(error, PermanentError)
    assert "1000 bytes" in str(error)


async def test_what_is_not_registered_is_named(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    with pytest.raises(WaitingError, match=r"--dms area=VALUE"):
        await make(key="${dms.area}/x").deliver(make_parcel(), mark)
    assert (receiver.requests, mark.seen) == ([], [])


async def test_the_version_stands_in_the_reference(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    receiver.answer = lambda _request: Response(headers={"ETag": '"1"', "x-amz-version-id": "3/L4kq"})
    assert await make().deliver(make_parcel(), mark) == "ssign/155/contrato.pdf?versionId=3/L4kq"


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (said(403, "InvalidAccessKeyId"), AccessError, "correct access_key"),
        (said(403, "SignatureDoesNotMatch"), AccessError, "correct secret_key"),
        (said(403, "AccessDenied"), AccessError, "the right to put objects"),
        (said(403, "RequestTimeTooSkewed"), AccessError, "set the clock of this machine"),
        (said(403), AccessError, "correct access_key"),
        (said(401, "SomethingNew"), AccessError, "401 SomethingNew"),
        (said(400, "ExpiredToken"), AccessError, "session_token"),
        (said(404, "NoSuchBucket"), AccessError, "make the bucket"),
        (
            said(400, "AuthorizationHeaderMalformed", more="<Region>sa-east-1</Region>"),
            AccessError,
            "region sa-east-1: correct region",
        ),
        (said(301, "PermanentRedirect"), AccessError, "correct region"),
        (
            Response(status_code=301, headers={"x-amz-bucket-region": "eu-west-1"}),
            AccessError,
            "eu-west-1",
        ),
        (said(501, "NotImplemented"), AccessError, "overwrite = true"),
        (said(400, "KMS.NotFoundException"), AccessError, "kms_key_id"),
        (said(400, "XMinioAdminBucketQuotaExceeded"), TransientError, "QuotaExceeded"),
        (said(301), TransientError, "not followed"),
        (said(307, "TemporaryRedirect"), TransientError, "307"),
        (said(400, "BadDigest"), TransientError, "damaged on its way"),
        (said(400, "XAmzContentSHA256Mismatch"), TransientError, "damaged on its way"),
        (said(400, "RequestTimeout"), TransientError, "RequestTimeout"),
        (said(409, "ConditionalRequestConflict"), TransientError, "409"),
        (said(409), TransientError, "409"),
        (said(429), TransientError, "429"),
        (said(503, "SlowDown"), TransientError, "SlowDown"),
        (said(503), TransientError, "503"),
        (said(500, "InternalError", "We broke."), NoAnswerError, "InternalError: We broke."),
        (said(502), NoAnswerError, "502"),
        (Response("fine"), NoAnswerError, "not as an object store"),
        (HTMLResponse("<!doctype html>Login"), NoAnswerError, "a web page, but not as an object store"),
        (said(400, "KeyTooLongError", "Too long."), PermanentError, "KeyTooLongError: Too long."),
        (Response("no XML", status_code=400), PermanentError, "no XML"),
        (said(404), AccessError, "correct endpoint or bucket"),
    ],
)
async def test_each_answer_says_who_is_to_blame_and_what_to_do(
    receiver: Any,
    make: Make,
    make_parcel: Any,
    mark: Any,
    *,
    answer: Response,
    expected: type[Exception],
    words: str,
) -> None:
    """What is wrong for every file alike is `AccessError`, which charges no document."""
    receiver.answer = lambda _request: answer
    error = await refusal(make(), make_parcel(), mark)
    assert type(error) is expected
    assert words in str(error)


async def test_a_store_says_how_long_to_leave_it_alone(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    answer = said(503, "SlowDown")
    answer.headers["Retry-After"] = "7"
    receiver.answer = lambda _request: answer
    error = await refusal(make(), make_parcel(), mark)
    assert isinstance(error, TransientError)
    assert error.retry_after_seconds == 7


@pytest.mark.parametrize(
    "body",
    [
        '<!DOCTYPE x [<!ENTITY c "NoSuchBucket">]><Error><Code>&c;</Code></Error>',
        '<!DOCTYPE x [<!ENTITY c SYSTEM "file:///etc/hostname">]><Error><Code>&c;</Code></Error>',
        "<!DOCTYPE x><Error><Code>NoSuchBucket</Code></Error>",
        "<Error><Code>NoSuchBucket",
        "<Other><Code>NoSuchBucket</Code></Other>",
        "<Error><Code>No Such\nBucket</Code></Error>",
        "<Error>" + "<a>" * 3000,
    ],
)
async def test_only_a_plain_error_of_s3_is_read_as_one(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, body: str
) -> None:
    receiver.answer = lambda _request: Response(body, status_code=400)
    error = await refusal(make(), make_parcel(), mark)
    assert type(error) is PermanentError


async def test_secrets_that_a_store_repeats_stay_out_of_the_message(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    repeated = f"{ACCESS_KEY} {SECRET_KEY} {TOKEN}"
    for answer in (said(400, "Odd", repeated), Response(repeated, status_code=500)):
        receiver.answer = lambda _request, answer=answer: answer
        error = await refusal(make(session_token=TOKEN), make_parcel(), mark)
        assert "5512" not in str(error)
        assert "*** *** ***" in str(error)


@pytest.mark.parametrize(
    ("held", "is_same"),
    [
        ({"x-amz-meta-sha256": "{sha256}", "content-length": "{size}"}, True),
        ({"x-amz-meta-sha256": "{sha256}", "content-length": "1"}, False),
        ({"x-amz-meta-sha256": "0" * 64, "content-length": "{size}"}, False),
        ({"content-length": "{size}"}, False),
    ],
)
async def test_an_object_that_has_the_key_counts_only_if_it_is_this_file(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, *, held: dict[str, str], is_same: bool
) -> None:
    parcel = make_parcel(b"12345")
    headers = {name: text.format(sha256=parcel.sha256, size=5) for name, text in held.items()}
    receiver.answer = lambda request: (
        Response(headers={"x-amz-version-id": "v1", **headers})
        if request.method == "HEAD"
        else said(412, "PreconditionFailed")
    )
    plain = "/contracts/ssign/155/contrato.pdf"
    if is_same:
        assert await make().deliver(parcel, mark) == "ssign/155/contrato.pdf?versionId=v1"
        assert receiver.paths() == [plain] * 2
    else:
        error = await refusal(make(), parcel, mark)
        assert type(error) is PermanentError
        assert "other objects have the key ssign/155/contrato.pdf" in str(error)
        assert receiver.paths() == [plain] * 2 + [plain.replace(".", f".{parcel.sha256[:16]}.")] * 2
    assert [request.method for request in receiver.requests][:2] == ["PUT", "HEAD"]
    assert len(mark.seen) == 1


@pytest.mark.parametrize(
    ("status", "expected"), [(404, TransientError), (403, AccessError), (500, NoAnswerError)]
)
async def test_a_question_for_what_has_the_key_that_fails_decides_nothing(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, *, status: int, expected: type[Exception]
) -> None:
    receiver.answer = lambda request: said(status) if request.method == "HEAD" else said(412)
    error = await refusal(make(), make_parcel(), mark)
    assert type(error) is expected


async def test_a_412_that_nobody_asked_for_is_final(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    receiver.answer = lambda _request: said(412, "PreconditionFailed")
    assert type(await refusal(make(overwrite=True), make_parcel(), mark)) is PermanentError
    assert len(receiver.requests) == 1


async def test_at_aws_the_bucket_stands_before_the_host(make_parcel: Any, mark: Any) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers={"ETag": '"1"'})

    account = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    settings = S3Settings.model_validate(
        {"kind": "s3", "bucket": "contracts", "region": "sa-east-1", **account}
    )
    outside = Outside(
        "archive",
        origins=settings.origins,
        connect_timeout_seconds=5,
        read_timeout_seconds=5,
        total_timeout_seconds=5,
        transport=httpx.MockTransport(answer),
    )
    await S3Destination("archive", settings, outside, Clock()).deliver(make_parcel(), mark)
    (request,) = seen
    host = "contracts.s3.sa-east-1.amazonaws.com"
    assert str(request.url) == f"https://{host}/ssign/155/contrato.pdf"
    assert request.headers["host"] == host
    assert "/sa-east-1/s3/aws4_request" in request.headers["authorization"]
    assert "host;" in request.headers["authorization"]


@pytest.mark.parametrize("damage", [b"shorter", b"%PDF-1.7 signeD"])
async def test_a_file_that_changed_on_our_disk_never_arrives_whole(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, damage: bytes
) -> None:
    parcel = make_parcel(b"%PDF-1.7 signed")
    parcel.path.write_bytes(damage)
    with pytest.raises(TransientError, match="changed"):
        await make().deliver(parcel, mark)
    assert receiver.requests == []
    marked = len(damage) == parcel.size_bytes
    assert len(mark.seen) == marked, "another length is found before anything is sent"


async def test_a_store_that_is_not_there_was_sent_nothing(
    make: Make, make_parcel: Any, mark: Any, unused_tcp_port_origin: str
) -> None:
    with pytest.raises(NotSentError, match="refused"):
        await make(endpoint=unused_tcp_port_origin).deliver(make_parcel(), mark)


async def test_a_file_of_50_mb_does_not_pass_through_memory(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    receiver.keep_bodies = False
    destination = make()
    # What the library that signs takes once is not what a file takes.
    await destination.deliver(make_parcel(b""), mark)
    parcel = make_parcel(b"%PDF" * (50 * 1024 * 1024 // 4))
    tracemalloc.start()
    try:
        await destination.deliver(parcel, mark)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert receiver.requests[-1].sha256 == parcel.sha256
    assert peak_bytes < 6 * 1024 * 1024
