"""The spool file, written and read."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.body import Encoding, decode
from shared.events import Trust
from shared.jsontext import MAX_DEPTH
from shared.record import Receipt, SpoolRecord, digest_of, parse_record

RECEIVED_AT = datetime(2026, 11, 21, 20, 31, 5, 123456, tzinfo=timezone(timedelta(hours=-3)))

space = st.text(" \t\r\n", max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def make_record(body: bytes, content_type: str = "", **changes: Any) -> SpoolRecord:
    """A record as the door makes it."""
    receipt = Receipt(
        id="01906f3e-0000-7000-8000-0123456789ab",
        provider_name="ssign",
        encoding=decode(body, content_type).encoding,
        sha256=digest_of(body),
        size_bytes=len(body),
        content_type=content_type,
        headers={"user-agent": "é"},
        query={"tenant": "a"},
        remote_address="192.0.2.7",
        trust=Trust.PROVEN,
        key_id="2026-10",
    )
    record = SpoolRecord(RECEIVED_AT, "155", "COMPLETED", 1, body, receipt=receipt)
    return replace(record, **changes)


@given(values, space, space, st.booleans())
def test_any_json_body_stands_in_the_file_byte_for_byte_and_comes_back(
    value: object, before: str, behind: str, plain: bool
) -> None:
    """White space around it included."""
    body = (before + json.dumps(value, ensure_ascii=plain) + behind).encode("utf-8", "surrogatepass")
    record = make_record(body)
    content = record.to_bytes()
    assert body in content
    assert parse_record(content) == record


@given(st.binary(max_size=200))
def test_any_other_body_comes_back_too(body: bytes) -> None:
    record = make_record(body)
    content = record.to_bytes()
    json.loads(content)
    assert parse_record(content) == record


@given(st.text(), st.text(), st.sampled_from(["envelopeId", "documentId"]))
def test_any_id_and_action_come_back(document_id: str, action: str, id_field: str) -> None:
    """Ids that are empty are what `callback_id` refuses."""
    record = make_record(b"{}", document_id=f"1{document_id}", action=f"A{action}", id_field=id_field)
    assert parse_record(record.to_bytes()) == record


@pytest.mark.parametrize("number", ["9007199254740993", "123456789012345678901234567890", "-0", "0"])
def test_a_number_as_id_is_exact_in_a_file_by_hand(number: str) -> None:
    content = (
        f'{{"timestamp": "2026-11-21T20:31:05-03:00", "originalPayload": {{"envelopeId": {number}}}, '
        f'"envelopeId": {number}, "action": "A", "provider": 1}}'
    )
    record = parse_record(content.encode())
    assert record.document_id == number
    assert record.payload == f'{{"envelopeId": {number}}}'.encode()


def test_the_prescribed_names_and_their_order() -> None:
    """People read these files, and the vendor's product prescribes the names."""
    value = json.loads(make_record(b'{"envelopeId": 155}').to_bytes())
    assert list(value) == ["timestamp", "originalPayload", "envelopeId", "action", "provider", "receipt"]
    assert value["timestamp"] == "2026-11-21T20:31:05.123456-03:00"
    assert value["originalPayload"] == {"envelopeId": 155}
    assert list(value["receipt"]) == [
        "id", "providerName", "encoding", "sha256", "bytes", "contentType", "headers", "query",
        "remoteAddress", "trust", "keyId", "origin",
    ]  # fmt: skip


def test_text_and_bytes_are_kept_as_json_texts() -> None:
    text = json.loads(make_record(b"\xef\xbb\xbf{}").to_bytes())
    raw = json.loads(make_record(b"\xe9").to_bytes())
    assert (text["receipt"]["encoding"], text["originalPayload"]) == ("text", "\ufeff{}")
    assert (raw["receipt"]["encoding"], base64.b64decode(raw["originalPayload"])) == ("base64", b"\xe9")


def test_the_deepest_body_that_the_door_accepts_can_be_read_again() -> None:
    body = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    record = make_record(body)
    assert record.receipt is not None
    assert record.receipt.encoding is Encoding.JSON
    assert parse_record(record.to_bytes()).payload == body


def test_a_file_with_the_prescribed_names_alone() -> None:
    """As the vendor's own product writes it."""
    record = parse_record(
        b'{"timestamp": "2026-11-21T20:31:05.5Z", "originalPayload": {"a": [1, 2.50]}, "documentId": "9", '
        b'"action": "FLOW", "provider": 0}'
    )
    assert record == SpoolRecord(
        datetime(2026, 11, 21, 20, 31, 5, 500000, tzinfo=UTC),
        "9",
        "FLOW",
        0,
        b'{"a": [1, 2.50]}',
        "documentId",
    )


def test_a_body_that_somebody_mended_in_the_file_counts_as_it_stands() -> None:
    """Its digest no longer fits, and its white space belongs to the editor."""
    content = make_record(b' {"envelopeId": 155} ').to_bytes().replace(b"155}", b"156 }")
    assert parse_record(content).payload == b'{"envelopeId": 156 }'


def test_a_copy_of_a_refused_callback_may_lack_id_and_action() -> None:
    """And its refusal comes back as it was, numbers as numbers."""
    refusal = {"status": 422, "title": "Unusable body", "detail": "envelopeId is missing", "truncated": True}
    record = make_record(b"{}", document_id="", action="")
    assert record.receipt is not None
    refused = replace(record, receipt=replace(record.receipt, trust=Trust.REFUSED, refusal=refusal))
    assert parse_record(refused.to_bytes()) == refused
    with pytest.raises(ValueError, match="envelopeId is empty"):
        parse_record(record.to_bytes())


def test_a_record_without_a_receipt_is_never_written() -> None:
    with pytest.raises(ValueError, match="receipt"):
        make_record(b"{}", receipt=None).to_bytes()


GOOD = {
    "timestamp": "2026-11-21T20:31:05-03:00",
    "originalPayload": {},
    "envelopeId": "1",
    "action": "A",
    "provider": 1,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"envelopeId": None}, "envelopeId is missing"),
        ({"envelopeId": ""}, "envelopeId is empty"),
        ({"envelopeId": 1.5}, "envelopeId must be a text or a whole number"),
        ({"envelopeId": {}}, "an object"),
        ({"action": None}, "action is missing"),
        ({"timestamp": 5}, "timestamp must look like"),
        ({"timestamp": "yesterday"}, "timestamp must look like"),
        ({"timestamp": None}, "timestamp is missing"),
        ({"provider": "S-SIGN"}, "provider must be a whole number"),
        ({"provider": -1}, "provider must be a whole number"),
        ({"receipt": []}, "receipt must be an object"),
        ({"receipt": {}}, "receipt.id is missing"),
        ({"receipt": {"id": "1", "providerName": "x", "encoding": "zip"}}, "zip"),
        ({"receipt": {"id": "1", "providerName": "x", "bytes": []}}, "receipt is damaged"),
        (
            {"receipt": {"id": "1", "providerName": "x", "encoding": "base64"}, "originalPayload": "?"},
            "not base64",
        ),
    ],
)
def test_a_damaged_file_says_what_is_wrong(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_record(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("name", sorted(GOOD.keys() - {"provider"}))
def test_a_file_that_lacks_a_prescribed_name(name: str) -> None:
    content = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ValueError, match=f"{name}.* missing"):
        parse_record(json.dumps(content).encode())


@given(st.binary(max_size=60) | st.text('{}[]":, 1', max_size=60).map(str.encode))
def test_whatever_lies_in_the_folder_is_read_or_refused(content: bytes) -> None:
    """A ValueError is a verdict; anything else would stop the daemon."""
    with pytest.raises(ValueError):  # noqa: PT011  (none of these is a record, and each has its own words)
        parse_record(content)


@pytest.mark.parametrize("again", ['"originalPayload": {"a": 2}', '"timestamp": "2026-11-22T08:00:00+00:00"'])
def test_of_a_name_that_stands_twice_the_last_one_counts(again: str) -> None:
    """Also in a file that begins as ours do."""
    record = make_record(b'{"a": 1}')
    mended = parse_record(record.to_bytes().decode().rstrip()[:-1].encode() + f", {again}}}".encode())
    assert (mended.payload == b'{"a": 2}') is ("originalPayload" in again)
    assert (mended.received_at == record.received_at) is ("originalPayload" in again)


@pytest.mark.parametrize("behind", ["x", "}", '{"a": 1}', ","])
def test_nothing_may_stand_behind_the_object(behind: str) -> None:
    with pytest.raises(ValueError, match="more behind"):
        parse_record(make_record(b'{"a": 1}').to_bytes() + behind.encode())
