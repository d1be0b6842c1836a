"""SmartShare as destination: log in, attach the file to a workflow task or file it, advance the workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from processor.destinations import _answers, _body
from processor.destinations._base import Destination, Parcel, Sending, Step
from processor.destinations._values import Values
from processor.outside import Outside
from processor.pieces import expect_file
from shared.errors import NoAnswerError, PermanentError, TransientError
from shared.events import DocumentStatus
from shared.providers._base import Answer
from shared.settings.destinations import (
    AdvanceCall,
    AttachmentCall,
    DocumentCall,
    LoginCall,
    SmartshareSettings,
)

Call = LoginCall | AttachmentCall | DocumentCall | AdvanceCall


class SmartshareDestination(Destination):
    """One SmartShare installation, and one user of it whose token all deliveries share."""

    def __init__(self, name: str, settings: SmartshareSettings, outside: Outside) -> None:
        self.name = name
        self.repeatable = settings.unknown_upload == "retry"
        self.kinds = frozenset(settings.kinds)
        self._settings = settings
        self._outside = outside
        self._account = {
            "client": settings.client,
            "client_key": settings.client_key.get_secret_value(),
            "user": settings.user,
            "password": settings.password.get_secret_value(),
        }
        self._token = ""
        self._logging_in = asyncio.Lock()

    def why_unusable(self) -> str | None:
        return self._outside.why_unusable()

    async def deliver(self, parcel: Parcel, sending: Sending) -> str:
        attach = self._settings.upload == "attachment"
        call = self._settings.attachment if attach else self._settings.document
        values = Values.of_parcel(parcel, **self._account)
        answer = await self._effect(call, values, sending, "the upload", parcel)
        return _answers.reference_text(answer.get(call.success_field))

    def advances(self, status: DocumentStatus) -> bool:
        return status in self._settings.advance_on

    async def advance(self, step: Step, sending: Sending) -> str:
        call = self._settings.advance
        option = self._settings.advance_on.get(step.subject.status, "")
        values = Values.of_step(step, **self._account, option=option)
        answer = await self._effect(call, values, sending, "the workflow step")
        return _answers.reference_text(answer.get(call.success_field))

    async def aclose(self) -> None:
        await self._outside.aclose()

    async def _effect(
        self, call: Call, values: Values, sending: Sending, what: str, parcel: Parcel | None = None
    ) -> Mapping[str, Any]:
        """Make the call that has an effect; returns the fields of its answer.

        401 means that nothing was done, so the same request goes out again with a new token, once.
        """
        what = f"{what} to {self.name}"
        values.require(call.path, call.headers, {} if call.body == "none" else call.fields)
        if parcel is not None:
            await expect_file(parcel)
        token = await self._valid_token()
        # Made once before it counts, so that a value that cannot be sent is found while nothing was.
        self._request(call, values.plus(token=token), parcel)
        await sending()
        try:
            answer = await self._send(call, values.plus(token=token), parcel)
            if answer.status == 401:
                token = await self._valid_token(refused=token)
                answer = await self._send(call, values.plus(token=token), parcel)
            return self._judged(answer, call, what, token)
        except TransientError:
            # A login does no harm, so after trouble it is the login that finds out whether the other side is
            # well again, and not the next upload, whose outcome could stay unknown.
            self._forget(token)
            raise

    def _judged(self, answer: Answer, call: Call, what: str, token: str = "") -> Mapping[str, Any]:
        """The fields of an answer that is a success in word and status; `token` is the one that was sent.

        Raises:
            NoAnswerError: a success by its status, but not what the API answers to one.
            PermanentError: it says itself that it is an error.
        """
        secrets = (self._account["client_key"], self._account["password"], token)
        _answers.expect_taken(answer, what, secrets=secrets)
        fields = _answers.json_object(answer)
        if fields is None:
            if _answers.is_page(answer):
                raise NoAnswerError(
                    f"{what} was answered with a web page: check base_url, and whether it was done over there"
                )
            fields = {}
        if error := _answers.said_error(fields, self._settings.error_fields, secrets):
            raise PermanentError(f"{what} failed, {error}")
        if call.success_field and not _answers.reference_text(fields.get(call.success_field)):
            raise NoAnswerError(
                f"{what} was answered without {call.success_field}: check whether it was done over there"
            )
        return fields

    async def _valid_token(self, *, refused: str = "") -> str:
        """The token of this user; a new one when there is none yet, or when this one was refused."""
        async with self._logging_in:
            # Whoever waited here finds the token that the first one fetched for all.
            if not self._token or self._token == refused:
                self._token = ""
                self._token = await self._log_in()
            return self._token

    def _forget(self, token: str) -> None:
        if self._token == token:
            self._token = ""

    async def _log_in(self) -> str:
        """Fetch a token.

        Raises:
            TransientError: none was given, for whatever reason: no document is to blame for that.
        """
        call = self._settings.login
        what = f"the login to {self.name}"
        try:
            answer = await self._send(call, Values(self._account), None)
            fields = self._judged(answer, call, what)
        except (NoAnswerError, PermanentError) as error:
            raise TransientError(
                f"{what} failed: check user, password and client in the settings ({error})",
                retry_after_seconds=error.retry_after_seconds if isinstance(error, NoAnswerError) else None,
            ) from error
        token = fields.get(self._settings.token_field)
        if not isinstance(token, str) or not token.strip():
            raise TransientError(
                f"{what} was answered without {self._settings.token_field}: correct token_field, or the path"
            )
        return token

    async def _send(self, call: Call, values: Values, parcel: Parcel | None) -> Answer:
        url, headers, body = self._request(call, values, parcel)
        return await self._outside.send(call.method, url, headers=headers, content=body.content)

    def _request(
        self, call: Call, values: Values, parcel: Parcel | None
    ) -> tuple[str, dict[str, str | bytes], _body.Body]:
        """Address, headers and body of a call."""
        url = str(self._settings.base_url).rstrip("/") + values.url(call.path)
        body = _make_body(call, values, parcel)
        own = values.headers(call.headers, self._settings.header_encoding)
        headers: dict[str, str | bytes] = {"Content-Length": str(body.size_bytes)}
        if body.media_type and "content-type" not in map(str.lower, own):
            headers["Content-Type"] = body.media_type
        return url, {**headers, **own}, body


def _make_body(call: Call, values: Values, parcel: Parcel | None) -> _body.Body:
    if call.body == "none":
        return _body.Body("", b"")
    if call.body == "json":
        marker = _body.new_marker()
        return _body.json_body(values.plus(file_base64=marker).nested(call.fields), parcel, marker=marker)
    fields = values.nested(call.fields)
    if call.body == "form":
        return _body.form_body(fields)
    part = call.file_part if isinstance(call, AttachmentCall | DocumentCall) else ""
    return _body.multipart_body(fields, parcel, file_part=part)
