"""The simulated object store over HTTP: PUT and HEAD of objects, for requests that are signed rightly.

Source: docs.aws.amazon.com, Amazon S3 API Reference: «Signature Calculations for the Authorization Header»,
«PutObject», «HeadObject», «Error responses».
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulator.peer import StoredFile
from simulator.s3 import S3, S3Error, StoredObject

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/(?P<date>\d{8})/(?P<region>[^/,]+)/s3/aws4_request,"
    r" ?SignedHeaders=(?P<names>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_MAX_SKEW_SECONDS = 15 * 60
_UNRESERVED = "-_.~"


class _Api:
    def __init__(self, store: S3) -> None:
        self._store = store

    async def put(self, request: Request) -> Response:
        body = self._store.arrived(await request.body())
        key = self._key(request, body)
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode("ascii")
        if request.headers.get("x-amz-checksum-sha256", checksum) != checksum:
            raise S3Error(400, "BadDigest", "The SHA256 you specified did not match what was received.")
        media_type = request.headers.get("content-type", "binary/octet-stream")
        stored = self._store.put(StoredFile(key, media_type, body), dict(request.headers))
        return Response(headers=_said(stored) | {"x-amz-checksum-sha256": checksum})

    async def head(self, request: Request) -> Response:
        stored = self._store.get(self._key(request, b""))
        kept = {name: value for name, value in stored.headers.items() if name.startswith("x-amz-meta-")}
        told = {"content-type": stored.file.media_type, "content-length": str(len(stored.file.content))}
        return Response(headers=_said(stored) | kept | told)

    def _key(self, request: Request, body: bytes) -> str:
        """The key that a request is about, which has the right to it.

        Raises:
            S3Error: it does not.
        """
        expect_signed(self._store, request, body)
        bucket, _, key = unquote(_raw_path(request)).lstrip("/").partition("/")
        if bucket != self._store.bucket:
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist")
        return key


def expect_signed(store: S3, request: Request, body: bytes) -> None:
    """Return when a request is signed with the store's key, for its region and for this body.

    Raises:
        S3Error: it is not; with the code that S3 has for what is wrong.
    """
    given = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if given is None:
        raise S3Error(403, "AccessDenied")
    if given["key"] != store.access_key:
        raise S3Error(403, "InvalidAccessKeyId")
    if given["region"] != store.region:
        raise S3Error(400, "AuthorizationHeaderMalformed", "the region is wrong", region=store.region)
    if request.headers.get("x-amz-security-token") != store.session_token:
        raise S3Error(400, "InvalidToken")
    names = given["names"].split(";")
    if lacking := {"x-amz-date", "x-amz-content-sha256"} - set(request.headers):
        raise S3Error(403, "AccessDenied", f"not given: {', '.join(sorted(lacking))}")
    if unsigned := {"host", *filter(_must_be_signed, request.headers)} - set(names):
        raise S3Error(403, "AccessDenied", f"not signed: {', '.join(sorted(unsigned))}")
    instant = request.headers["x-amz-date"]
    told_at = datetime.strptime(instant, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ahead_seconds = (datetime.now(UTC) - told_at).total_seconds() + store.skew_seconds
    if abs(ahead_seconds) > _MAX_SKEW_SECONDS or given["date"] != instant[:8]:
        raise S3Error(403, "RequestTimeTooSkewed")
    scope = f"{given['date']}/{store.region}/s3/aws4_request"
    wanted = signature(store.secret_key, scope, instant, _canonical(request, names))
    if not hmac.compare_digest(given["signature"], wanted):
        raise S3Error(403, "SignatureDoesNotMatch")
    if request.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
        raise S3Error(400, "XAmzContentSHA256Mismatch")


def signature(secret_key: str, scope: str, instant: str, canonical: str) -> str:
    """The signature of a canonical request, in hexadecimal; `scope` is `DATE/REGION/s3/aws4_request`."""
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{instant}\n{scope}\n{digest}"
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def create_app(store: S3) -> Starlette:
    """The bucket, for addresses in path style."""
    api = _Api(store)
    return Starlette(
        routes=[
            Route("/{key:path}", api.put, methods=["PUT"]),
            Route("/{key:path}", api.head, methods=["HEAD"]),
        ],
        exception_handlers={S3Error: _refuse},
    )


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, S3Error)
    region = f"<Region>{escape(error.region)}</Region>" if error.region else ""
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{error.code}</Code>'
        f"<Message>{escape(str(error))}</Message>{region}<RequestId>SIMULATED</RequestId></Error>"
    )
    # HEAD has no body to say a code in.
    return Response("" if request.method == "HEAD" else text, error.status, media_type="application/xml")


def _canonical(request: Request, names: list[str]) -> str:
    """The request as it must have been signed, read anew from what came over the wire."""
    query = parse_qsl(request.url.query, keep_blank_values=True)
    pairs = sorted((quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED)) for name, value in query)
    headers = [f"{name}:{' '.join(','.join(request.headers.getlist(name)).split())}\n" for name in names]
    return "\n".join(
        [
            request.method,
            quote(unquote(_raw_path(request)), safe=f"/{_UNRESERVED}"),
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(headers),
            ";".join(names),
            request.headers["x-amz-content-sha256"],
        ]
    )


def _must_be_signed(name: str) -> bool:
    return name.startswith("x-amz-")


def _raw_path(request: Request) -> str:
    raw: bytes = request.scope["raw_path"]
    return raw.decode("ascii").partition("?")[0]


def _said(stored: StoredObject) -> dict[str, str]:
    digest = hashlib.md5(stored.file.content, usedforsecurity=False).hexdigest()
    version = {"x-amz-version-id": stored.version} if stored.version else {}
    return {"etag": f'"{digest}"', **version}
