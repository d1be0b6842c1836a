"""Rest PKI Core: browsers that return, and what reading a session says about its documents."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.errors import (
    AccessError,
    NotReadyError,
    PermanentError,
    SignspoolError,
    TransientError,
    UnusableBodyError,
    WaitingError,
)
from shared.events import Event, EventType, Origin
from shared.providers._base import Answer, Ask, Callback, DocumentView, Head, Polled, PollView, Request
from tests.providers.conftest import SAMPLES, drive, make_callback, make_provider, sample

BASE = "https://core.pki.rest"
KEY = "yourapp|0123456789abcdef"
SESSION = "7c1f3a52-0d2e-4a6f-9b0e-5f1c2d7a9e41"
FIRST, SECOND = "3dfdd6f0-884e-4092-abed-00f18ea6716a", "b6a0e7c4-3f5d-4c1b-8a92-1e7d40c55f08"
COMPLETED = "DocumentSignatureCompleted"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PATH = f"{BASE}/api/signature-sessions/{SESSION}"
WAIT = f"{PATH}/when-completed"


def session(name: str, **changes: Any) -> dict[str, Any]:
    """A public sample of a session, with changes."""
    found: dict[str, Any] = json.loads((SAMPLES / "restpki" / "sessions" / f"{name}.json").read_text())
    return copy.deepcopy(found) | changes


def view(memory: dict[str, str] | None = None, *, age_seconds: float = 0, subject: str = SESSION) -> PollView:
    return PollView(subject, memory or {}, NOW, begun_at=NOW - timedelta(seconds=age_seconds))


def known(*document_ids: str) -> dict[str, str]:
    """The memory of a session that was registered with documents."""
    provider = make_provider("restpki")
    memory: dict[str, str] = {}
    for document_id in document_ids:
        memory |= provider.document_ask(DocumentView(document_id, {"session": SESSION})).memory
    return memory


class Api:
    """Answers readings of the session in turn, the last one for ever, and the long wait with `wait`."""

    def __init__(self, *sessions: dict[str, Any] | Answer, wait: Answer | None = None) -> None:
        self.sessions = list(sessions)
        self.wait = wait
        self.asked: list[str] = []
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request.url)
        self.requests.append(request)
        if request.url == WAIT:
            assert self.wait is not None
            return self.wait
        shown = self.sessions.pop(0) if len(self.sessions) > 1 else self.sessions[0]
        return shown if isinstance(shown, Answer) else answer(shown)


def answer(body: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, {}, json.dumps(body).encode())


def refusal(code: str) -> Answer:
    return answer({"code": code, "message": "x"}, 422)


NOT_YET, DONE = answer({"completed": False, "progress": 50.0}), answer({"completed": True, "progress": 100})


def poll(api: Api, asked: PollView | None = None, **settings: Any) -> Polled:
    provider = make_provider("restpki", token=KEY, **settings)
    found: Polled = drive(provider.poll(asked or view()), api)[1]
    return found


def words(polled: Polled) -> dict[str, str]:
    return {found.head.document_id: found.head.action for found in polled.found}


# Browsers


def returning(query: dict[str, str]) -> Callback:
    return make_callback(b"", query={"provider": "restpki", **query})


@pytest.mark.parametrize("query", [{}, {"order": "7"}])
@pytest.mark.parametrize("written", [SESSION, SESSION.upper()])
def test_a_browser_brings_the_session_and_the_page_gets_its_id(query: dict[str, str], written: str) -> None:
    returned = make_provider("restpki").returned(returning({**query, "signatureSessionId": written}))
    assert returned.head.document_id == SESSION
    assert returned.kept == returned.added == {"signatureSessionId": SESSION}


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        " ",
        SESSION[:-1],
        SESSION + "0",
        SESSION + "\n",
        SESSION.replace("-", ""),
        f"{{{SESSION}}}",
        "../../system/info",
        "7c1f3a52-0d2e-4a6f-9b0e-5f1c2d7a9e4\u0661",
        "7c1f3a52-0d2e-4a6f-9b0e-5f1c2d7a9eg1",
    ],
)
def test_what_is_no_guid_is_no_session(written: str | None) -> None:
    query = {} if written is None else {"signatureSessionId": written}
    with pytest.raises(UnusableBodyError, match="signatureSessionId"):
        make_provider("restpki").returned(returning(query))


def entry(origin: Origin, body: bytes) -> Callback:
    made = make_callback(body)
    return Callback(made.body, made.headers, {}, "", made.received_at, origin)


def test_a_return_says_nothing_of_any_document_and_has_its_session_read() -> None:
    provider = make_provider("restpki")
    body = json.dumps({"signatureSessionId": SESSION}).encode()
    head = provider.returned(returning({"signatureSessionId": SESSION})).head
    assert provider.parse(head, entry(Origin.RETURN, body)) == []
    assert list(provider.asks(head, entry(Origin.RETURN, body))) == [Ask(SESSION)]
    with pytest.raises(UnusableBodyError):
        provider.asks(Head("../x", head.action), entry(Origin.RETURN, body))


def test_a_callback_has_nothing_read() -> None:
    provider, callback = make_provider("restpki"), sample("restpki", "completed")
    assert list(provider.asks(provider.callback_id(callback), callback)) == []


def test_a_registered_session_is_read() -> None:
    provider = make_provider("restpki")
    assert provider.document_ask(DocumentView(FIRST, {})) is None
    assert provider.document_ask(DocumentView(FIRST, {}, {"session": SESSION})) is None
    ask = provider.document_ask(DocumentView(FIRST, {"session": f" {SESSION.upper()} "}))
    assert ask.subject == SESSION
    assert FIRST in "".join(ask.memory)


# Readings


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pending", {}),
        ("processing", {FIRST: COMPLETED, SECOND: "session:Processing"}),
        ("completed", {FIRST: COMPLETED, SECOND: COMPLETED}),
        ("user-cancelled", {SESSION: "session:UserCancelled"}),
        ("expired", {SESSION: "session:Expired"}),
        ("processing-error", {FIRST: COMPLETED, SECOND: "session:ProcessingError"}),
    ],
)
def test_each_public_sample_says_what_it_says_of_each_document(name: str, said: dict[str, str]) -> None:
    shown = session(name)
    api = Api(shown)
    polled = poll(api)
    assert words(polled) == said
    assert api.asked == [PATH]
    assert {found.payload for found in polled.found} <= {json.dumps(shown).encode()}
    ended = name not in ("pending", "processing")
    assert (polled.again_seconds is None) is ended


@pytest.mark.parametrize("documents", [None, []])
def test_without_documents_a_cancel_is_about_those_that_are_known(documents: Any) -> None:
    cancelled = session("user-cancelled", documents=documents)
    assert words(poll(Api(cancelled), view(known(FIRST, SECOND)))) == {
        FIRST: "session:UserCancelled",
        SECOND: "session:UserCancelled",
    }


def test_documents_that_were_seen_before_are_known_when_a_user_gives_up() -> None:
    """The user brought them, so that nobody had told us of them."""
    first = poll(Api(session("pending")))
    assert first.found == ()
    assert first.memory is not None
    second = poll(Api(session("user-cancelled")), view(dict(first.memory)))
    assert words(second) == {FIRST: "session:UserCancelled", SECOND: "session:UserCancelled"}


def test_what_was_said_is_not_said_again() -> None:
    first = poll(Api(session("processing")))
    assert first.again_seconds == 0
    assert first.memory is not None
    second = poll(Api(session("completed")), view(dict(first.memory)))
    assert words(second) == {SECOND: COMPLETED}
    assert second.memory is not None
    assert poll(Api(session("completed")), view(dict(second.memory))).found == ()
    cancelled = poll(Api(session("user-cancelled")))
    assert cancelled.memory is not None
    assert poll(Api(session("user-cancelled")), view(dict(cancelled.memory))).found == ()


@pytest.mark.parametrize("status", [None, "", [7]])
def test_a_completed_session_completes_documents_that_have_no_status(status: Any) -> None:
    documents = [{"id": FIRST, "status": status}]
    polled = poll(Api(session("completed", documents=documents)))
    assert words(polled) == {FIRST: COMPLETED}
    assert polled.again_seconds is None


@pytest.mark.parametrize("status", ["PendingSignature", "Processing"])
def test_a_completed_session_with_an_open_document_is_read_again(status: str) -> None:
    documents = [{"id": FIRST, "status": "Completed"}, {"id": SECOND, "status": status}]
    polled = poll(Api(session("completed", documents=documents)))
    assert words(polled)[FIRST] == COMPLETED
    assert words(polled).get(SECOND) != COMPLETED
    assert polled.again_seconds is not None


@pytest.mark.parametrize("documents", [None, []])
def test_a_completed_session_without_documents_completes_those_that_are_known(documents: Any) -> None:
    completed = session("completed", documents=documents)
    assert words(poll(Api(completed), view(known(FIRST)))) == {FIRST: COMPLETED}
    nobody = poll(Api(completed))
    assert nobody.found == ()
    assert nobody.again_seconds is not None


def test_a_document_that_a_session_does_not_list_is_not_told_of_its_end() -> None:
    polled = poll(Api(session("completed")), view(known("another")))
    assert set(words(polled)) == {FIRST, SECOND}


@pytest.mark.parametrize(
    "documents",
    [
        "x",
        7,
        {},
        [None, 7, "x", []],
        [{"id": None}, {"id": ""}, {"id": [1]}, {"status": "Completed"}],
    ],
)
def test_documents_of_a_strange_form_are_passed_over(documents: Any) -> None:
    assert words(poll(Api(session("user-cancelled", documents=documents)))) == {
        SESSION: "session:UserCancelled"
    }


# Words that nobody knows


def test_unknown_words_are_kept_change_nothing_and_the_session_is_read_again() -> None:
    provider = make_provider("restpki")
    documents = [{"id": FIRST, "status": "Archived"}, {"id": SECOND, "status": "PendingSignature"}]
    polled = poll(Api(session("pending", status="Suspended", documents=documents)))
    assert words(polled) == {FIRST: "document:Archived", SECOND: "session:Suspended"}
    assert {provider.event_type(word) for word in words(polled).values()} == {EventType.UNKNOWN}
    assert polled.again_seconds is not None
    alone = poll(Api(session("pending", status="Suspended\n" + "x" * 500, documents=None)))
    [word] = words(alone).values()
    assert word.startswith("session:Suspended x")
    assert len(word) < 80


def test_a_word_that_settings_teach_ends_a_session() -> None:
    actions = {"session:Suspended": "cancelled"}
    polled = poll(Api(session("pending", status="Suspended", documents=None)), actions=actions)
    assert polled.again_seconds is None


# What is recorded of it


def parsed(polled: Polled) -> dict[str, Event]:
    provider = make_provider("restpki")
    events = [
        event
        for found in polled.found
        for event in provider.parse(found.head, entry(Origin.POLL, found.payload))
    ]
    return {event.document_id: event for event in events}


def test_a_completed_document_is_the_same_thing_said_as_by_a_callback() -> None:
    provider, callback = make_provider("restpki"), sample("restpki", "completed")
    [told] = provider.parse(provider.callback_id(callback), callback)
    read = parsed(poll(Api(session("completed"))))[told.document_id]
    assert (read.key, read.type) == (told.key, told.type)


def test_the_session_and_the_key_are_learned_and_nothing_that_is_not_there() -> None:
    events = parsed(poll(Api(session("completed"))))
    assert events[FIRST].learned == {"session": SESSION, "document_key": "FUFYQ7SL6XKMBW9A"}
    assert events[SECOND].learned["document_key"] != "FUFYQ7SL6XKMBW9A"
    [cancelled] = parsed(poll(Api(session("user-cancelled")))).values()
    assert (cancelled.learned, cancelled.type) == ({}, EventType.CANCELLED)


def test_the_code_of_a_processing_error_is_the_message_and_signers_are_in_no_message() -> None:
    events = parsed(poll(Api(session("processing-error"))))
    assert events[SECOND].type is EventType.FAILED
    assert events[SECOND].message == "processing error ValidationError"
    assert events[FIRST].message == ""
    assert "11111111111" not in repr(events)


# Waiting for the end


def remembering_processing(**more: Any) -> dict[str, str]:
    memory = poll(Api(session("processing", **more))).memory
    assert memory is not None
    return dict(memory)


def test_a_session_in_processing_is_waited_for_and_then_read() -> None:
    api = Api(session("processing"), session("completed"), wait=DONE)
    polled = poll(api, view(remembering_processing()))
    assert api.asked == [PATH, WAIT, PATH]
    assert api.requests[1].silence_seconds == 45
    assert words(polled) == {SECOND: COMPLETED}
    assert polled.again_seconds is None


def test_a_wait_that_ends_without_completion_is_begun_again_soon_and_less_often_with_time() -> None:
    memory = remembering_processing()
    soon = poll(Api(session("processing"), wait=NOT_YET), view(memory))
    assert soon.found == ()
    assert soon.again_seconds == 5
    long = {**memory, "processing_since": (NOW - timedelta(hours=1)).isoformat()}
    later = poll(Api(session("processing"), wait=NOT_YET), view(long, age_seconds=7200))
    assert later.again_seconds == 360


def test_news_are_spooled_before_the_wait_for_the_rest() -> None:
    api = Api(session("processing"))
    assert poll(api).again_seconds == 0
    assert api.asked == [PATH]


def test_a_wait_that_is_refused_has_the_session_read() -> None:
    api = Api(
        session("processing"), session("processing-error"), wait=refusal("BadSignatureSessionOperation")
    )
    assert words(poll(api, view(remembering_processing()))) == {SECOND: "session:ProcessingError"}


def test_nobody_waits_when_the_settings_say_so() -> None:
    api = Api(session("processing"))
    poll(api, view(remembering_processing()), session_wait_seconds=0)
    assert api.asked == [PATH]


# When to read again


@pytest.mark.parametrize(
    ("age_seconds", "again_seconds"),
    [(0, 60), (60, 60), (1200, 120), (36_000, 3600), (600_000, 21_600)],
)
def test_an_open_session_is_read_less_often_the_older_it_is(age_seconds: float, again_seconds: float) -> None:
    assert poll(Api(session("pending")), view(age_seconds=age_seconds)).again_seconds == again_seconds


@pytest.mark.parametrize("name", ["pending", "processing"])
def test_a_session_that_never_ends_is_given_up(name: str) -> None:
    old = view(remembering_processing(), age_seconds=31 * 86_400)
    polled = poll(Api(session(name), wait=NOT_YET), old)
    assert polled.again_seconds is None
    assert "asked no more" in polled.note
    assert poll(Api(session(name), wait=NOT_YET), old, session_give_up_seconds=1e9).again_seconds is not None


def test_a_made_up_session_costs_one_question_and_is_nothing_said() -> None:
    api = Api(refusal("SignatureSessionNotFound"))
    polled = poll(api)
    assert (polled.again_seconds, polled.found) == (None, ())
    assert api.asked == [PATH]


def test_what_others_note_of_a_session_makes_it_not_ours_and_is_not_kept() -> None:
    asked = view({"wish": "now"})
    assert poll(Api(refusal("SignatureSessionNotFound")), asked).again_seconds is None
    assert "wish" not in (poll(Api(session("pending")), asked).memory or {})


def test_a_session_of_ours_that_the_provider_does_not_know_is_asked_about_again() -> None:
    for memory in (known(FIRST), dict(poll(Api(session("pending"))).memory or {})):
        assert poll(Api(refusal("SignatureSessionNotFound")), view(memory)).again_seconds == 60
        old = view(memory, age_seconds=31 * 86_400)
        assert poll(Api(refusal("SignatureSessionNotFound")), old).again_seconds is None


@pytest.mark.parametrize("subject", ["x", "../../system/info", "", SESSION + "?x=1"])
def test_what_was_registered_as_session_and_is_none_is_not_asked_about(subject: str) -> None:
    api = Api(session("pending"))
    polled = poll(api, view(subject=subject))
    assert (polled.again_seconds, api.asked) == (None, [])
    assert "register it again" in polled.note


@pytest.mark.parametrize(
    ("shown", "error"),
    [
        (Answer(401, {}), AccessError),
        (Answer(403, {}), AccessError),
        (Answer(404, {}), PermanentError),
        (refusal("SubscriptionLimit"), PermanentError),
        (refusal("BackgroundProcessing"), NotReadyError),
        (Answer(500, {}, b'{"exceptionCode": "0HMVX"}'), TransientError),
        (Answer(503, {}), TransientError),
        (Answer(200, {}, b"<html>"), TransientError),
        (Answer(200, {}, b"{}"), TransientError),
        (answer(session("completed", id=FIRST)), TransientError),
    ],
)
def test_what_a_failed_reading_means(shown: Answer, error: type[SignspoolError]) -> None:
    with pytest.raises(error) as raised:
        poll(Api(shown), view(known(FIRST)))
    assert type(raised.value) is error
    assert KEY not in str(raised.value)


def test_an_old_session_that_is_refused_for_good_is_given_up() -> None:
    polled = poll(Api(refusal("SubscriptionLimit")), view(age_seconds=31 * 86_400))
    assert polled.again_seconds is None
    assert "SubscriptionLimit" in polled.note


def test_without_a_key_nothing_is_read() -> None:
    provider = make_provider("restpki")
    with pytest.raises(WaitingError, match="token"):
        next(provider.poll(view()))
