"""A web service as destination: one request a file, with an idempotency key."""

from __future__ import annotations

import re

from processor.destinations import _answers, _body
from processor.destinations._base import Destination, Parcel, Sending
from processor.destinations._values import Values, header_value
from processor.outside import Outside
from processor.pieces import expect_file
from shared.errors import NoAnswerError
from shared.providers._base import Answer
from shared.settings.destinations import HttpSettings


class HttpDestination(Destination):
    """Sends each file to an address made from a template.

    Header values are percent-encoded UTF-8 where they are not ASCII.
    """

    def __init__(self, name: str, settings: HttpSettings, outside: Outside) -> None:
        self.name = name
        self.repeatable = settings.repeatable
        self.kinds = frozenset(settings.kinds)
        self._settings = settings
        self._outside = outside

    def why_unusable(self) -> str | None:
        return self._outside.why_unusable()

    async def deliver(self, parcel: Parcel, sending: Sending) -> str:
        settings = self._settings
        token = settings.token.get_secret_value() if settings.token else ""
        values = Values.of_parcel(parcel, token=token)
        values.require(settings.url, settings.headers, settings.fields)
        url = values.url(settings.url)
        body = self._make_body(parcel, values)
        headers = self._headers(parcel, values, body, token)
        await expect_file(parcel)
        await sending()
        answer = await self._outside.send(settings.method, url, headers=headers, content=body.content)
        _answers.expect_taken(
            answer,
            f"the upload to {self.name}",
            secrets=(token,),
            # With a key, 409 stands for a first request that is still in work.
            conflict_passes=bool(settings.idempotency_header),
        )
        if answer.status == 200 and _answers.is_page(answer):
            # With 201 some file servers answer in HTML; a 200 with a page is a login or a notice.
            raise NoAnswerError(
                f"the upload to {self.name} was answered with a web page: check url, and whether it arrived"
            )
        return _reference(answer)

    def _make_body(self, parcel: Parcel, values: Values) -> _body.Body:
        if self._settings.body == "raw":
            return _body.raw_body(parcel)
        fields = values.nested(self._settings.fields)
        return _body.multipart_body(fields, parcel, file_part=self._settings.file_part)

    def _headers(
        self, parcel: Parcel, values: Values, body: _body.Body, token: str
    ) -> dict[str, str | bytes]:
        settings = self._settings
        headers: dict[str, str | bytes] = {
            "Content-Type": header_value("Content-Type", body.media_type, "percent"),
            "Content-Length": str(body.size_bytes),
        }
        if settings.idempotency_header:
            headers[settings.idempotency_header] = header_value(
                settings.idempotency_header, parcel.idempotency_key, "percent"
            )
        if token and settings.authorization_scheme:
            headers["Authorization"] = f"{settings.authorization_scheme} {token}"
        own = values.headers(settings.headers, "percent")
        replaced = {name.lower() for name in own}
        kept = {name: value for name, value in headers.items() if name.lower() not in replaced}
        return {**kept, **own}

    async def aclose(self) -> None:
        await self._outside.aclose()


def _reference(answer: Answer) -> str:
    """Where the file lies now: the Location header without its query, else the `id` of a JSON answer."""
    if location := answer.headers.get("location", ""):
        return _answers.reference_text(re.split("[?#]", location, maxsplit=1)[0])
    return _answers.reference_text((_answers.json_object(answer) or {}).get("id"))
