"""Reading what Posten signering sends, in the form of its manuals and in the form of the wire."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from shared.errors import UnusableBodyError
from shared.providers._posten_xml import (
    LIMIT_BYTES,
    NAMESPACE,
    Who,
    mask,
    read_created,
    read_error,
    read_signer,
    read_status,
)
from tests.providers.posten_facts import EXAMPLES, example, needs_facts, schema

SIGNED_AT = "2018-08-06T06:40:50.713+02:00"
SIGNATURE = (
    f'<p:signature><p:status since="{SIGNED_AT}">SIGNED</p:status>'
    "<p:personal-identification-number>12345678910</p:personal-identification-number>"
    "<p:xades-url>https://x.example/xades/1</p:xades-url></p:signature>"
)
STATUS = (
    f'<p:portal-signature-job-status-change-response xmlns="urn:unrelated" xmlns:p="{NAMESPACE}">'
    "<p:reference>R-1</p:reference><p:signature-job-id>12087</p:signature-job-id>"
    "<p:status>IN_PROGRESS</p:status><p:confirmation-url>https://x.example/c</p:confirmation-url>"
    f"<p:signatures>{SIGNATURE}<p:pades-url>https://x.example/pades</p:pades-url></p:signatures>"
    "</p:portal-signature-job-status-change-response>"
)


def changed(old: str, new: str) -> bytes:
    assert old in STATUS
    return STATUS.replace(old, new).encode()


def test_a_message_is_read_whatever_its_prefixes() -> None:
    read = read_status(STATUS.encode())
    assert (read.job_id, read.status, read.reference) == ("12087", "IN_PROGRESS", "R-1")
    assert read.confirmation_url == "https://x.example/c"
    assert (read.cancellation_url, read.delete_documents_url) == ("", "")
    assert read.pades_url == "https://x.example/pades"
    [signature] = read.signatures
    assert signature.who == Who(personal_number="12345678910")
    assert (signature.status, signature.xades_url) == ("SIGNED", "https://x.example/xades/1")
    assert signature.since == datetime(2018, 8, 6, 4, 40, 50, 713000, tzinfo=UTC)
    renamed = re.sub("(?<=[</])p:", "ns4:", STATUS).replace("xmlns:p", "xmlns:ns4")
    assert read_status(renamed.encode()) == read
    default = re.sub("(?<=[</])p:", "", STATUS).replace('xmlns="urn:unrelated" xmlns:p=', "xmlns=")
    assert read_status(default.encode()) == read
    with_mark = b"\xef\xbb\xbf" + STATUS.encode()
    assert read_status(with_mark) == read
    assert read_status(f'<?xml version="1.0" encoding="UTF-16"?>{STATUS}'.encode("utf-16")) == read


def test_names_of_another_namespace_are_other_names() -> None:
    with pytest.raises(UnusableBodyError, match="this is foreign"):
        read_status(STATUS.replace(NAMESPACE, "urn:other").encode())
    foreign = '<x:status xmlns:x="urn:x">FAILED</x:status><p:status>'
    assert read_status(changed("<p:status>IN", f"{foreign}IN")).status == "IN_PROGRESS"


def test_what_is_not_known_is_passed_over() -> None:
    more = '<p:new-thing a="1"><p:status>FAILED</p:status></p:new-thing>'
    body = changed("<p:signatures>", f"{more}<p:signatures>{more}")
    assert read_status(body) == read_status(STATUS.encode())


def test_text_is_trimmed_of_line_breaks_and_comments() -> None:
    body = changed("https://x.example/c<", "\n  <!-- old -->\n  https://x<!-- in it -->.example/c\n <?a b?><")
    assert read_status(body).confirmation_url == "https://x.example/c"


@pytest.mark.parametrize(
    "job_id", ["9223372036854775807", "-9223372036854775808", "9007199254740993", "0", "1"]
)
def test_a_job_id_of_64_bits_is_exact(job_id: str) -> None:
    assert read_status(changed("12087", job_id)).job_id == job_id
    assert read_status(changed("12087", f" +00{job_id} " if job_id == "1" else job_id)).job_id == job_id


@pytest.mark.parametrize(
    "job_id", ["9223372036854775808", "1.0", "1e3", "", "0x1", "१२", "1 2", "9" * 400, "--1"]
)
def test_what_is_no_such_number_is_refused(job_id: str) -> None:
    with pytest.raises(UnusableBodyError, match="signature-job-id"):
        read_status(changed("12087", job_id))


@pytest.mark.parametrize(
    "name",
    ["signature-job-id", "status", "confirmation-url", "signatures"],
)
def test_what_is_needed_is_missed_by_name(name: str) -> None:
    body = re.sub(f"<p:{name}>.*?</p:{name}>", "", STATUS, count=1)
    with pytest.raises(UnusableBodyError, match=f"{name} is missing"):
        read_status(body.encode())


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (SIGNATURE, "", "signature must stand there 1 to 10 times, not 0"),
        (SIGNATURE, SIGNATURE * 11, "not 11"),
        ("<p:status>IN", "<p:status>FAILED</p:status><p:status>IN", "status stands there 2 times"),
        ("12345678910", "1234567891", "eleven digits"),
        ("SIGNED</p:status>", "</p:status>", "status is missing or empty"),
        (
            "<p:personal-identification-number>12345678910</p:personal-identification-number>",
            "",
            "neither",
        ),
        (
            "<p:personal-identification-number>12345678910</p:personal-identification-number>",
            "<p:identifier><p:email/></p:identifier>",
            "names neither",
        ),
        ("https://x.example/c<", "https://x.example/" + "c" * 500 + "<", "confirmation-url is longer"),
    ],
)
def test_what_cannot_be_right_is_refused_with_a_reason(old: str, new: str, word: str) -> None:
    with pytest.raises(UnusableBodyError, match=word) as refused:
        read_status(changed(old, new))
    assert "1234567891" not in str(refused.value)


@pytest.mark.parametrize(
    "start",
    [
        "<!DOCTYPE x>",
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    ],
)
def test_a_doctype_is_refused_and_nothing_outside_is_read(start: str) -> None:
    for text in (STATUS, STATUS.replace("R-1", "&e;"), STATUS.replace("R-1", "&b;")):
        with pytest.raises(UnusableBodyError, match=r"DOCTYPE|well-formed"):
            read_status(f"{start}{text}".encode())


def test_entities_that_grow_are_never_unfolded() -> None:
    grown = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 50}">' for n in range(1, 12))
    body = f'<!DOCTYPE x [<!ENTITY e0 "x">{grown}]>{STATUS.replace("R-1", "&e11;")}'
    with pytest.raises(UnusableBodyError):
        read_status(body.encode())


@pytest.mark.parametrize("body", [b"", b"{}", b"<a>", b"\xff", b"plain text", STATUS[:-3].encode()])
def test_what_is_no_xml_is_refused_without_being_quoted(body: bytes) -> None:
    with pytest.raises(UnusableBodyError, match=r"not well-formed XML$"):
        read_status(body)


def test_a_message_that_is_far_too_long_is_not_parsed() -> None:
    with pytest.raises(UnusableBodyError, match="longer than"):
        read_status(changed("R-1", "R" * LIMIT_BYTES))


@given(st.binary(max_size=300))
def test_no_bytes_make_it_crash(body: bytes) -> None:
    with pytest.raises(UnusableBodyError):
        read_status(body)


@pytest.mark.parametrize(
    ("since", "microsecond"),
    [
        ("2026-11-22T08:00:00Z", 0),
        ("2026-11-22T09:00:00+01:00", 0),
        ("2026-11-22T08:00:00.5Z", 500_000),
        ("2026-11-22T08:00:00.123456789Z", 123_456),
    ],
)
def test_since_is_an_instant_with_or_without_a_fraction(since: str, microsecond: int) -> None:
    [signature] = read_status(changed(SIGNED_AT, since)).signatures
    assert signature.since == datetime(2026, 11, 22, 8, 0, 0, microsecond, tzinfo=UTC)


@pytest.mark.parametrize("since", ["", "2026-11-22T08:00:00", "yesterday"])
def test_since_may_be_absent_or_say_nothing(since: str) -> None:
    assert read_status(changed(SIGNED_AT, since)).signatures[0].since is None


def test_signers_known_by_contact_information_are_told_apart_by_the_pair() -> None:
    def known_by(inside: str) -> str:
        return SIGNATURE.replace(
            "<p:personal-identification-number>12345678910</p:personal-identification-number>",
            f"<p:identifier>{inside}</p:identifier>",
        )

    email = '<p:email address=" a@b.example "/>'
    both = f'{email}<p:sms number="12345678"/>'
    read = read_status(changed(SIGNATURE, known_by(email) + known_by(both)))
    assert [signature.who for signature in read.signatures] == [
        Who(email="a@b.example"),
        Who(email="a@b.example", mobile="12345678"),
    ]
    assert [signature.who.label for signature in read.signatures] == [
        "a@b.example",
        "a@b.example 12345678",
    ]


def test_a_personal_number_is_shown_by_its_first_six_digits_alone() -> None:
    who = Who(personal_number="01013312345")
    assert who.label == "010133*****"
    assert "12345" not in repr(read_status(changed("12345678910", "01013312345")))
    assert mask("kunde 01013312345, 010133123456 og 123") == "kunde 010133*****, 010133123456 og 123"
    assert Who(custom="kunde 01013312345").label == "kunde 010133*****"


# The direct flow, created jobs and errors

DIRECT = (
    f'<direct-signature-job-status-response xmlns="{NAMESPACE}"><signature-job-id>1</signature-job-id>'
    '<signature-job-status>COMPLETED_SUCCESSFULLY</signature-job-status><status since="">SIGNED</status>'
    "<xades-url>https://x.example/xades/1</xades-url></direct-signature-job-status-response>"
)


def test_a_direct_job_of_one_signer_need_not_name_it_and_need_not_be_confirmed() -> None:
    read = read_status(DIRECT.encode())
    assert (read.job_id, read.status, read.confirmation_url) == ("1", "COMPLETED_SUCCESSFULLY", "")
    assert [(s.who, s.xades_url) for s in read.signatures] == [(Who(), "https://x.example/xades/1")]
    named = DIRECT.replace("<xades-url>", '<xades-url signer="a">')
    assert read_status(named.encode()).signatures[0].xades_url == "https://x.example/xades/1"


def test_answers_that_are_something_else_are_refused() -> None:
    for read in (read_status, read_created, read_error, read_signer):
        with pytest.raises(UnusableBodyError, match="root must be"):
            read(f'<portal-signature-job-manifest xmlns="{NAMESPACE}"/>'.encode())


@needs_facts
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*-status-*.xml")), ids=lambda path: str(path.stem))
def test_every_status_example_of_the_provider_is_valid_and_read(path: Path) -> None:
    body = path.read_bytes()
    read = read_status(body)
    schema().assertValid(etree.fromstring(body))
    assert read.job_id in {"1", "2", "12087"}
    assert all(signature.status and signature.since for signature in read.signatures)


@needs_facts
def test_examples_of_new_jobs_signers_and_errors_are_read() -> None:
    portal = read_created(example("portal-response.xml"))
    assert (portal.job_id, portal.status_url, portal.signers) == ("1", "", ())
    assert portal.cancellation_url.endswith("/portal/signature-jobs/1/cancel")
    direct = read_created(example("direct-response.xml"))
    assert direct.status_url.endswith("/direct/signature-jobs/1/status")
    [signer] = direct.signers
    assert signer.redirect_url.startswith("https://signering.posten.no#/redirect/421e")
    assert read_signer(example("direct-signer-response.xml")) == signer
    error = read_error(example("error-asice-wire-form.xml"))
    assert (error.code, error.type) == ("ASICE_VALIDATION_FAILED", "CLIENT")
    assert read_error(example("error-broker-not-authorized.xml")).code == "BROKER_NOT_AUTHORIZED"


@needs_facts
def test_two_signers_of_the_direct_flow_have_each_their_own_file() -> None:
    read = read_status(example("direct-status-completed-two-signers.xml"))
    assert [(s.who.label, s.xades_url[-1]) for s in read.signatures] == [
        ("123abc", "1"),
        ("109876*****", "2"),
    ]
