"""Requests signed with AWS Signature Version 4, as object stores want them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import ReadOnlyCredentials

_ALGORITHM = "AWS4-HMAC-SHA256"
NOTHING_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The digest of no bytes, for requests without a body."""


@dataclass(frozen=True, slots=True, repr=False)
class Account:
    """Whose requests they are, and for the store of which region; an empty session token is none."""

    access_key: str
    secret_key: str
    session_token: str
    region: str


class _Library(NamedTuple):
    auth: type[S3SigV4Auth]
    request: type[AWSRequest]
    credentials: type[ReadOnlyCredentials]


async def signed(
    account: Account,
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    sha256: str,
    now: Callable[[], datetime],
) -> dict[str, str]:
    """The headers together with those that sign all of them, the method, the address and the body.

    The path of the address is signed as it stands, so it must be encoded as it will be sent. `sha256` is the
    body's. A signature holds for a quarter of an hour.
    """
    # Loading takes most of a second, in which everything else goes on.
    library = await asyncio.to_thread(_library)
    instant = now().strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "X-Amz-Date": instant, "X-Amz-Content-SHA256": sha256}
    if account.session_token:
        sent["X-Amz-Security-Token"] = account.session_token
    request = library.request(method=method, url=url, headers=sent)
    # The library's own `add_auth` takes the time from the machine, reads the body once more for a digest that
    # is known, and writes session tokens into the log.
    request.context["timestamp"] = instant
    credentials = library.credentials(account.access_key, account.secret_key, None)
    auth = library.auth(credentials, "s3", account.region)
    names = auth.signed_headers(auth.headers_to_sign(request))
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    credential = auth.scope(request)
    sent["Authorization"] = (
        f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
    )
    return sent


@cache
def _library() -> _Library:
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415  (0.7 s and 10 MiB for those who never need it)
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import ReadOnlyCredentials  # noqa: PLC0415

    return _Library(S3SigV4Auth, AWSRequest, ReadOnlyCredentials)
