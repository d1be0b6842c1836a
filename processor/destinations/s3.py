"""An object store that speaks S3 as destination: one signed PUT a file, with the digest that it must have."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterable, Mapping
from pathlib import PurePosixPath
from urllib.parse import quote

from processor.destinations import _answers, _body, _s3_answers, _sigv4
from processor.destinations._base import Destination, Parcel, Sending
from processor.destinations._names import fitting, safe_part, with_digest
from processor.destinations._values import Values, header_value
from processor.outside import MIB, Outside
from processor.pieces import expect_file
from shared import template
from shared.clock import Clock
from shared.errors import PermanentError, TransientError
from shared.providers._base import Answer
from shared.settings.s3 import S3Settings

_LONGEST_KEY_BYTES = 1000
"""S3 has 1024; a piece of a digest may come to it."""
_SHA256 = "x-amz-meta-sha256"


class S3Destination(Destination):
    """Puts each file under its key. The store compares what arrives with the digest and refuses what differs.

    The same key gets the same content, so that it may be put again. Unless it may write over, a second
    content for the same key is stored beside the first, with a piece of its digest in the name.
    """

    repeatable = True

    def __init__(self, name: str, settings: S3Settings, outside: Outside, clock: Clock) -> None:
        self.name = name
        self.kinds = frozenset(settings.kinds)
        self._settings = settings
        self._outside = outside
        self._clock = clock
        token = settings.session_token
        self._account = _sigv4.Account(
            access_key=settings.access_key.get_secret_value(),
            secret_key=settings.secret_key.get_secret_value(),
            session_token=token.get_secret_value() if token else "",
            region=settings.region,
        )
        account = self._account
        self._secrets = (account.access_key, account.secret_key, account.session_token)

    def why_unusable(self) -> str | None:
        return self._outside.why_unusable()

    async def deliver(self, parcel: Parcel, sending: Sending) -> str:
        values = Values.of_parcel(parcel)
        values.require(self._settings.key)
        key = object_key(self._settings.key, values)
        await expect_file(parcel)
        await sending()
        for place in (key, str(with_digest(PurePosixPath(key), parcel.sha256))):
            answer = await self._send(
                "PUT", place, self._headers(parcel), parcel.sha256, _body.raw_body(parcel)
            )
            if answer.status != 412 or self._settings.overwrite:
                what = f"the upload to {self.name}"
                _s3_answers.expect_stored(answer, what, url=self._settings.bucket_url, secrets=self._secrets)
                return _reference(place, answer)
            if (held := await self._held(place, parcel)) is not None:
                return _reference(place, held)
        raise PermanentError(
            f"other objects have the key {key} at {self.name}, and the same with a digest: find out who puts "
            "there, and move them away"
        )

    async def aclose(self) -> None:
        await self._outside.aclose()

    async def _held(self, key: str, parcel: Parcel) -> Answer | None:
        """What the store says of the object that has the key already; None when it is not this file.

        Raises:
            TransientError: it is gone again.
        """
        what = f"the question to {self.name} what has the key already"
        answer = await self._send("HEAD", key, {}, _sigv4.NOTHING_SHA256)
        if answer.status == 404:
            raise TransientError(f"{what} was answered with 404: it is put once more")
        _s3_answers.expect_success(answer, what, url=self._settings.bucket_url, secrets=self._secrets)
        same_size = answer.headers.get("content-length") == str(parcel.size_bytes)
        return answer if same_size and answer.headers.get(_SHA256) == parcel.sha256 else None

    def _headers(self, parcel: Parcel) -> dict[str, str]:
        settings = self._settings
        checksum = base64.b64encode(bytes.fromhex(parcel.sha256)).decode("ascii")
        headers = {
            "Content-Type": _ascii("Content-Type", parcel.media_type) or "application/octet-stream",
            "x-amz-checksum-sha256": checksum if settings.checksum else "",
            _SHA256: parcel.sha256,
            "x-amz-meta-idempotency-key": _ascii("idempotency key", parcel.idempotency_key),
            "x-amz-storage-class": settings.storage_class or "",
            "x-amz-server-side-encryption": settings.server_side_encryption or "",
            "x-amz-server-side-encryption-aws-kms-key-id": settings.kms_key_id or "",
            "If-None-Match": "" if settings.overwrite else "*",
        }
        return {name: value for name, value in headers.items() if value}

    async def _send(
        self, method: str, key: str, headers: Mapping[str, str], sha256: str, body: _body.Body | None = None
    ) -> Answer:
        url = f"{self._settings.bucket_url}/{quote(key, safe='/')}"
        signed = await _sigv4.signed(self._account, method, url, headers, sha256=sha256, now=self._clock.now)
        content: bytes | AsyncIterable[bytes] | None = None
        if body is not None:
            # Not signed: proxies may send a body on in another framing.
            signed["Content-Length"] = str(body.size_bytes)
            content = body.content
        # A redirect is not followed either, but read: a store says with one which region the bucket is in.
        async with self._outside.stream(method, url, headers=signed, content=content, redirects=True) as came:
            said = await came.read(MIB) if came.is_success else await came.beginning()
            return Answer(came.status, came.headers, said)


def object_key(text: str, values: Values) -> str:
    """The key that a template gives, as text: nothing in it is encoded for an address yet.

    Values make no folders of their own and leave none; their parts are as those that files of the kind
    `folder` have.

    Raises:
        PermanentError: a part is empty, or the key too long.
    """
    rendered = template.parse(text).render(values.lookup, escape=safe_part)
    parts = rendered.split("/")
    if not all(parts):
        raise PermanentError(
            f"the key template {text!r} gives {rendered!r}, of which a part is empty: correct it"
        )
    key = "/".join(map(fitting, parts))
    if len(key.encode("utf-8")) > _LONGEST_KEY_BYTES:
        raise PermanentError(
            f"the key template {text!r} gives more than {_LONGEST_KEY_BYTES} bytes: shorten it"
        )
    return key


def _ascii(name: str, text: str) -> str:
    return header_value(name, text, "percent").decode("ascii")


def _reference(key: str, answer: Answer) -> str:
    """The key, and the version where the bucket keeps several."""
    version = _answers.reference_text(answer.headers.get("x-amz-version-id"))
    return f"{key}?versionId={version}" if version else key
