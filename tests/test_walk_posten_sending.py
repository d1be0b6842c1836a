"""Sending through Posten signering, end to end: the command, mutual TLS, browsers that come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from processor.sending import Sending
from shared.errors import AccessError, HeldError, UsageError
from shared.settings import load_settings
from signspool.outgoing import Wish, cancel_document, send_documents
from simulator.files import make_pdf
from simulator.posten_jobs import Job
from simulator.weather import Storm, StormKind
from tests.conftest import make_database
from tests.nursery import Nursery
from tests.posten_story import NUMBER, PostenStory, signed_digest, told
from tests.waiting import PATIENCE_SECONDS

SIGNER = {"personal_number": NUMBER, "email": "anne@example.com"}


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery
) -> Iterator[PostenStory]:
    home = tmp_path_factory.mktemp("posten")
    with make_database("sqlite", home, request) as url, told(home, url, nursery) as story:
        (home / "Avtale om ø.pdf").write_bytes(make_pdf("Avtale"))
        story.start("api", "processor")
        yield story


@pytest.fixture
def story(running: PostenStory) -> PostenStory:
    running.world.weather.clear()
    return running


def send(story: PostenStory, reference: str, *, title: str = "", **more: Any) -> tuple[Job, Sending]:
    """Send as a program of the company does; starting a command takes longer than all else here."""
    wish = Wish(
        provider="posten",
        files=[story.home / "Avtale om ø.pdf"],
        reference=reference,
        title=title,
        signers=[more.pop("signer", SIGNER)],
        options=more,
    )
    sending = send_documents(load_settings(story.config, environ={}), wish)
    return story.posten.jobs[int(sending.envelope_id)], sending


def test_a_job_is_sent_by_the_command_once_for_its_reference_signed_and_filed(story: PostenStory) -> None:
    told = ("--reference", "2026-77", "--option", "queue=named", "--json")
    signer = ",".join(f"{name}={text}" for name, text in SIGNER.items())
    file = str(story.home / "Avtale om ø.pdf")
    ran = story.run("documents", "send", "--provider", "posten", file, "--signer", signer, *told)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    job = story.posten.jobs[int(said["envelope_id"])]
    assert (job.new.reference, job.new.title, job.new.queue) == ("2026-77", "Avtale om ø", "named")
    assert list(job.new.documents.values()) == [make_pdf("Avtale")]
    assert [document["document_id"] for document in said["documents"]] == [str(job.id)]
    again, second = send(story, "2026-77", queue="named")
    assert again is job
    assert second.was_sent_before
    found = story.shown(job)
    assert found["references"]["reference"] == "2026-77"
    assert found["references"]["cancellation_url"].endswith("/cancel")
    story.posten.act(job.id, "SIGNED")
    digest = signed_digest(story.posten, job)
    story.wait(lambda: "COMPLETED_SUCCESSFULLY" in job.confirmations, "the job to be confirmed")
    story.wait(lambda: story.archived(job) == [digest], "the signed file in the archive")
    assert story.posten.unstored == []
    assert NUMBER not in story.everything_written()


def test_a_job_is_cancelled_and_its_status_comes_by_the_queue(story: PostenStory) -> None:
    job, _ = send(story, "2026-78")
    settings = load_settings(story.config, environ={})
    assert "by the queue" in cancel_document(settings, "posten", str(job.id))
    story.wait(lambda: story.shown(job)["status"] == "cancelled", "the status to change")
    story.wait(lambda: job.confirmations == ["FAILED"], "the end to be confirmed")
    assert "ended already" in cancel_document(settings, "posten", str(job.id))


def test_what_cannot_be_sent_is_said_before_anything_is_asked(story: PostenStory) -> None:
    jobs, asked = len(story.posten.jobs), len(story.world.requests)
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"queue": "nobody"}, "asked by nobody"),
        ({"authentication": "5"}, "authentication"),
        ({"title": "x" * 81}, "1 to 80 characters"),
    )
    for more, word in wrong:
        with pytest.raises(UsageError, match=word) as refused:
            send(story, "2026-79", **more)
        assert NUMBER not in str(refused.value)
    who_are_we = [request for request in story.world.requests[asked:] if request.path == "/api/123456789"]
    assert (who_are_we, len(story.posten.jobs)) == ([], jobs)


def test_an_unknown_outcome_is_held_until_the_queue_tells_of_the_job(story: PostenStory) -> None:
    """The job was made and the answer lost: it is not made again, and its first update says what it is."""
    posten = story.posten
    before = set(posten.jobs)
    story.kill("processor")
    story.world.weather.add(
        Storm("posten", StormKind.RESET, path="portal/signature-jobs?", after_acting=True)
    )
    for _ in range(2):
        with pytest.raises(HeldError, match="--again"):
            send(story, "2026-80")
    [made] = set(posten.jobs) - before
    story.start("processor")
    posten.act(made, "SIGNED")
    story.wait(lambda: "COMPLETED_SUCCESSFULLY" in posten.jobs[made].confirmations, "its confirmation")
    job, sending = send(story, "2026-80")
    assert (job.id, sending.was_sent_before) == (made, True)
    assert set(posten.jobs) - before == {made}


def test_a_browser_of_the_direct_flow_makes_its_job_asked_about(story: PostenStory) -> None:
    job, sending = send(story, "2026-81", direct=True, signer={"identifier": "kunde 7"})
    assert sending.redirect_url == job.signers[0].redirects[-1]
    forged = f"{story.url}/api/return?provider=posten&reference=2026-81&status_query_token=forged"
    assert httpx.get(forged, verify=False, timeout=PATIENCE_SECONDS).status_code == 200
    back = story.posten.act(job.id, "SIGNED")
    digest = signed_digest(story.posten, job)
    assert back.startswith(f"{story.url}/api/return?provider=posten&reference=2026-81&outcome=completed&")
    assert httpx.get(back, verify=False, timeout=PATIENCE_SECONDS).status_code == 200
    story.wait(lambda: "COMPLETED_SUCCESSFULLY" in job.confirmations, "the job to be confirmed")
    assert story.posten.unstored == []
    story.wait(lambda: story.archived(job) == [digest], "the signed file in the archive")


def test_a_direct_job_that_is_polled_comes_by_its_queue(story: PostenStory) -> None:
    job, _ = send(story, "2026-82", direct=True, queue="d", signer={"personal_number": NUMBER})
    story.posten.act(job.id, "REJECTED")
    story.wait(lambda: job.confirmations == ["FAILED"], "the refusal to be confirmed")
    assert story.shown(job)["status"] == "declined"


def test_a_sender_that_may_not_is_told_so_before_a_job_is_made(story: PostenStory) -> None:
    jobs = len(story.posten.jobs)
    file = story.home / "Avtale om ø.pdf"
    wish = Wish(provider="posten", files=[file], reference="2026-83", signers=[SIGNER])
    wrong = {"SIGNSPOOL_PROVIDERS__POSTEN__SENDER": "987654321"}
    with pytest.raises(AccessError, match="BROKER_NOT_AUTHORIZED"):
        send_documents(load_settings(story.config, environ=wrong), wish)
    assert len(story.posten.jobs) == jobs
