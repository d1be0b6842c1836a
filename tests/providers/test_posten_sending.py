"""Sending through Posten signering, taking back, and browsers of the direct flow that come back."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from lxml import etree
from pydantic import ValidationError

from shared.errors import (
    AccessError,
    NoAnswerError,
    PermanentError,
    TransientError,
    UnusableBodyError,
    UsageError,
    WaitingError,
)
from shared.events import Origin
from shared.providers._base import (
    Answer,
    Callback,
    DocumentView,
    Head,
    Order,
    OutgoingFile,
    PollView,
)
from shared.providers._posten_order import PostenOptions, PostenSigner
from simulator.files import make_pdf
from simulator.posten_wire import NAMESPACE
from tests.providers.conftest import drive, make_callback, make_provider
from tests.providers.posten_parts import DATE, NOW, ROOT, XML, answering, body, coded, pair


@pytest.fixture
def posten() -> Any:
    return make_provider("posten", sender="123456789", **pair())


# Sending and taking back

CREATED = (
    f'<portal-signature-job-response xmlns="{NAMESPACE}"><reference>r-1</reference>'
    "<signature-job-id>9223372036854775807</signature-job-id>"
    f"<cancellation-url>{ROOT}/portal/signature-jobs/1/cancel</cancellation-url></portal-signature-job-response>"
).encode()
WHO = Answer(200, {"date": DATE}, b"You are 123456789")


def order(**changes: Any) -> Order:
    content = make_pdf("Avtale")
    file = OutgoingFile("Avtale 1.pdf", "application/pdf", len(content), "0" * 64, content)
    signer = PostenSigner(personal_number="01013300001", email="anne@example.com")
    given = {"signers": (signer,), "options": PostenOptions(), "files": (file,), **changes}
    return Order(reference="r-1", title="Avtale", **given)


def test_a_job_is_sent_with_a_package_signed_at_the_servers_time(posten: Any) -> None:
    requests, sent = drive(posten.send(order()), answering(WHO, Answer(200, XML, CREATED)))
    who, create = requests
    assert (who.method, who.url, who.effect) == ("GET", ROOT, False)
    assert (create.method, create.url, create.effect) == ("POST", f"{ROOT}/portal/signature-jobs", True)
    assert create.headers["Content-Type"].startswith("multipart/mixed; boundary=")
    content = create.content
    assert isinstance(content, bytes)
    start = content.index(b"PK\x03\x04")
    with zipfile.ZipFile(io.BytesIO(content[start : content.rindex(b"\r\n--")])) as archive:
        names = archive.namelist()
        signatures = archive.read("META-INF/signatures.xml")
    assert names == ["0000_avtale_1.pdf", "manifest.xml", "META-INF/signatures.xml"]
    assert b"<SigningTime>2026-11-22T09:00:00.000+00:00</SigningTime>" in signatures
    assert sent.envelope_id == "9223372036854775807"
    [document] = sent.documents
    assert document.document_id == "9223372036854775807"
    assert document.references == {
        "reference": "r-1",
        "cancellation_url": f"{ROOT}/portal/signature-jobs/1/cancel",
    }
    assert (sent.redirect_url, sent.asks) == ("", ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metadata": {"a": ("b",)}}, "--metadata"),
        ({"options": PostenOptions(queue="nobody")}, "queue 'nobody' is asked by nobody"),
        ({"options": PostenOptions(document_titles=["a", "b"])}, "every file"),
        ({"options": PostenOptions(available_days=91)}, "90 at most"),
        ({"options": PostenOptions(direct=True)}, "Set exit_url"),
        ({"signers": ()}, "1 to 10 signers"),
    ],
)
def test_an_order_that_cannot_be_is_refused_before_anything_is_asked(
    posten: Any, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        next(posten.send(order(**changes)))


def test_what_is_missing_in_the_settings_is_named() -> None:
    for made in (make_provider("posten", **pair()), make_provider("posten", sender="123456789")):
        with pytest.raises(WaitingError, match=r"set (sender|certificate, key, authorities) under"):
            next(made.send(order()))
    with pytest.raises(ValidationError, match="https"):
        make_provider("posten", base_url="http://api.signering.posten.no/api")


def test_a_refused_job_says_why_and_an_unreadable_answer_leaves_it_open(posten: Any) -> None:
    with pytest.raises(PermanentError, match="ASICE_VALIDATION_FAILED"):
        drive(posten.send(order()), answering(WHO, coded(400, "ASICE_VALIDATION_FAILED")))
    with pytest.raises(NoAnswerError, match="the job was made"):
        drive(posten.send(order()), answering(WHO, Answer(200, XML, b"<other/>")))
    with pytest.raises(TransientError, match="no Date"):
        drive(posten.send(order()), answering(Answer(200, {}, b"You are 123456789")))


def test_no_personal_number_is_shown_of_an_order() -> None:
    signer = PostenSigner(personal_number="01013300001", email="anne@example.com")
    assert "01013300001" not in repr(signer)
    with pytest.raises(ValidationError) as refused:
        PostenSigner.model_validate({"personal_number": "01013300001", "order": "01013300001"})
    assert "01013300001" not in str(refused.value)


def test_a_job_is_cancelled_at_the_address_that_is_known_of_it(posten: Any) -> None:
    document = DocumentView("1", {"cancellation_url": f"{ROOT}/portal/signature-jobs/1/cancel"})
    for status, said in ((204, "^cancelled"), (200, "^cancelled"), (409, "ended already"), (404, "ended")):
        [request], words = drive(posten.cancel(document), answering(Answer(status, {})))
        assert (request.method, request.content) == ("POST", b"")
        assert said.removeprefix("^") in words
    with pytest.raises(UsageError, match="cannot be cancelled"):
        next(posten.cancel(DocumentView("1", {})))


# The direct flow


@pytest.fixture
def direct() -> Any:
    exit_url = "https://door.example.com/api/return?page=x"
    return make_provider("posten", sender="123456789", exit_url=exit_url, direct_queues=["d"], **pair())


DIRECT_CREATED = (
    f'<direct-signature-job-response xmlns="{NAMESPACE}"><signature-job-id>7</signature-job-id>'
    f"<redirect-url>https://s.example/1</redirect-url><status-url>{ROOT}/direct/signature-jobs/7/status?a=1</status-url>"
    f'<signer href="{ROOT}/direct/signature-jobs/7/signers/1"><signer-identifier>kunde</signer-identifier>'
    "<redirect-url>https://s.example/1</redirect-url></signer></direct-signature-job-response>"
).encode()


def test_a_direct_job_gives_the_signing_page_and_is_asked_about_later(direct: Any) -> None:
    wish = order(options=PostenOptions(direct=True), signers=(PostenSigner(identifier="kunde"),))
    (_, create), sent = drive(direct.send(wish), answering(WHO, Answer(200, XML, DIRECT_CREATED)))
    assert create.url == f"{ROOT}/direct/signature-jobs"
    content = create.content
    assert isinstance(content, bytes)
    document = etree.fromstring(content.split(b"\r\n\r\n", 2)[1].rpartition(b"\r\n--")[0])
    urls = [element.text or "" for element in document.iter() if (element.text or "").startswith("https")]
    assert [parse_qs(urlsplit(url).query) for url in urls] == [
        {"page": ["x"], "provider": ["posten"], "reference": ["r-1"], "outcome": [word]}
        for word in ("completed", "rejected", "error")
    ]
    assert sent.redirect_url == "https://s.example/1"
    [ask] = sent.asks
    assert (ask.subject, ask.memory["status_url"][-4:]) == ("job/r-1", "?a=1")
    assert ask.after_seconds > 30 * 86_400
    two = order(options=PostenOptions(direct=True), signers=(PostenSigner(identifier="a"),) * 2)
    with pytest.raises(UsageError, match="one signer here"):
        next(direct.send(two))


def returned(posten: Any, **query: str) -> Callback:
    callback = Callback(b"", {}, query, "10.0.0.1", NOW, Origin.RETURN)
    back = posten.returned(callback)
    assert back.head == Head(query["reference"], "RETURN")
    content = str(dict(back.kept)).replace("'", '"').encode()
    return Callback(content, {"content-type": "application/json"}, {}, "10.0.0.1", NOW, Origin.RETURN)


def test_a_browser_that_comes_back_is_a_reason_to_ask_and_says_nothing(direct: Any) -> None:
    entry = returned(direct, reference="r-1", status_query_token="t-1")
    head = Head("r-1", "RETURN")
    assert direct.parse(head, entry) == []
    [ask] = direct.asks(head, entry)
    assert ask.subject == "job/r-1"
    assert list(ask.memory.values()) == ["t-1"]
    [other] = direct.asks(head, returned(direct, reference="r-1", status_query_token="t-2"))
    assert not ask.memory.keys() & other.memory.keys()
    assert list(direct.asks(Head("7", "FAILED"), make_callback(body("failed.rejected")))) == []


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"reference": "r-1"},
        {"status_query_token": "t"},
        {"reference": "r" * 51, "status_query_token": "t"},
        {"reference": "r", "status_query_token": "t" * 501},
    ],
)
def test_a_browser_that_brings_nothing_to_ask_with_is_not_kept(direct: Any, query: dict[str, str]) -> None:
    with pytest.raises(UnusableBodyError):
        direct.returned(Callback(b"", {}, query, "10.0.0.1", NOW, Origin.RETURN))


def test_a_job_is_asked_about_with_each_token_until_one_is_right(direct: Any) -> None:
    memory = {
        "status_url": f"{ROOT}/direct/signature-jobs/7/status?a=1",
        "token.1": "forged",
        "token.2": "tø",
    }
    answers = (coded(403, "INVALID_STATUS_QUERY_TOKEN"), Answer(200, XML, body("direct.completed")))
    requests, found = drive(direct.poll(PollView("job/r-1", memory, NOW)), answering(*answers))
    assert requests[1].url.endswith("/status?a=1&status_query_token=t%C3%B8")
    assert found.found[0].head == Head("9007199254740993", "COMPLETED_SUCCESSFULLY")
    assert found.again_seconds is None
    assert found.memory == {"status_url": memory["status_url"]}


def test_tokens_that_are_wrong_are_forgotten_and_one_that_is_early_is_tried_again(direct: Any) -> None:
    memory = {"status_url": f"{ROOT}/direct/signature-jobs/7/status", "token.1": "t"}
    _, wrong = drive(
        direct.poll(PollView("job/r", memory, NOW)), answering(coded(403, "INVALID_STATUS_QUERY_TOKEN"))
    )
    assert (wrong.again_seconds, wrong.found, "token.1" in wrong.memory) == (None, (), False)
    early = coded(404, "SIGNING_CEREMONY_NOT_COMPLETED")
    _, again = drive(direct.poll(PollView("job/r", memory, NOW)), answering(early))
    assert (again.again_seconds, again.memory) == (5, None)
    requests, unknown = drive(direct.poll(PollView("job/r", {"token.1": "t"}, NOW)), answering())
    assert (requests, unknown.again_seconds, unknown.memory) == ([], None, {})
    with pytest.raises(AccessError):
        drive(direct.poll(PollView("job/r", memory, NOW)), answering(coded(403, "NOT_AUTHORIZED")))
