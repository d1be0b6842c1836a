"""A web service as destination, over real HTTP."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from processor.destinations.http import HttpDestination
from shared.errors import NoAnswerError, NotSentError, PermanentError, TransientError, WaitingError
from shared.settings.destinations import HttpSettings

pytestmark = pytest.mark.anyio

Make = Callable[..., HttpDestination]


@pytest.fixture
def make(receiver: Any, make_outside: Any) -> Make:
    def make(**changes: Any) -> HttpDestination:
        settings = HttpSettings.model_validate({"kind": "http", "url": receiver.url + "/in", **changes})
        return HttpDestination("archive", settings, make_outside("archive", origins=settings.origins))

    return make


async def test_the_file_is_a_form_part_among_fields_and_headers_from_templates(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    dms = {"cdFluxo": "1042", "name": "ação"}
    parcel = make_parcel(b"signed bytes", name='ação "1"\r\n.pdf', dms=dms)
    destination = make(
        url=receiver.url + "/in/${ref.file_ids}?name=${document_id}",
        fields={"flow": "${dms.cdFluxo}", "note": "R$$ ${dms.none|nothing}"},
        headers={"X-Provider": "${provider}", "X-Name": "${dms.name}"},
        token="s3cret",
    )
    await destination.deliver(parcel, mark)
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/in/901?name=155")
    expected = {
        "X-Provider": b"ssign",
        "X-Name": b"a%C3%A7%C3%A3o",
        "Authorization": b"Bearer s3cret",
        "Idempotency-Key": parcel.idempotency_key.encode(),
        "Content-Length": str(request.size_bytes).encode(),
    }
    assert {name: request.header(name) for name in expected} == expected
    boundary = request.header("content-type").partition(b"boundary=")[2]
    assert request.body.split(b"--" + boundary) == [
        b"",
        b'\r\nContent-Disposition: form-data; name="flow"\r\n\r\n1042\r\n',
        b'\r\nContent-Disposition: form-data; name="note"\r\n\r\nR$ nothing\r\n',
        '\r\nContent-Disposition: form-data; name="file"; filename="ação %221%22%0D%0A.pdf"\r\n'.encode()
        + b"Content-Type: application/pdf\r\n\r\nsigned bytes\r\n",
        b"--\r\n",
    ]
    assert mark.seen == [[]]


async def test_a_raw_body_is_the_file_and_its_type(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    await make(method="PUT", body="raw", idempotency_header="X-Key").deliver(make_parcel(b"abc"), mark)
    (request,) = receiver.requests
    assert (request.method, request.body) == ("PUT", b"abc")
    assert request.header("content-type") == b"application/pdf"
    assert request.header("x-key").startswith(b"ssign:155:")
    assert request.header("idempotency-key") is None
    assert request.header("authorization") is None


async def test_an_empty_file_is_delivered(receiver: Any, make: Make, make_parcel: Any, mark: Any) -> None:
    await make(body="raw").deliver(make_parcel(b""), mark)
    assert receiver.requests[0].header("content-length") == b"0"


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (Response(status_code=201, headers={"Location": "/files/7?key=hidden#x"}), "/files/7"),
        (JSONResponse({"id": 12345678901234567890}), "12345678901234567890"),
        (JSONResponse({"id": "a\nb"}), "a b"),
        (JSONResponse({"id": {"no": 1}}), ""),
        (Response("fine"), ""),
        (Response(status_code=204), ""),
    ],
)
async def test_the_reference_is_the_location_or_the_id(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, *, answer: Response, reference: str
) -> None:
    receiver.answer = lambda _request: answer
    assert await make().deliver(make_parcel(), mark) == reference


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, PermanentError) for status in (400, 404, 410, 413, 415, 422)),
        *((status, TransientError) for status in (301, 307, 308, 401, 403, 408, 409, 425, 429, 503)),
        *((status, NoAnswerError) for status in (302, 303, 500, 502, 504)),
    ],
)
async def test_each_status_says_whether_the_file_arrived(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, *, status: int, expected: type[Exception]
) -> None:
    receiver.answer = lambda _request: Response(status_code=status)
    with pytest.raises(expected) as caught:
        await make().deliver(make_parcel(), mark)
    assert type(caught.value) is expected


async def test_a_page_for_people_is_no_success_but_words_of_a_file_server_are(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    page = "<!doctype html><title>Login</title>"
    receiver.answer = lambda _request: HTMLResponse(page)
    with pytest.raises(NoAnswerError, match="web page"):
        await make().deliver(make_parcel(), mark)
    receiver.answer = lambda _request: HTMLResponse(page, status_code=201)
    assert await make().deliver(make_parcel(), mark) == ""


async def test_a_conflict_without_an_idempotency_key_is_final(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    receiver.answer = lambda _request: Response("exists", status_code=409)
    with pytest.raises(PermanentError, match="exists"):
        await make(idempotency_header="").deliver(make_parcel(), mark)


async def test_the_token_stays_out_of_the_message(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    receiver.answer = lambda _request: Response("Bearer s3cret is not for you", status_code=400)
    with pytest.raises(PermanentError) as caught:
        await make(token="s3cret").deliver(make_parcel(), mark)
    assert "Bearer *** is not for you" in str(caught.value)


@pytest.mark.parametrize("value", ["..", ".", "a/../../b", "?x=1#y"])
async def test_a_value_cannot_lead_the_address_elsewhere(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, value: str
) -> None:
    destination = make(url=receiver.url + "/in/${document_id}/put")
    parcel = make_parcel(document_id=value)
    if set(value) == {"."}:
        with pytest.raises(PermanentError, match="address"):
            await destination.deliver(parcel, mark)
        assert receiver.requests == []
    else:
        await destination.deliver(parcel, mark)
        (path,) = receiver.paths()
        assert path.startswith("/in/")
        assert path.endswith("/put")
        assert path.count("/") == 3


async def test_what_is_not_registered_is_named(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    with pytest.raises(WaitingError, match=r"--ref folder=VALUE"):
        await make(headers={"X-Folder": "${ref.folder}"}).deliver(make_parcel(), mark)
    assert receiver.requests == []
    assert mark.seen == []


@pytest.mark.parametrize("damage", [b"shorter", b"%PDF-1.7 signed and more", b"%PDF-1.7 signeD"])
async def test_a_file_that_changed_on_our_disk_never_arrives_whole(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, damage: bytes
) -> None:
    parcel = make_parcel(b"%PDF-1.7 signed")
    parcel.path.write_bytes(damage)
    with pytest.raises(TransientError, match="changed"):
        await make(body="raw").deliver(parcel, mark)
    assert receiver.requests == []
    marked = len(damage) == parcel.size_bytes
    assert len(mark.seen) == marked, "another length is found before anything is sent"


async def test_a_receiver_that_is_not_there_was_sent_nothing(
    make: Make, make_parcel: Any, mark: Any, unused_tcp_port_origin: str
) -> None:
    with pytest.raises(NotSentError, match="refused"):
        await make(url=unused_tcp_port_origin + "/in").deliver(make_parcel(), mark)


@pytest.mark.parametrize("body", ["multipart", "raw"])
async def test_a_file_of_50_mb_does_not_pass_through_memory(
    receiver: Any, make: Make, make_parcel: Any, mark: Any, body: str
) -> None:
    receiver.keep_bodies = False
    parcel = make_parcel(b"%PDF" * (50 * 1024 * 1024 // 4))
    destination = make(body=body)
    tracemalloc.start()
    try:
        await destination.deliver(parcel, mark)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert receiver.requests[0].size_bytes >= parcel.size_bytes
    if body == "raw":
        assert receiver.requests[0].sha256 == parcel.sha256
    assert peak_bytes < 6 * 1024 * 1024


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "https://${provider}/in"}, "HOST"),
        ({"url": "https://host${provider}/in"}, "HOST"),
        ({"url": "https://user@host/in"}, "user name"),
        ({"url": "ftp://host/in"}, "http"),
        ({"url": "https://host/${token}"}, "token"),
        ({"url": "https://host/$x"}, r"\$\$"),
        ({"headers": {"X": "${nothing}"}}, "nothing"),
        ({"headers": {"X": "${token}"}}, "token"),
        ({"headers": {"Content-Length": "1"}}, "Content-Length"),
        ({"headers": {"Content-Type": "a/b"}}, "Content-Type"),
        ({"headers": {"X Y": "1"}}, "header name"),
        ({"body": "raw", "fields": {"a": "b"}}, "multipart"),
    ],
)
def test_wrong_settings_are_found_before_anything_is_sent(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HttpSettings.model_validate({"kind": "http", "url": "https://host/in", **settings})


def test_the_origin_is_the_one_of_the_address() -> None:
    settings = HttpSettings.model_validate({"kind": "http", "url": "https://Host.example/in/${document_id}"})
    assert settings.origins == {"https://host.example:443"}
    assert json.loads(settings.model_dump_json())["repeatable"] is True


async def test_a_secret_that_the_receiver_repeats_is_blotted_out_before_its_words_are_cut(
    receiver: Any, make: Make, make_parcel: Any, mark: Any
) -> None:
    """Else its first letters would stand at the end of what is kept of them."""
    secret = "an-even-longer-secret-than-most"
    receiver.answer = lambda _request: Response("x" * 190 + secret, status_code=400)
    with pytest.raises(PermanentError) as caught:
        await make(token=secret).deliver(make_parcel(), mark)
    assert secret[:5] not in str(caught.value)
