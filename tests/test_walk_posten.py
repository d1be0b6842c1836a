"""Posten signering's story, end to end: real processes, mutual TLS, queues, files, confirmations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.spool import Folder
from signspool.cli import run as signspool
from simulator.certificates import Authority, pem_of
from simulator.weather import Storm, StormKind
from tests.conftest import make_database
from tests.nursery import Nursery
from tests.posten_story import ANNE, BO, NUMBER, PostenStory, one_for_each_database, signed_digest, told


@pytest.fixture(scope="module")
def stories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery
) -> Iterator[Callable[[str], PostenStory]]:
    """One installation for each database, made when it is asked for, with both tiers running."""
    with one_for_each_database(
        request, tmp_path_factory, nursery, lambda made: made.start("api", "processor")
    ) as make:
        yield make


@pytest.fixture
def story(stories: Callable[[str], PostenStory]) -> Iterator[PostenStory]:
    made = stories("sqlite")
    made.world.weather.clear()
    yield made
    made.posten.hide_seconds, made.posten.stale = 600.0, False
    assert made.posten.unstored == []


def outcomes(found: dict[str, object]) -> list[str]:
    events = found["events"]
    assert isinstance(events, list)
    return [event["outcome"] for event in events]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_job_is_followed_from_its_first_signature_to_its_confirmation(
    stories: Callable[[str], PostenStory], kind: str
) -> None:
    story = stories(kind)
    posten = story.posten
    job = story.send(ANNE, BO, reference="2026-0042")
    posten.act(job.id, "SIGNED", 0)
    found = story.until_confirmed(job, "IN_PROGRESS")
    assert found["status"] == "pending"
    assert found["learned"]["signer.bo@example.com"].startswith("WAITING")
    assert not job.is_gone
    posten.act(job.id, "SIGNED", 1)
    said = posten.status_message(job)
    digest = signed_digest(posten, job)
    found = story.until_confirmed(job, "COMPLETED_SUCCESSFULLY")
    assert job.confirmations == ["IN_PROGRESS", "COMPLETED_SUCCESSFULLY"]
    assert posten.unstored == []
    assert posten.summary["jobs"][-1]["gone"]
    assert found["status"] == "completed"
    assert outcomes(found) == ["unchanged", "applied"]
    assert {(event["origin"], event["trust"]) for event in found["events"]} == {("poll", "proven")}
    assert found["learned"]["signer.bo@example.com"].startswith("SIGNED")
    assert story.archived(job) == [digest]
    assert [item.file.sha256 for item in story.world.smartshare.attachments].count(digest) == 1
    # What was said lies there byte for byte.
    kept = [
        json.loads(story.spool.read(Folder.DONE, entry))
        for entry in story.spool.entries(Folder.DONE)
        if entry.name.startswith(f"{job.id}_")
    ]
    assert said.decode() in [record["originalPayload"] for record in kept]
    assert {record["receipt"]["encoding"] for record in kept} == {"text"}


def test_jobs_that_fail_are_confirmed_and_say_why(story: PostenStory) -> None:
    ends = {"REJECTED": "declined", "EXPIRED": "expired", "CANCELLED": "cancelled", "EATEN_BY_BIRD": "failed"}
    jobs = {}
    for word in ends:
        jobs[word] = story.send(ANNE, queue="named")
        if word in ("EXPIRED", "CANCELLED"):
            story.posten.end(jobs[word].id, word)
        else:
            story.posten.act(jobs[word].id, word)
    for word, status in ends.items():
        found = story.until_confirmed(jobs[word], "FAILED")
        assert found["status"] == status
        assert found["events"][0]["message"] == f"010133*****: {word}"
        assert story.archived(jobs[word]) == []


def test_nothing_is_confirmed_before_its_files_are_there_however_often_it_comes_again(
    story: PostenStory,
) -> None:
    """While the download fails, the update comes again and again; nothing is doubled by that."""
    posten = story.posten
    posten.hide_seconds = 0.5
    story.world.weather.add(Storm("posten", StormKind.STATUS, path="pades", status=503, times=None))
    job = story.send(ANNE)
    posten.act(job.id, "SIGNED")
    digest = signed_digest(posten, job)
    story.wait(lambda: len(story.shown(job)["events"]) >= 3, "the update to come again twice")
    assert job.confirmations == []
    story.world.weather.clear()
    posten.hide_seconds = 600.0
    found = story.until_confirmed(job, "COMPLETED_SUCCESSFULLY")
    assert outcomes(found)[0] == "applied"
    assert set(outcomes(found)[1:]) == {"repeated"}
    assert story.archived(job) == [digest]
    assert [item.file.sha256 for item in story.world.smartshare.attachments].count(digest) == 1
    # What was told several times before it was confirmed is confirmed once.
    confirmed = story.world.requests_to("posten", f"/{job.id}/status/complete")
    assert len(confirmed) < len(found["events"])


def test_a_cut_off_pdf_is_not_taken_for_the_signed_one(story: PostenStory) -> None:
    posten = story.posten
    job = story.send(ANNE)
    posten.act(job.id, "SIGNED")
    digest = signed_digest(posten, job)
    posten.half_pades = True
    story.wait(lambda: len(story.world.requests_to("posten", f"/{job.id}/pades")) >= 2, "two downloads")
    assert job.confirmations == []
    posten.half_pades = False
    story.until_confirmed(job, "COMPLETED_SUCCESSFULLY")
    assert story.archived(job) == [digest]


def test_a_file_that_is_gone_is_an_alarm_and_nothing_is_confirmed_until_it_is_there(
    story: PostenStory,
) -> None:
    posten = story.posten
    before = story.count(Folder.QUARANTINE)
    story.world.weather.add(Storm("posten", StormKind.STATUS, path="pades", status=404, times=None))
    job = story.send(ANNE)
    posten.act(job.id, "SIGNED")
    digest = signed_digest(posten, job)
    story.wait(lambda: story.count(Folder.QUARANTINE) == before + 1, "the entry to be put aside")
    assert job.confirmations == []
    [failed] = [item for item in story.shown(job)["owed"] if item["task"] == "fetch"]
    assert "not stored here" in failed["last_error"]
    assert [line for line in story.log("processor").splitlines() if '"delivery.failed"' in line]
    story.world.weather.clear()
    assert signspool(["deliveries", "retry", str(failed["id"]), "--config", str(story.config)]) == 0
    story.until_confirmed(job, "COMPLETED_SUCCESSFULLY")
    assert story.archived(job) == [digest]


def test_a_confirmation_whose_answer_is_lost_is_made_again(story: PostenStory) -> None:
    story.world.weather.add(
        Storm("posten", StormKind.RESET, path="status/complete", after_acting=True),
        Storm("posten", StormKind.STATUS, path="status/complete", status=503),
    )
    job = story.send(ANNE)
    story.posten.act(job.id, "SIGNED")
    found = story.until_confirmed(job, "COMPLETED_SUCCESSFULLY")
    confirmed = story.world.requests_to("posten", f"/{job.id}/status/complete")
    assert [request.status for request in confirmed][-1] in (204, 404)
    assert len(confirmed) >= 2
    assert {item["state"] for item in found["deliveries"]} == {"done"}


def test_an_old_update_that_comes_late_moves_nothing_back_and_is_confirmed(story: PostenStory) -> None:
    posten = story.posten
    posten.long_term_storage = True
    posten.hide_seconds, posten.stale = 1.0, True
    job = story.send(ANNE, BO)
    story.world.weather.add(Storm("posten", StormKind.STATUS, path="status/complete", status=503, times=2))
    posten.act(job.id, "SIGNED", 0)
    story.wait(lambda: story.knows("posten", str(job.id)) and bool(story.shown(job)["events"]), "news")
    posten.act(job.id, "SIGNED", 1)
    found = story.until_confirmed(job, "COMPLETED_SUCCESSFULLY")
    story.wait(lambda: posten.waiting() == 0, "every update to be confirmed")
    posten.long_term_storage = False
    found = story.shown(job)
    assert found["status"] == "completed"
    assert found["learned"]["job_status"] == "COMPLETED_SUCCESSFULLY"
    assert found["learned"]["signer.bo@example.com"].startswith("SIGNED")


def test_what_is_not_understood_goes_to_quarantine_and_is_not_confirmed(story: PostenStory) -> None:
    posten = story.posten

    def reasons() -> int:
        return story.everything_written().count("job status FROZEN is not known")

    before, told = story.count(Folder.QUARANTINE), reasons()
    job = story.send(ANNE, queue="named")
    posten.stale = True
    with posten._lock:
        posten.act(job.id, "SIGNED")
        [item] = posten._queues["123456789", "portal", "named"]
        item.shown = posten.status_message(job).replace(b"COMPLETED_SUCCESSFULLY", b"FROZEN")
        item.shown_status = "FROZEN"
    story.wait(lambda: story.count(Folder.QUARANTINE) == before + 1, "the update to be put aside")
    # Its reason is written once it lies there.
    story.wait(lambda: reasons() > told, "the reason")
    assert job.confirmations == []
    posten._queues["123456789", "portal", "named"].clear()


def test_no_personal_number_is_written_but_in_what_the_provider_said(
    story: PostenStory, capsys: pytest.CaptureFixture[str]
) -> None:
    job = story.send(ANNE, reference="x")
    story.posten.act(job.id, "REJECTED")
    story.until_confirmed(job, "FAILED")
    for command in (
        ("documents", "show", "posten", str(job.id)),
        ("documents", "show", "posten", str(job.id), "--json"),
        ("documents", "ls"),
        ("spool", "ls"),
    ):
        assert signspool([*command, "--config", str(story.config)]) == 0
    listed = capsys.readouterr().out
    assert "010133*****" in listed
    assert NUMBER not in listed + story.everything_written()


def test_the_permitted_time_is_obeyed_by_every_life_of_the_daemon(story: PostenStory) -> None:
    """One that is killed between an answer and its note may ask early; one that ends in order does not."""

    def polls(status: int) -> int:
        told = story.world.requests_to("posten", "signature-jobs")
        return [request.status for request in told if not request.path.endswith("complete")].count(status)

    def until_begun(life: int) -> None:
        story.wait(lambda: story.log("processor").count('"processor.started"') == life, "the next life")

    posten = story.posten
    refused = polls(429)
    posten.wait_seconds = 4.0
    before = polls(204)
    story.wait(lambda: polls(204) >= before + 3, "every queue to be found empty")
    for life in (2, 3):
        assert story.stop("processor") == 0
        story.start("processor")
        until_begun(life)
    begun = polls(204)
    story.wait(lambda: polls(204) >= begun + 3, "every queue to be asked again")
    posten.wait_seconds = 0.1
    assert polls(429) == refused


def test_a_refused_certificate_is_one_alarm_that_says_so(
    request: pytest.FixtureRequest, tmp_path: Path, nursery: Nursery
) -> None:
    with make_database("sqlite", tmp_path, request) as url, told(tmp_path, url, nursery) as story:
        certificate, key = Authority("En annen rot").issue("AVSENDER AS", organisation="123456789")
        story.server.papers.sender.write_bytes(pem_of(certificate))
        story.server.papers.sender_key.write_bytes(pem_of(key))
        job = story.send(ANNE)
        story.posten.act(job.id, "SIGNED")
        story.start("processor")
        story.wait(lambda: "provider.refuses_us" in story.everything_written(), "the alarm")
        said = story.log("processor")
        assert "it refused our certificate: its issuer is not known there" in said
        assert said.count("provider.refuses_us") == 1
        assert story.world.requests_to("posten") == []
