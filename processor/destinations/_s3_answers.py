"""What the answers of an object store mean: its error codes, in our words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lxml import etree

from processor.destinations import _answers
from processor.outside import redirect_target
from shared.errors import AccessError, NoAnswerError, TransientError
from shared.providers._base import Answer, retry_after_seconds
from shared.xmltext import parse_xml

_CODE = re.compile(r"[A-Za-z0-9.:]{1,64}")
_REGION = re.compile(r"[a-z0-9-]{1,40}")

_RIGHTS = "give this key the right to put objects there, and without overwrite to read them"
_REGION_IS_WRONG = "correct region, or the endpoint"
_KMS = "correct kms_key_id, or the rights of this key to it"

_SETTINGS: Mapping[str, str] = {
    "AccessDenied": _RIGHTS,
    "AccountProblem": "look what is wrong with the account",
    "AllAccessDisabled": "look what is wrong with the account",
    "AuthorizationHeaderMalformed": _REGION_IS_WRONG,
    "ExpiredToken": "renew access_key, secret_key and session_token",
    "IllegalLocationConstraintException": _REGION_IS_WRONG,
    "InvalidAccessKeyId": "correct access_key",
    "InvalidBucketName": "correct bucket",
    "InvalidClientTokenId": "correct access_key",
    "InvalidStorageClass": "correct storage_class",
    "InvalidToken": "renew access_key, secret_key and session_token",
    "MethodNotAllowed": "correct endpoint, which is not that of an object store",
    "NoSuchBucket": "make the bucket, or correct bucket, endpoint or path_style",
    "NotImplemented": "it lacks something that is asked of it: set overwrite = true where it knows no "
    "If-None-Match, checksum = false where it knows none, or remove storage_class or server_side_encryption",
    "NotSignedUp": "look what is wrong with the account",
    "PermanentRedirect": _REGION_IS_WRONG,
    "RequestTimeTooSkewed": "set the clock of this machine",
    "SignatureDoesNotMatch": "correct secret_key; a proxy that changes Host or the path does this, too",
    "TokenRefreshRequired": "renew access_key, secret_key and session_token",
}
"""What holds for whatever is sent, so that no document is to blame: what to do about each."""

_LATER = frozenset(
    {
        "ConditionalRequestConflict",
        "OperationAborted",
        "QuotaExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "TemporaryRedirect",
        "Throttling",
        "TooManyRequests",
        "XMinioAdminBucketQuotaExceeded",
    }
)
"""What says that nothing was stored, and that it may be later."""

_DAMAGED = frozenset(
    {"BadDigest", "IncompleteBody", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
)
"""What says that the file did not arrive as it was sent."""


@dataclass(frozen=True, slots=True)
class _Complaint:
    """What an answer says of an error; each is empty where it does not say."""

    code: str = ""
    message: str = ""
    region: str = ""


def expect_success(answer: Answer, what: str, *, url: str, secrets: Iterable[str] = ()) -> None:
    """Return when the answer is a success, else raise what it means.

    `what` begins the message, `url` is the bucket's. `secrets` are blotted out should the other side have
    repeated one.

    Raises:
        AccessError: key, rights, bucket or region are wrong, or our clock: whatever is sent fails alike.
        TransientError: nothing was stored, and trying again may help.
        NoAnswerError: it may have been stored.
        PermanentError: this object will never be taken.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    complaint = _complaint(answer)
    said = f"{what} was answered with {status} {complaint.code}".rstrip()
    if complaint.region:
        said += f", the bucket is in the region {complaint.region}"
    advice = _KMS if complaint.code.startswith("KMS.") else _SETTINGS.get(complaint.code)
    if advice is not None:
        raise AccessError(f"{said}: {advice}")
    if complaint.code in _DAMAGED:
        raise TransientError(f"{said}: the file was damaged on its way, and not stored")
    if complaint.code in _LATER or status == 409:
        raise TransientError(said, retry_after_seconds=retry_after_seconds(answer.headers))
    if status in (404, 405) and not complaint.code:
        raise AccessError(f"{said}, and not as by an object store: correct endpoint or bucket")
    if status in (401, 403):
        raise AccessError(f"{said}: correct access_key and secret_key, or {_RIGHTS}")
    if 300 <= status < 400:
        if complaint.region:
            raise AccessError(f"{said}: {_REGION_IS_WRONG}")
        target = redirect_target(url, answer.headers)
        raise TransientError(
            f"{said}, a redirect to {target}, which is not followed: check endpoint and region"
        )
    words = f"{complaint.code}: {complaint.message}".encode() if complaint.code else answer.body
    _answers.expect_taken(replace(answer, body=words), what, secrets=secrets)


def expect_stored(answer: Answer, what: str, *, url: str, secrets: Iterable[str] = ()) -> None:
    """Return when the answer to an upload is that of a store which has the object.

    Raises:
        NoAnswerError: a success by its status, but not what a store answers to one.
    """
    expect_success(answer, what, url=url, secrets=secrets)
    if not answer.headers.get("etag"):
        how = "with a web page" if _answers.is_page(answer) else f"with {answer.status}"
        raise NoAnswerError(f"{what} was answered {how}, but not as an object store does: check endpoint")


def _complaint(answer: Answer) -> _Complaint:
    """The code of an answer that is none of success, and the region that it names."""
    root = _root(answer.body)
    texts = {} if root is None else {etree.QName(child).localname: child.text or "" for child in root}
    code, region = texts.get("Code", ""), answer.headers.get("x-amz-bucket-region") or texts.get("Region", "")
    return _Complaint(
        code if _CODE.fullmatch(code) else "",
        texts.get("Message", ""),
        region if _REGION.fullmatch(region) else "",
    )


def _root(body: bytes) -> etree._Element | None:
    """The element `Error` that a body is; None for anything else, and for XML with a DOCTYPE."""
    try:
        root = parse_xml(body)
    except ValueError:
        return None
    return root if etree.QName(root).localname == "Error" else None
