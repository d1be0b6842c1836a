"""A job for Posten signering: what is sent of it, and what is seen beforehand not to work."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from lxml import etree

from shared.errors import UsageError
from shared.providers._posten_job import (
    MAX_AVAILABLE_SECONDS,
    MAX_TOTAL_BYTES,
    ExitUrls,
    Job,
    JobDocument,
    JobSigner,
    check,
    entry_name,
    manifest,
    request_document,
)
from shared.providers._posten_xml import Who
from simulator.files import make_pdf
from tests.providers.posten_facts import example, needs_facts, schema

PDF = make_pdf("Avtale")
ANNE = JobSigner(Who("01013300001", email="anne@example.com"))
BO = JobSigner(Who(email="bo@example.com", mobile="+47 900 00 000"), order=1, on_behalf_of="OTHER")


def document(title: str = "Avtale", content: bytes = PDF, place: int = 0) -> JobDocument:
    return JobDocument(title, content, entry_name(place, title, "application/pdf"))


def make_job(**changes: Any) -> Job:
    job = Job("ref-1", "123456789", "Tittel på oppdrag", (ANNE, BO), (document(),))
    return replace(job, **changes)


FULL = make_job(
    nonsensitive_title="En avtale",
    description="Les <nøye> & skriv under",
    queue="kø 7",
    documents=(document(), document("Vedlegg 1 (Ærlig).pdf", place=1)),
    signers=(
        JobSigner(Who("01013300001"), lookup=True, lookup_sms=True, signature_type=None, order=0),
        JobSigner(
            Who("02038412546", "x@example.com", "90000000"),
            signature_type="AUTHENTICATED_ELECTRONIC_SIGNATURE",
            on_behalf_of="SELF",
        ),
    ),
    authentication="3",
    activation=datetime(2026, 12, 1, 8, tzinfo=UTC),
    available_seconds=864_000,
    identifier="NAME",
)
DIRECT = make_job(
    signers=(JobSigner(Who(custom="kunde 1337")), JobSigner(Who("01013300001"), on_behalf_of="SELF")),
    exit_urls=ExitUrls("https://a.example/?a=1&b=2", "https://a.example/r", "https://a.example/e"),
    identifier="DATE_OF_BIRTH_AND_NAME",
)


@needs_facts
@pytest.mark.parametrize(
    "job",
    [make_job(), FULL, DIRECT, replace(DIRECT, queue="q"), make_job(queue="q")],
    ids=["least", "full", "direct", "direct-polled", "queue"],
)
def test_what_is_sent_is_valid_by_the_schema(job: Job) -> None:
    for content in (manifest(job), request_document(job)):
        schema().assertValid(etree.fromstring(content))


@needs_facts
def test_the_manifest_says_what_the_golden_one_says() -> None:
    job = Job(
        "r",
        "123456789",
        "Sample agreement",
        (
            JobSigner(Who("12345678910", "signer1@example.com", "00000000"), order=1),
            JobSigner(Who("10987654321", "signer2@example.com"), order=2),
            JobSigner(Who("01013300001"), order=2, lookup=True, lookup_sms=True),
            JobSigner(Who("02038412546"), order=3, lookup=True),
        ),
        (),
    )
    golden = etree.fromstring(example("portal-manifest-four-signers.xml"))
    ours = etree.fromstring(manifest(job))
    assert _shape(ours[0]) == _shape(golden[0])


def _shape(element: etree._Element) -> object:
    return (
        element.tag,
        sorted(element.attrib.items()),
        (element.text or "").strip(),
        [*map(_shape, element)],
    )


def test_texts_come_out_as_they_went_in() -> None:
    root = etree.fromstring(manifest(FULL))
    texts = {etree.QName(element).localname: element.text for element in root.iter()}
    assert texts["description"] == "Les <nøye> & skriv under"
    assert texts["available-seconds"] == "864000"
    assert texts["activation-time"] == "2026-12-01T08:00:00.000+00:00"
    assert b"k\xc3\xb8 7" in request_document(FULL)


def test_names_in_the_package_need_no_encoding() -> None:
    assert entry_name(0, "Sample agreement.PDF", "application/pdf") == "0000_sample_agreement.pdf"
    assert entry_name(1, "Ærlig (1).pdf", "application/pdf") == "0001_rlig_1.pdf"
    assert entry_name(12, "日本", "text/plain") == "0012_document.txt"
    assert entry_name(0, "../../etc/passwd\0", "application/pdf") == "0000_etc_passwd.pdf"
    assert len(entry_name(0, "x" * 300, "application/pdf")) <= 100


@pytest.mark.parametrize("job", [make_job(), replace(FULL, documents=(document(),)), DIRECT])
def test_a_job_within_the_limits_is_taken(job: Job) -> None:
    check(job)


def test_a_job_at_the_limits_is_taken() -> None:
    long = "x" * 80
    filler = b"%PDF-1.7\n" + b"x" * (MAX_TOTAL_BYTES - 9 - 19 * len(PDF))
    check(
        make_job(
            reference="r" * 50,
            title=long,
            nonsensitive_title=long,
            description="y" * 220,
            available_seconds=MAX_AVAILABLE_SECONDS,
            documents=(
                document(long, filler),
                *(document(f"{n}", place=n) for n in range(1, 20)),
            ),
            signers=tuple(JobSigner(Who(email=f"a{n}@b.example"), order=n) for n in range(10)),
        )
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"reference": ""}, "reference must have 1 to 50"),
        ({"reference": "r" * 51}, "it has 51"),
        ({"reference": "a-01013300001"}, "personal number"),
        ({"title": ""}, "title must have"),
        ({"title": "x\x01"}, "XML cannot carry"),
        ({"nonsensitive_title": "x" * 81}, "non-sensitive title"),
        ({"description": "x" * 221}, "description"),
        ({"sender": "12345678"}, "9 digits"),
        ({"available_seconds": MAX_AVAILABLE_SECONDS + 1}, "90 days"),
        ({"available_seconds": 0}, "90 days"),
        ({"activation": datetime(2026, 1, 1)}, "zone"),  # noqa: DTZ001
        ({"documents": ()}, "1 to 20 documents"),
        ({"documents": tuple(document(str(n), place=n) for n in range(21))}, "has 21"),
        ({"documents": (document(), document())}, "same name"),
        ({"documents": (document(content=b""),)}, "document 1 is empty"),
        ({"documents": (document(content=b"%PDF-2.0\n"),)}, "1.1 to 1.7"),
        ({"documents": (document(content=b"MZ"),)}, "1.1 to 1.7"),
        ({"documents": (document(content=PDF + b"<</Encrypt 5 0 R>>"),)}, "password"),
        ({"documents": (document(content=b"%PDF-1.7" + bytes(MAX_TOTAL_BYTES)),)}, "10485768 bytes"),
        ({"documents": (replace(document(), media_type="image/png"),)}, "neither a PDF"),
        ({"documents": (document("x" * 81),)}, "title of document 1"),
        ({"signers": ()}, "1 to 10 signers"),
        ({"signers": tuple(JobSigner(Who(email=f"{n}@b.example")) for n in range(11))}, "has 11"),
        ({"signers": (BO, BO)}, "two signers are the same"),
        ({"signers": (ANNE, replace(ANNE, who=Who("01013300001", "b@b.example")))}, "are the same"),
        ({"signers": (JobSigner(Who("0101330000")),)}, "signer 1: the personal number must"),
        ({"signers": (JobSigner(Who("01013300001")),)}, "e-mail address or a mobile number is needed"),
        ({"signers": (JobSigner(Who(email="anne")),)}, "e-mail address is none"),
        ({"signers": (JobSigner(Who(mobile="ring meg")),)}, "mobile number"),
        ({"signers": (replace(ANNE, order=10),)}, "order must be 0 to 9"),
        ({"signers": (replace(ANNE, lookup=True),)}, "looked up, or it is given"),
        ({"signers": (JobSigner(Who(), lookup=True),)}, "only by a personal number"),
        ({"signers": (JobSigner(Who("01013300001"), lookup=True, on_behalf_of="OTHER"),)}, "on behalf"),
        ({"signers": (JobSigner(Who("01013300001"), lookup=True), BO)}, "does not go together"),
        (
            {
                "signers": (JobSigner(Who("01013300001"), lookup=True),),
                "documents": (document(), document("B", place=1)),
            },
            "advanced signature takes one document",
        ),
        ({"signers": (JobSigner(Who(custom="x")),)}, "direct flow alone"),
        ({"exit_urls": DIRECT.exit_urls}, "order and notifications"),
        ({"exit_urls": DIRECT.exit_urls, "signers": (JobSigner(Who()),)}, "either a personal number or"),
        ({"exit_urls": DIRECT.exit_urls, "available_seconds": 5}, "30 days"),
        ({"exit_urls": DIRECT.exit_urls, "signers": (JobSigner(Who(custom="x" * 81)),)}, "at most 80"),
    ],
)
def test_what_the_service_would_refuse_is_said_beforehand(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word) as refused:
        check(make_job(**changes))
    assert "01013300001" not in str(refused.value)


def test_every_problem_is_said_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        check(make_job(title="", sender="x", signers=()))
    assert str(refused.value).count(";") == 2
