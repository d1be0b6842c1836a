"""Posten signering: updates in our words, queues that are asked, errors, files, confirmations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.errors import (
    AccessError,
    PermanentError,
    SignspoolError,
    TransientError,
    UnusableBodyError,
    WaitingError,
)
from shared.events import EventType
from shared.providers._base import (
    Answer,
    DocumentView,
    Head,
    Into,
    PollView,
)
from tests.providers.conftest import drive, make_callback, make_file, make_provider
from tests.providers.posten_parts import LATER, NOW, ROOT, XML, answering, body, coded, on, pair


@pytest.fixture
def posten() -> Any:
    return make_provider("posten", sender="123456789", **pair())


def event_of(posten: Any, content: bytes) -> Any:
    callback = make_callback(content)
    [event] = posten.parse(posten.callback_id(callback), callback)
    return event


def polled(posten: Any, answer: Answer, subject: str = "queue/portal/123456789/") -> Any:
    return drive(posten.poll(PollView(subject, {}, NOW)), answering(answer))[1]


# What updates say


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("in-progress", EventType.PROGRESS),
        ("completed", EventType.COMPLETED),
        ("completed.form-of-the-manual", EventType.COMPLETED),
        ("failed.rejected", EventType.DECLINED),
        ("failed.expired", EventType.EXPIRED),
        ("failed.cancelled", EventType.CANCELLED),
        ("failed.blocked", EventType.FAILED),
        ("direct.completed", EventType.COMPLETED),
    ],
)
def test_an_update_means_what_its_status_and_its_signers_say(posten: Any, name: str, kind: EventType) -> None:
    event = event_of(posten, body(name))
    assert event.type is kind
    assert event.confirmation["url"].endswith(f"/{event.document_id}/status/complete")
    assert event.occurred_at == datetime(2026, 11, 21, 20, 31, 5, 713000, tzinfo=UTC)
    assert "01013300001" not in repr(event)


def test_a_job_id_of_64_bits_is_the_document(posten: Any) -> None:
    assert event_of(posten, body("direct.completed")).document_id == "9007199254740993"


def test_each_signers_status_is_kept_under_a_name_without_its_number(posten: Any) -> None:
    learned = event_of(posten, body("in-progress")).learned
    since = " since 2026-11-21T21:31:05.713000+01:00"
    assert learned["signer.010133*****"] == f"SIGNED{since}"
    assert learned["signer.bo@example.com"] == f"WAITING{since}"
    assert learned["signer.bo@example.com 90000000"] == f"WAITING{since}"
    assert learned["job_status"] == "IN_PROGRESS"
    assert learned["reference"] == "2026-0042"


def test_an_unknown_word_for_a_signer_is_kept_and_the_job_decides(posten: Any) -> None:
    event = event_of(posten, body("failed.blocked").replace(b"BLOCKED", b"EATEN_BY_BIRD"))
    assert event.type is EventType.FAILED
    assert event.message == "010133*****: EATEN_BY_BIRD"
    assert event_of(posten, body("completed").replace(b">SIGNED<", b">SEALED<")).type is EventType.COMPLETED


def test_signers_whose_names_look_alike_are_told_apart_whatever_their_order(posten: Any) -> None:
    one, two = b"01013300001", b"01013300002"
    twins = body("failed.rejected").replace(b"<ns4:identifier>", b"").replace(b"</ns4:identifier>", b"")
    twins = twins.replace(b'<ns4:email address="bo@example.com"/>', b"")
    numbered = b"<ns4:personal-identification-number>%b</ns4:personal-identification-number>"
    first, second = twins.split(b"REJECTED</ns4:status>")
    twins = first + b"REJECTED</ns4:status>" + numbered % two + second
    swapped = twins.replace(one, b"@").replace(two, one).replace(b"@", two)
    learned = event_of(posten, twins).learned
    assert learned["signer.010133*****"].startswith("NOT_APPLICABLE")
    assert learned["signer.010133*****#2"].startswith("REJECTED")
    assert event_of(posten, swapped).learned["signer.010133*****"].startswith("REJECTED")
    same = event_of(posten, twins.replace(two, one)).learned
    assert [name for name in same if name.startswith("signer.")] == ["signer.010133*****"]


def test_an_unknown_job_status_is_not_guessed_at_and_can_be_taught(posten: Any) -> None:
    content = body("in-progress").replace(b"IN_PROGRESS", b"FROZEN")
    with pytest.raises(UnusableBodyError, match="teach it under actions"):
        event_of(posten, content)
    taught = make_provider("posten", actions={"frozen": "progress"}, **pair())
    assert event_of(taught, content).type is EventType.PROGRESS


def test_the_same_update_again_says_the_same_and_any_change_something_else(posten: Any) -> None:
    key = event_of(posten, body("in-progress")).key
    assert event_of(posten, body("in-progress").replace(b"ns4", b"p")).key == key
    assert event_of(posten, body("in-progress").replace(b"/pades<", b"/other<")).key == key
    for old, new in ((b">WAITING<", b">BLOCKED<"), (b"05.713", b"06.713"), (b"IN_PROGRESS", b"FAILED")):
        assert event_of(posten, body("in-progress").replace(old, new)).key != key


# What is known goes forward only


def test_what_is_known_goes_forward_whatever_order_updates_come_in(posten: Any) -> None:
    early = event_of(posten, body("in-progress").replace(b"05.713", b"01.000")).learned
    middle = event_of(posten, body("in-progress")).learned
    end = event_of(posten, body("completed").replace(b"05.713", b"09.000")).learned
    in_order = posten.learn(posten.learn(posten.learn({}, early), middle), end)
    for order in ((end, middle, early), (middle, end, early), (end, early, middle), (early, end, end)):
        known: dict[str, str] = {}
        for told in order:
            known = posten.learn(known, told)
        assert known == in_order
    assert "cancellation_url" not in in_order
    assert in_order["signer.bo@example.com"] == "SIGNED since 2026-11-21T21:31:09+01:00"
    assert in_order["job_status"] == "COMPLETED_SUCCESSFULLY"


def test_a_signer_without_a_time_replaces_nothing_but_waiting(posten: Any) -> None:
    name = "signer.a"
    waiting, signed, bare = (
        "WAITING since 2026-01-02T00:00:00+00:00",
        "SIGNED since 2026-01-01T00:00:00+00:00",
        "REJECTED",
    )
    assert posten.learn({name: waiting}, {name: signed})[name] == signed
    assert posten.learn({name: signed}, {name: waiting})[name] == signed
    assert posten.learn({name: signed}, {name: bare})[name] == signed
    assert posten.learn({name: waiting}, {name: bare})[name] == bare
    assert posten.learn({name: bare}, {name: signed})[name] == signed


# Asking


def test_every_queue_is_asked_under_its_own_address() -> None:
    posten = make_provider("posten", sender="123456789", queues=["", "kø 7"], direct_queues=["d"], **pair())
    urls = {}
    for ask in posten.standing_asks():
        [request], _ = drive(posten.poll(PollView(ask.subject, {}, NOW)), answering(Answer(204, XML)))
        urls[ask.subject] = request.url
        assert (request.method, request.headers["Accept"], request.content) == (
            "GET",
            "application/xml",
            None,
        )
    assert list(urls.values()) == [
        f"{ROOT}/portal/signature-jobs",
        f"{ROOT}/portal/signature-jobs?polling_queue=k%C3%B8%207",
        f"{ROOT}/direct/signature-jobs?polling_queue=d",
    ]
    assert len(urls) == 3
    assert make_provider("posten", **pair()).standing_asks() is not None
    assert list(make_provider("posten", **pair()).standing_asks()) == []


def test_a_queue_that_is_in_no_setting_any_more_is_asked_no_more(posten: Any) -> None:
    requests, result = drive(posten.poll(PollView("queue/portal/123456789/old", {}, NOW)), answering())
    assert (requests, result.again_seconds) == ([], None)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (200, {"x-next-permitted-poll-time": "2026-11-22T10:00:00.000+01:00"}, 0),
        (200, {"x-next-permitted-poll-time": "2026-11-22T10:00:00.900+01:00"}, 0),
        (200, {"x-next-permitted-poll-time": "2026-11-22T08:00:00+01:00"}, 0),
        (200, {"x-next-permitted-poll-time": LATER}, 31),
        (200, {}, 0),
        (204, {"x-next-permitted-poll-time": LATER}, 31),
        (204, {"x-next-permitted-poll-time": "2026-11-22T09:00:30Z"}, 31),
        (204, {"x-next-permitted-poll-time": "2026-11-22T09:00:30.123456789Z"}, 31.123456),
        (204, {"x-next-permitted-poll-time": "2026-11-22T10:00:30+01:00[Europe/Oslo]"}, 31),
        (204, {"x-next-permitted-poll-time": "2026-11-22T10:10:00+01:00"}, 601),
        (204, {"x-next-permitted-poll-time": "2026-11-23T10:00:00+01:00"}, 900),
        (204, {"x-next-permitted-poll-time": "2026-11-22T09:59:00+01:00"}, 1),
        (204, {"x-next-permitted-poll-time": "2026-11-22T10:00:30"}, 600),
        (204, {"x-next-permitted-poll-time": "soon"}, 600),
        (204, {"x-next-permitted-poll-time": LATER, "date": "yesterday"}, 600),
        (204, {}, 600),
        (429, {"x-next-permitted-poll-time": LATER}, 31),
        (429, {}, 600),
        (429, {"dosfilter": "unavailable"}, 30),
        (429, {"dosfilter": "x", "x-next-permitted-poll-time": "2026-11-22T10:00:05+01:00"}, 30),
        (429, {"dosfilter": "x", "x-next-permitted-poll-time": "2026-11-22T10:02:00+01:00"}, 121),
    ],
)
def test_the_permitted_time_is_counted_by_the_servers_own_clock(
    posten: Any, status: int, headers: dict[str, str], seconds: float
) -> None:
    answer = Answer(status, {**XML, **headers}, body("completed") if status == 200 else b"")
    found = polled(posten, answer)
    assert found.again_seconds == pytest.approx(seconds)
    assert len(found.found) == (1 if status == 200 else 0)


def test_an_update_is_handed_on_byte_for_byte_whatever_it_is(posten: Any) -> None:
    for content, head in (
        (body("completed"), Head("12087", "COMPLETED_SUCCESSFULLY")),
        (body("completed").replace(b"COMPLETED_SUCCESSFULLY", b"FROZEN"), Head("12087", "FROZEN")),
        (b"<html>not today</html>", Head("unknown", "UNREADABLE")),
        (b"", Head("unknown", "UNREADABLE")),
    ):
        [found] = polled(posten, Answer(200, XML, content)).found
        assert (found.payload, found.head, found.content_type) == (content, head, "application/xml")


def test_what_is_no_message_is_refused_when_it_is_read(posten: Any) -> None:
    with pytest.raises(UnusableBodyError):
        posten.parse(Head("unknown", "UNREADABLE"), make_callback(b"<html/>"))
    # Mended by hand, with its true id and status.
    [event] = posten.parse(Head("7", "FAILED"), make_callback(body("failed.rejected")))
    assert (event.document_id, event.type) == ("7", EventType.DECLINED)


# Errors


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (coded(403, "NOT_AUTHORIZED"), AccessError, "NOT_AUTHORIZED"),
        (coded(400, "BROKER_NOT_AUTHORIZED"), AccessError, "broker is authorised"),
        (Answer(401, {}, b"no"), AccessError, "401"),
        (Answer(403, {}), AccessError, "403 (empty body)"),
        (coded(403, "SOMETHING_NEW"), PermanentError, "SOMETHING_NEW"),
        (coded(400, "SCHEMA_VALIDATION_ERROR"), PermanentError, "SCHEMA_VALIDATION_ERROR"),
        (coded(500, "ASICE_VALIDATION_FAILED"), PermanentError, "ASICE_VALIDATION_FAILED"),
        (coded(503, "SOMETHING_NEW"), TransientError, "503 SOMETHING_NEW"),
        (
            Answer(502, {"content-type": "text/plain"}, b"bad 01013300001"),
            TransientError,
            "(bad ***)",
        ),
        (Answer(500, XML, b"<broken"), TransientError, "(<broken)"),
        (Answer(404, {"content-type": "text/plain"}, b"gone"), PermanentError, "404 (gone)"),
        (Answer(202, XML), TransientError, "202"),
    ],
)
def test_errors_are_judged_by_their_code_and_then_by_their_status(
    posten: Any, answer: Answer, kind: type[SignspoolError], said: str
) -> None:
    with pytest.raises(kind) as raised:
        polled(posten, answer)
    assert type(raised.value) is kind
    assert said in str(raised.value)
    assert "01013300001" not in str(raised.value)


def test_a_retry_after_is_obeyed(posten: Any) -> None:
    with pytest.raises(TransientError) as raised:
        polled(posten, Answer(503, {"retry-after": "17"}))
    assert raised.value.retry_after_seconds == 17


# Files and confirmations


def view(posten: Any, name: str = "completed") -> DocumentView:
    learned = event_of(posten, body(name)).learned
    return DocumentView("12087", {}, {key: on(text) for key, text in learned.items()})


def test_the_signed_file_is_fetched_and_the_signers_own_by_setting() -> None:
    for fetch_xades, count in ((False, 1), (True, 4)):
        posten = make_provider("posten", sender="123456789", fetch_xades=fetch_xades, **pair())
        answers = [Answer(200, {}, files=(make_file(n, ""),)) for n in range(count)]
        requests, files = drive(posten.signed_file(view(posten)), answering(*answers))
        assert [request.into for request in requests] == [Into.FILE] * count
        assert requests[0].url == f"{ROOT}/portal/signature-jobs/12087/pades"
        assert "application/xml" in requests[0].headers["Accept"]
        sources = [file.source for file in files]
        assert sources[0] == "pades"
        assert set(sources[1:]) == (
            {"xades 010133*****", "xades bo@example.com", "xades bo@example.com 90000000"}
            if fetch_xades
            else set()
        )


def test_a_file_that_is_gone_is_given_up_and_one_that_is_none_is_fetched_again(posten: Any) -> None:
    for status in (404, 410):
        with pytest.raises(PermanentError, match="not stored here"):
            drive(posten.signed_file(view(posten)), answering(Answer(status, {})))
    with pytest.raises(TransientError):
        drive(posten.signed_file(view(posten)), answering(Answer(503, {})))
    page = make_file(0, "")
    wrong = type(page)(0, "", "application/pdf", 9, "0" * 64, b"<error/>")
    with pytest.raises(TransientError, match="is none"):
        drive(posten.signed_file(view(posten)), answering(Answer(200, {}, files=(wrong,))))
    with pytest.raises(WaitingError, match="address of the signed file"):
        drive(posten.signed_file(DocumentView("1", {})), answering())


def test_a_confirmation_is_an_empty_post_and_what_is_gone_is_confirmed(posten: Any) -> None:
    confirmation = {"url": f"{ROOT}/portal/signature-jobs/1/status/complete"}
    for status in (200, 204, 404, 410):
        [request], _ = drive(
            posten.confirm(DocumentView("1", {}), confirmation), answering(Answer(status, {}))
        )
        assert (request.method, request.url, request.content) == ("POST", confirmation["url"], b"")
    for status, kind in ((500, TransientError), (429, TransientError), (409, PermanentError)):
        with pytest.raises(kind):
            drive(posten.confirm(DocumentView("1", {}), confirmation), answering(Answer(status, {})))


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/api/123456789/portal/signature-jobs/1/complete",
        "http://api.signering.posten.no/api/1",
        "https://api.signering.posten.no:8443/api/1",
        "https://api.signering.posten.no@elsewhere.example/",
        "ftp://api.signering.posten.no/",
        "nonsense",
    ],
)
def test_an_address_that_leads_elsewhere_is_never_followed(posten: Any, url: str) -> None:
    """The client certificate would go along."""
    document = DocumentView("1", {}, {"pades_url": url, "cancellation_url": url})
    for steps in (
        posten.signed_file(document),
        posten.confirm(document, {"url": url}),
        posten.cancel(document),
        posten.poll(PollView("job/r", {"status_url": url, "token.1": "t"}, NOW)),
    ):
        with pytest.raises(PermanentError, match="not followed"):
            next(steps)
