"""Posten signering over mutual TLS: jobs, queues that hide, confirmations, and everything that goes wrong."""

from __future__ import annotations

import io
import ssl
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from lxml import etree

from shared.providers._posten_asice import Entry, load_signing_key, multipart, package
from shared.providers._posten_job import ExitUrls, Job, JobDocument, JobSigner, manifest, request_document
from shared.providers._posten_xml import Who, read_created, read_error, read_signer, read_status
from simulator.certificates import Authority, pem_of
from simulator.files import make_pdf
from simulator.peer import PeerError
from simulator.posten import SENDER, Posten
from simulator.posten_server import Papers, PostenServer, make_papers
from simulator.posten_wire import Person
from simulator.weather import Storm, StormKind
from tests.providers.posten_facts import needs_facts, schema
from tests.waiting import PATIENCE_SECONDS

ANNE, BO = Person(personal_number="01013300001"), Person(email="bo@example.com", mobile="90000000")
PORTAL = f"/api/{SENDER}/portal/signature-jobs"
DIRECT = f"/api/{SENDER}/direct/signature-jobs"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return make_papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def server(papers: Papers) -> Iterator[PostenServer]:
    with PostenServer(papers) as running:
        yield running


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def posten(server: PostenServer, clock: Clock) -> Posten:
    posten = server.renew().posten
    posten.clock = clock
    posten.flood_filter = False
    return posten


def context(papers: Papers, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(papers.roots))
    made.check_hostname = False
    made.load_cert_chain(certificate or papers.sender, key or papers.sender_key)
    return made


@pytest.fixture(scope="module")
def tls(papers: Papers) -> ssl.SSLContext:
    return context(papers)


@pytest.fixture
def client(server: PostenServer, tls: ssl.SSLContext, posten: Posten) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, verify=tls, trust_env=False, timeout=PATIENCE_SECONDS) as opened:
        yield opened


def sendable(papers: Papers, at: datetime, *, direct: bool = False, queue: str = "") -> tuple[str, bytes]:
    """A request for a new job, as our own provider file makes it."""
    signer = JobSigner(Who(custom="kunde 7")) if direct else JobSigner(Who("01013300001", "a@b.example"))
    exits = ExitUrls("https://a.example/done?x=1", "https://a.example/no", "https://a.example/error")
    document = JobDocument("Avtale", make_pdf("Avtale"), "0000_avtale.pdf")
    job = Job(
        "ref-1", SENDER, "Avtale", (signer,), (document,), queue=queue, exit_urls=exits if direct else None
    )
    key = load_signing_key(papers.sender.read_bytes(), papers.sender_key.read_bytes())
    entries = [
        Entry(document.entry, document.media_type, document.content),
        Entry("manifest.xml", "application/xml", manifest(job)),
    ]
    return multipart(request_document(job), package(entries, key, at))


def create(client: httpx.Client, papers: Papers, at: datetime, *, direct: bool = False) -> httpx.Response:
    content_type, body = sendable(papers, at, direct=direct)
    path = DIRECT if direct else PORTAL
    return client.post(path, content=body, headers={"content-type": content_type})


def permitted(answer: httpx.Response) -> datetime:
    return datetime.fromisoformat(answer.headers["x-next-permitted-poll-time"])


# Creating


def test_a_package_of_ours_is_taken_and_signed_and_ends_with_its_confirmation(
    client: httpx.Client, papers: Papers, posten: Posten, clock: Clock
) -> None:
    answer = create(client, papers, clock())
    assert answer.status_code == 200, answer.text
    created = read_created(answer.content)
    assert (created.job_id, created.reference) == ("12087", "ref-1")
    assert client.get(PORTAL).status_code == 204
    clock.pass_by(posten.wait_seconds)
    assert client.post("/_jobs/12087/sign").json()["jobs"][0]["status"] == "COMPLETED_SUCCESSFULLY"
    said = read_status(client.get(PORTAL).content)
    assert (said.job_id, said.status, said.reference) == ("12087", "COMPLETED_SUCCESSFULLY", "ref-1")
    pades = client.get(said.pades_url)
    assert pades.headers["content-type"] == "application/octet-stream"
    assert pades.content.startswith(b"%PDF-")
    assert client.get(said.signatures[0].xades_url).headers["content-type"] == "application/xml"
    assert client.post(said.confirmation_url).status_code == 204
    for url in (said.pades_url, said.confirmation_url):
        gone = client.request("POST" if url.endswith("complete") else "GET", url)
        assert (gone.status_code, read_error(gone.content).code) == (404, "JOB_NOT_FOUND")
    assert client.get("/_jobs").json()["jobs"][0]["confirmations"] == ["COMPLETED_SUCCESSFULLY"]


def test_a_package_that_was_signed_long_ago_or_altered_is_refused(
    client: httpx.Client, papers: Papers, posten: Posten, clock: Clock
) -> None:
    for seconds in (-6, 6):
        answer = create(client, papers, clock() + timedelta(seconds=seconds))
        assert answer.status_code == 400
        assert read_error(answer.content).code == "ASICE_VALIDATION_FAILED"
    content_type, body = sendable(papers, clock())
    for changed, code in (
        (body.replace(b"ref-1", b"ref-<"), "SCHEMA_VALIDATION_ERROR"),
        (body.replace(b"PK\x03\x04", b"XX\x03\x04"), "ASICE_VALIDATION_FAILED"),
        (body.partition(b"PK")[0], "SCHEMA_VALIDATION_ERROR"),
    ):
        answer = client.post(PORTAL, content=changed, headers={"content-type": content_type})
        assert (answer.status_code, read_error(answer.content).code) == (400, code)
    start = body.index(b"PK\x03\x04")
    broken = _repacked(body[start : body.rindex(b"\r\n--")], "0000_avtale.pdf", make_pdf("Annen"))
    answer = client.post(
        PORTAL, content=body[:start] + broken + b"\r\n--" + body.rpartition(b"\r\n--")[2],
        headers={"content-type": content_type},
    )  # fmt: skip
    assert "digest of 0000_avtale.pdf" in read_error(answer.content).message
    assert client.post(PORTAL, content=body, headers={"content-type": "multipart/form-data; boundary=x"}
                       ).status_code == 415  # fmt: skip
    assert posten.jobs == {}


def _repacked(container: bytes, name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(container)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, content if entry == name else old.read(entry))
    return out.getvalue()


# Polling


def test_an_update_is_hidden_from_everybody_until_it_is_confirmed_or_comes_back(
    client: httpx.Client, posten: Posten, clock: Clock
) -> None:
    job = posten.send(ANNE, BO)
    posten.act(job.id, "SIGNED")
    first = client.get(PORTAL)
    assert read_status(first.content).status == "IN_PROGRESS"
    assert permitted(first) == clock()
    assert client.get(PORTAL).status_code == 204
    clock.pass_by(599)
    assert client.get(PORTAL).status_code == 204
    clock.pass_by(10)
    again = client.get(PORTAL)
    assert again.content == first.content
    client.post(read_status(again.content).confirmation_url)
    assert posten.waiting() == 0
    assert job.is_gone is False


@pytest.mark.parametrize("stale", [False, True])
def test_what_comes_back_is_the_state_of_now_or_on_request_the_old_one(
    client: httpx.Client, posten: Posten, *, stale: bool
) -> None:
    posten.hide_seconds, posten.stale = 0, stale
    job = posten.send(ANNE, BO)
    posten.act(job.id, "SIGNED", 0)
    assert read_status(client.get(PORTAL).content).status == "IN_PROGRESS"
    posten.act(job.id, "SIGNED", 1)
    again = read_status(client.get(PORTAL).content)
    assert again.status == ("IN_PROGRESS" if stale else "COMPLETED_SUCCESSFULLY")
    # A confirmation of what was shown as unfinished does not end the job.
    client.post(again.confirmation_url)
    assert job.is_gone is not stale
    assert posten.waiting() == (1 if stale else 0)


def test_an_early_poll_is_refused_with_a_new_time_and_every_queue_has_its_own(
    client: httpx.Client, posten: Posten, clock: Clock
) -> None:
    empty = client.get(PORTAL)
    assert (empty.status_code, empty.content) == (204, b"")
    assert permitted(empty) == clock() + timedelta(seconds=10)
    assert empty.headers["x-next-permitted-poll-time"] == "2026-11-22T10:00:10.000+01:00"
    clock.pass_by(9.9)
    early = client.get(PORTAL)
    assert early.status_code == 429
    assert "dosfilter" not in early.headers
    assert permitted(early) == clock() + timedelta(seconds=10)
    job = posten.send(ANNE, queue="kø 7")
    posten.act(job.id, "REJECTED")
    assert client.get(PORTAL, params={"polling_queue": "kø 7"}).status_code == 200
    assert client.get(DIRECT).status_code == 204
    clock.pass_by(10)
    assert client.get(PORTAL).status_code == 204


def test_the_time_is_the_servers_and_so_is_the_date(
    client: httpx.Client, posten: Posten, clock: Clock
) -> None:
    posten.skew_seconds = 3600
    answer = client.get(PORTAL)
    assert permitted(answer) == clock() + timedelta(seconds=3610)
    assert answer.headers.get_list("date") == ["Sun, 22 Nov 2026 10:00:00 GMT"]


def test_the_time_is_missing_or_unreadable_on_request(client: httpx.Client, posten: Posten) -> None:
    posten.poll_time = "missing"
    assert "x-next-permitted-poll-time" not in client.get(PORTAL).headers
    posten.poll_time = "unreadable"
    assert client.get(PORTAL).headers["x-next-permitted-poll-time"] == "soon"


def test_the_flood_filter_stops_every_call_for_half_a_minute(
    client: httpx.Client, posten: Posten, clock: Clock
) -> None:
    posten.flood_filter = True
    for _ in range(2):
        assert [client.get(f"/api/{SENDER}").status_code for _ in range(10)] == [200] * 10
        clock.pass_by(1)
    answers = [client.get(f"/api/{SENDER}") for _ in range(12)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    assert answers[-1].headers["dosfilter"]
    assert "x-next-permitted-poll-time" not in answers[-1].headers
    clock.pass_by(29)
    assert client.get(PORTAL).status_code == 429
    clock.pass_by(1)
    assert client.get(PORTAL).status_code == 204


# Messages


@needs_facts
def test_everything_that_is_said_is_valid_by_the_schema_in_both_forms(
    client: httpx.Client, papers: Papers, posten: Posten, clock: Clock
) -> None:
    for wire in (True, False):
        posten.wire = wire
        bodies = [
            create(client, papers, clock()).content,
            create(client, papers, clock(), direct=True).content,
        ]
        portal, direct = list(posten.jobs.values())[-2:]
        posten.act(portal.id, "SIGNED")
        posten.act(direct.id, "SIGNED")
        bodies += [posten.status_message(portal), posten.status_message(direct)]
        both = posten.send(ANNE, BO)
        posten.act(both.id, "REJECTED", 1)
        bodies += [posten.status_message(both), posten.signer_message(direct, 0)]
        bodies.append(client.get(f"{PORTAL}/1/pades").content)
        for body in bodies:
            schema().assertValid(etree.fromstring(body))
            assert (b"<ns4:" in body) is wire


def test_who_signed_and_who_did_not_is_said_of_each(posten: Posten) -> None:
    job = posten.send(ANNE, BO, Person(email="bo@example.com"))
    posten.act(job.id, "SIGNED", 1)
    posten.act(job.id, "REJECTED", 0)
    said = read_status(posten.status_message(job))
    assert [(s.who.label, s.status) for s in said.signatures] == [
        ("010133*****", "REJECTED"),
        ("bo@example.com 90000000", "SIGNED"),
        ("bo@example.com", "NOT_APPLICABLE"),
    ]
    assert [bool(s.xades_url) for s in said.signatures] == [False, True, False]
    assert said.status == "FAILED"
    assert (said.cancellation_url, bool(said.pades_url)) == ("", True)
    posten.signer_word = "SIGNED_BY_BIRD"
    assert {s.status for s in read_status(posten.status_message(job)).signatures} == {"SIGNED_BY_BIRD"}


@pytest.mark.parametrize("word", ["EXPIRED", "CANCELLED"])
def test_a_job_that_ends_otherwise_is_queued_as_failed(
    client: httpx.Client, posten: Posten, word: str
) -> None:
    job = posten.send(ANNE)
    if word == "CANCELLED":
        assert client.post(read_status(posten.status_message(job)).cancellation_url).status_code == 204
    else:
        assert client.post(f"/_jobs/{job.id}/expire").status_code == 200
    said = read_status(client.get(PORTAL).content)
    assert (said.status, said.signatures[0].status) == ("FAILED", word)
    again = client.post(f"{PORTAL}/{job.id}/cancel")
    assert (again.status_code, read_error(again.content).code) == (409, "JOB_FINISHED")
    with pytest.raises(PeerError, match="has ended"):
        posten.act(job.id, "SIGNED")


def test_documents_are_deleted_when_the_job_has_ended(client: httpx.Client, posten: Posten) -> None:
    job = posten.send(ANNE, BO)
    posten.act(job.id, "SIGNED")
    assert client.delete(f"{PORTAL}/{job.id}/delete-documents").status_code == 409
    posten.act(job.id, "SIGNED", 1)
    said = read_status(client.get(PORTAL).content)
    assert client.get(f"/api/{SENDER}/archive/documents/{job.id}/pades").status_code == 200
    assert client.delete(said.delete_documents_url).status_code == 204
    assert client.get(said.pades_url).status_code == 404


# The direct flow


def test_a_direct_job_is_asked_about_with_the_token_of_its_browser(
    client: httpx.Client, papers: Papers, posten: Posten, clock: Clock
) -> None:
    created = read_created(create(client, papers, clock(), direct=True).content)
    [signer] = created.signers
    assert signer.who == Who(custom="kunde 7")
    newer = read_signer(client.post(signer.href).content)
    assert newer.redirect_url != signer.redirect_url

    def code(token: str) -> tuple[int, str]:
        answer = client.get(created.status_url, params={"status_query_token": token})
        return answer.status_code, read_error(answer.content).code

    assert code("x") == (404, "SIGNING_CEREMONY_NOT_COMPLETED")
    browser = client.post(f"/_jobs/{created.job_id}/sign").json()["browserGoesTo"]
    assert browser.startswith("https://a.example/done?x=1&status_query_token=")
    assert code("x") == (403, "INVALID_STATUS_QUERY_TOKEN")
    token = browser.partition("token=")[2]
    said = read_status(client.get(created.status_url, params={"status_query_token": token}).content)
    assert (said.status, said.signatures[0].who) == ("COMPLETED_SUCCESSFULLY", Who(custom="kunde 7"))
    assert "/portal/" in said.confirmation_url
    assert client.get(DIRECT).status_code == 204
    client.post(said.confirmation_url)
    assert client.get(said.pades_url).status_code == 404


# What goes wrong


def test_errors_come_in_every_form(client: httpx.Client, posten: Posten) -> None:
    for form, content_type in (("xml", "application/xml"), ("text", "text/plain; charset=utf-8")):
        posten.error_form = form  # type: ignore[assignment]
        assert client.get(f"{PORTAL}/1/pades").headers["content-type"] == content_type
    posten.error_form = "empty"
    assert client.get(f"{PORTAL}/1/pades").content == b""


def test_half_a_pdf_looks_whole_and_a_confirmation_may_be_200(client: httpx.Client, posten: Posten) -> None:
    job = posten.send(ANNE)
    posten.act(job.id, "SIGNED")
    url = read_status(client.get(PORTAL).content).pades_url
    whole = client.get(url)
    posten.half_pades = True
    half = client.get(url)
    assert len(half.content) == len(whole.content) // 2 == int(half.headers["content-length"])
    posten.confirm_status, posten.long_term_storage = 200, True
    assert client.post(f"{PORTAL}/{job.id}/status/complete").status_code == 200
    assert client.get(url).status_code == 200


def test_weather_strikes_here_too(client: httpx.Client, server: PostenServer, posten: Posten) -> None:
    job = posten.send(ANNE)
    posten.act(job.id, "SIGNED")
    server.world.weather.add(Storm("posten", StormKind.STATUS, path="pades", status=503))
    url = f"{PORTAL}/{job.id}/pades"
    assert [client.get(url).status_code for _ in range(2)] == [503, 200]
    assert [request.status for request in server.world.requests_to("posten", "pades")] == [503, 200]


# Certificates


def test_only_organisations_with_access_are_admitted(client: httpx.Client, posten: Posten) -> None:
    assert client.get(f"/api/{SENDER}").text == f"You are {SENDER}"
    other = client.get("/api/999999999")
    assert (other.status_code, read_error(other.content).code) == (403, "BROKER_NOT_AUTHORIZED")
    posten.brokers = {SENDER: frozenset({"999999999"})}
    assert client.get("/api/999999999").text == f"You are {SENDER}, operating on behalf of 999999999"
    posten.authorised = frozenset()
    assert read_error(client.get(PORTAL).content).code == "NOT_AUTHORIZED"


def test_a_certificate_of_another_root_is_refused_with_an_alert(
    server: PostenServer, papers: Papers, tmp_path: Path
) -> None:
    certificate, key = Authority("En annen rot").issue("AVSENDER AS", organisation=SENDER)
    (tmp_path / "c.pem").write_bytes(pem_of(certificate))
    (tmp_path / "c.key").write_bytes(pem_of(key))
    stranger = context(papers, tmp_path / "c.pem", tmp_path / "c.key")
    with pytest.raises(httpx.ConnectError, match="ALERT_UNKNOWN_CA"):
        httpx.get(server.url, verify=stranger, trust_env=False, timeout=PATIENCE_SECONDS)


def test_the_keys_that_are_made_are_for_their_owner_alone(papers: Papers) -> None:
    assert {path.stat().st_mode & 0o077 for path in (papers.sender_key, papers.server)} == {0}


def test_switches_are_set_by_requests_too(client: httpx.Client, server: PostenServer, posten: Posten) -> None:
    answer = client.patch(f"{server.url}/_switches/posten", json={"hide_seconds": 0, "error_form": "text"})
    assert answer.status_code == 200
    assert (posten.hide_seconds, posten.error_form) == (0, "text")
    assert client.patch(f"{server.url}/_switches/posten", json={"hidden": 1}).status_code == 422
