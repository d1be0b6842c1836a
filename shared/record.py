"""The spool file: the prescribed names live here and nowhere else.

    {"timestamp": "2026-11-21T20:31:05.123456-03:00", "originalPayload": {"envelopeId": 155, ...},
     "envelopeId": "155", "action": "COMPLETED", "provider": 1, "receipt": {...}}

`originalPayload` comes second and is the body byte for byte when that is JSON, so a reader finds it again
exactly. Everything of ours stands under `receipt`; a file without it, written by hand or by the vendor's own
product, is as good.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared import jsontext
from shared.body import Encoding
from shared.events import Origin, Trust

_ID_FIELDS = ("envelopeId", "documentId", "documentID")
_quoted = json.encoder.encode_basestring_ascii
"""A text as JSON, the way `json.dumps` writes it."""
_SPACE = re.compile(r"[ \t\r\n]*")
_SEAM = ",\n "
_OUR_HEAD = re.compile(r'\{"timestamp": "(?P<timestamp>[^"\\\x00-\x1f]*)", "originalPayload": ')


# These two are not frozen, as our other values are: one of each is built for every callback, and freezing
# makes that take three times as long.
@dataclass(slots=True)
class Receipt:
    """What we noted when the callback came; never changed.

    `sha256` and `size_bytes` are of the body. `refusal` stands in copies of refused callbacks only,
    `judged_again` in callbacks that were refused first: when they were let in, and what the refusal said.
    """

    id: str
    provider_name: str
    encoding: Encoding
    sha256: str
    size_bytes: int
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    remote_address: str = ""
    trust: Trust = Trust.OPEN
    key_id: str | None = None
    origin: Origin = Origin.CALLBACK
    refusal: dict[str, Any] | None = None
    judged_again: dict[str, Any] | None = None

    def to_json(self) -> str:
        """The JSON text under `receipt`, in the form that `json.dumps` gives it."""
        rest = "" if self.refusal is None else f', "refusal": {json.dumps(self.refusal)}'
        if self.judged_again is not None:
            rest += f', "judgedAgain": {json.dumps(self.judged_again)}'
        headers = json.dumps(self.headers) if self.headers else "{}"
        query = json.dumps(self.query) if self.query else "{}"
        return (
            f'{{"id": {_quoted(self.id)}, "providerName": {_quoted(self.provider_name)}, '
            f'"encoding": "{self.encoding}", "sha256": {_quoted(self.sha256)}, "bytes": {self.size_bytes}, '
            f'"contentType": {_quoted(self.content_type)}, "headers": {headers}, "query": {query}, '
            f'"remoteAddress": {_quoted(self.remote_address)}, "trust": "{self.trust}", '
            f'"keyId": {"null" if self.key_id is None else _quoted(self.key_id)}, '
            f'"origin": "{self.origin}"{rest}}}'
        )


@dataclass(slots=True)
class SpoolRecord:
    """The content of one spool file; never changed.

    `received_at` is aware, with the spool's offset. `provider_number` is None only in a file written by hand
    that names no provider. `receipt` is None for a file that we did not write.
    """

    received_at: datetime
    document_id: str
    action: str
    provider_number: int | None
    payload: bytes
    id_field: str = "envelopeId"
    receipt: Receipt | None = None

    def to_bytes(self) -> bytes:
        """The file's content.

        Raises:
            ValueError: there is no receipt; only files of ours are written.
        """
        if self.receipt is None:
            raise ValueError("a record without a receipt is only read, never written")
        # Piece by piece, since this is done for every callback and takes a third of the time of `json.dumps`.
        timestamp = self.received_at.isoformat(timespec="microseconds")
        number = "null" if self.provider_number is None else self.provider_number
        head = f'{{"timestamp": "{timestamp}", "originalPayload": '
        tail = (
            f'{_SEAM}"{self.id_field}": {_quoted(self.document_id)}, "action": {_quoted(self.action)}, '
            f'"provider": {number}, "receipt": {self.receipt.to_json()}}}\n'
        )
        payload = self._payload_json(self.receipt.encoding)
        return b"".join((head.encode(), payload, tail.encode()))

    def _payload_json(self, encoding: Encoding) -> bytes:
        if encoding is Encoding.JSON:
            return self.payload
        if encoding is Encoding.TEXT:
            return json.dumps(self.payload.decode("utf-8")).encode()
        return json.dumps(base64.b64encode(self.payload).decode("ascii")).encode()


def digest_of(payload: bytes) -> str:
    """The SHA-256 of a body, in hex."""
    return hashlib.sha256(payload).hexdigest()


def parse_record(data: bytes) -> SpoolRecord:
    """Read a spool file, ours or a stranger's with the prescribed names alone.

    Raises:
        ValueError: not such a file; the message says what is missing or wrong.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8") from None
    jsontext.check_depth(text, jsontext.MAX_DEPTH + 1)
    values, spans = _as_we_write_it(text) or _top_level(text)
    receipt = _receipt(values.get("receipt"))
    # The copy of a refused callback may lack what a callback must have.
    may_lack = receipt is not None and receipt.refusal is not None
    id_field = next((name for name in _ID_FIELDS if name in values), None)
    missing = [name for name in ("timestamp", "originalPayload", "action") if name not in values]
    if id_field is None:
        missing.append("envelopeId (or documentId)")
    if id_field is None or missing:
        raise ValueError(f"{', '.join(missing)} missing")
    return SpoolRecord(
        received_at=_instant(values.get("timestamp")),
        document_id=_text(values[id_field], id_field, may_be_empty=may_lack),
        action=_text(values.get("action"), "action", may_be_empty=may_lack),
        provider_number=_number(values.get("provider")),
        payload=_payload(text, values, spans, receipt),
        id_field=id_field,
        receipt=receipt,
    )


def _as_we_write_it(text: str) -> tuple[dict[str, Any], dict[str, tuple[int, int]]] | None:
    """The same as `_top_level` at a fraction of its cost, for a file as `to_bytes` makes it; else None."""
    head = _OUR_HEAD.match(text)
    if head is None:
        return None
    start = head.end()
    try:
        payload, end = jsontext.raw_decode(text, start)
        if not text.startswith(_SEAM, end):
            return None
        tail = "{" + text[end + len(_SEAM) :]
        rest, last = jsontext.raw_decode(tail, 0)
    except ValueError:
        return None
    if tail[last:].strip() or "timestamp" in rest or "originalPayload" in rest:
        return None
    values = {"timestamp": head["timestamp"], "originalPayload": payload, **rest}
    return values, {"originalPayload": (start, end)}


def _top_level(text: str) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """The members of the object that the text is, and where each value stands in it."""
    values: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    place = _expect(text, 0, "{")
    while True:
        if not text.startswith('"', place):
            raise ValueError("a JSON object is needed")
        name, place = jsontext.raw_decode(text, place)
        place = _expect(text, place, ":")
        value, end = jsontext.raw_decode(text, place)
        values[name], spans[name] = value, (place, end)
        place = _SPACE.match(text, end).end()  # type: ignore[union-attr]  # it matches anywhere
        if text.startswith("}", place):
            break
        place = _expect(text, place, ",")
    if text[place + 1 :].strip():
        raise ValueError("there is more behind the JSON object")
    return values, spans


def _expect(text: str, place: int, char: str) -> int:
    """Where the next token starts behind an expected character."""
    place = _SPACE.match(text, place).end()  # type: ignore[union-attr]  # it matches anywhere
    if not text.startswith(char, place):
        raise ValueError(f"not a JSON object: {char!r} is missing at character {place}")
    return _SPACE.match(text, place + 1).end()  # type: ignore[union-attr]


def _payload(
    text: str, values: dict[str, Any], spans: dict[str, tuple[int, int]], receipt: Receipt | None
) -> bytes:
    value = values["originalPayload"]
    encoding = receipt.encoding if receipt else Encoding.JSON
    if isinstance(value, str) and not isinstance(value, jsontext.Number):
        if encoding is Encoding.BASE64:
            try:
                return base64.b64decode(value, validate=True)
            except binascii.Error:
                raise ValueError("originalPayload is not base64, although the receipt says so") from None
        # A text is the body itself in our files, and in a file by hand the most likely meaning too.
        if encoding is Encoding.TEXT or receipt is None:
            return value.encode("utf-8", "surrogatepass")
    start, end = spans["originalPayload"]
    payload = text[start:end].encode("utf-8")
    if receipt is not None and len(payload) != receipt.size_bytes:
        return _with_space(text, start, end, receipt) or payload
    return payload


def _with_space(text: str, start: int, end: int, receipt: Receipt) -> bytes | None:
    """The body with the white space that stood around its JSON; None when somebody edited the file."""
    before = text.rindex(":", 0, start)
    # `to_bytes` puts one space before the body and none behind it.
    body = text[before + 2 : _SPACE.match(text, end).end()].encode("utf-8")  # type: ignore[union-attr]
    return body if digest_of(body) == receipt.sha256 else None


def _receipt(value: object) -> Receipt | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"receipt must be an object, this is {jsontext.kind_of(value)}")
    try:
        return Receipt(
            id=_text(value.get("id"), "receipt.id"),
            provider_name=_text(value.get("providerName"), "receipt.providerName"),
            encoding=Encoding(value.get("encoding", Encoding.JSON)),
            sha256=str(value.get("sha256", "")),
            size_bytes=int(value.get("bytes", 0)),
            content_type=str(value.get("contentType", "")),
            headers=_texts(value.get("headers")),
            query=_texts(value.get("query")),
            remote_address=str(value.get("remoteAddress", "")),
            trust=Trust(value.get("trust", Trust.OPEN)),
            key_id=value.get("keyId"),
            origin=Origin(value.get("origin", Origin.CALLBACK)),
            refusal=_remark(value.get("refusal")),
            judged_again=_remark(value.get("judgedAgain")),
        )
    except TypeError as error:
        raise ValueError(f"receipt is damaged: {error}") from None


def _remark(value: object) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    return {
        name: int(part) if isinstance(part, jsontext.WholeNumber) else part for name, part in value.items()
    }


def _texts(value: object) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}


def _text(value: object, name: str, *, may_be_empty: bool = False) -> str:
    """A text, or a whole number as it was written, since people write `"envelopeId": 155`."""
    if value is None:
        raise ValueError(f"{name} is missing")
    if isinstance(value, str) and (type(value) is str or isinstance(value, jsontext.WholeNumber)):
        if value.strip() or may_be_empty:
            return str(value)
        raise ValueError(f"{name} is empty")
    raise ValueError(f"{name} must be a text or a whole number, this is {jsontext.kind_of(value)}")


def _number(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    raise ValueError("provider must be a whole number: 0 Certisign, 1 S-SIGN")


def _instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("timestamp is missing")
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("timestamp must look like 2026-11-21T20:31:05-03:00") from None
    # A time without an offset, as a person writes it, is local time.
    return instant.astimezone() if instant.tzinfo is None else instant
