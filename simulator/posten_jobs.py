"""A job of the simulated Posten signering, and the messages about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from lxml import etree

from simulator.posten_wire import NewJob, Person, Writer, add_person

Flow = Literal["portal", "direct"]
FINAL = frozenset({"COMPLETED_SUCCESSFULLY", "FAILED"})
_OSLO = ZoneInfo("Europe/Oslo")


@dataclass
class Signer:
    """Somebody who signs. `redirects` are the one-time addresses of the direct flow, newest last."""

    person: Person
    order: int
    status: str
    since: datetime
    redirects: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """By what messages of the direct flow name it."""
        return self.person.personal_number or self.person.custom


@dataclass
class Job:
    """A signature job. `token` is the last one that a browser was sent back with."""

    id: int
    sender: str
    flow: Flow
    new: NewJob
    signers: list[Signer]
    is_gone: bool = False
    documents_deleted: bool = False
    confirmations: list[str] = field(default_factory=list)
    """The status that each confirmation was of."""
    token: str = ""

    @property
    def status(self) -> str:
        """Of the whole job."""
        words = [signer.status for signer in self.signers]
        if all(word == "SIGNED" for word in words):
            return "COMPLETED_SUCCESSFULLY"
        return "IN_PROGRESS" if set(words) <= {"SIGNED", "WAITING"} else "FAILED"

    @property
    def is_signed(self) -> bool:
        """Whether anybody has signed."""
        return any(signer.status == "SIGNED" for signer in self.signers)


def portal_status(job: Job, base_url: str, *, wire: bool, word: str) -> bytes:
    """The state of a job of the portal flow; a `word` stands in place of every signer's status."""
    writer = Writer("portal-signature-job-status-change-response", wire=wire)
    writer.add_some(reference=job.new.reference, signature_job_id=str(job.id), status=job.status)
    writer.add("confirmation-url", url(job, base_url, "status/complete"))
    if job.status == "IN_PROGRESS":
        writer.add("cancellation-url", url(job, base_url, "cancel"))
    elif not job.documents_deleted:
        writer.add("delete-documents-url", url(job, base_url, "delete-documents"))
    signatures = writer.add("signatures")
    for place, signer in enumerate(job.signers):
        signature = writer.add("signature", to=signatures)
        writer.add("status", word or signer.status, to=signature, since=instant_text(signer.since))
        add_person(writer, signature, signer.person)
        if signer.status == "SIGNED":
            writer.add("xades-url", url(job, base_url, f"xades/{place + 1}"), to=signature)
    if job.is_signed:
        writer.add("pades-url", url(job, base_url, "pades"), to=signatures)
    return writer.bytes


def direct_status(job: Job, base_url: str, *, wire: bool, word: str) -> bytes:
    """The state of a job of the direct flow."""
    writer = Writer("direct-signature-job-status-response", wire=wire)
    writer.add_some(reference=job.new.reference, signature_job_id=str(job.id))
    writer.add("signature-job-status", job.status)
    for signer in job.signers:
        since = instant_text(signer.since)
        writer.add("status", word or signer.status, signer=signer.name, since=since)
    writer.add("confirmation-url", url(job, base_url, "status/complete"))
    for place, signer in enumerate(job.signers):
        if signer.status == "SIGNED":
            writer.add("xades-url", url(job, base_url, f"xades/{place + 1}"), signer=signer.name)
    if job.is_signed:
        writer.add("pades-url", url(job, base_url, "pades"))
    return writer.bytes


def created(job: Job, base_url: str, *, wire: bool) -> bytes:
    """What is answered to a new job."""
    writer = Writer(f"{job.flow}-signature-job-response", wire=wire)
    writer.add_some(reference=job.new.reference, signature_job_id=str(job.id))
    if job.flow == "portal":
        writer.add("cancellation-url", url(job, base_url, "cancel"))
        return writer.bytes
    for signer in job.signers:
        writer.add("redirect-url", signer.redirects[-1], signer=signer.name)
    if not job.new.is_polled:
        writer.add("status-url", _direct_url(job, base_url, "status"))
    for place, signer in enumerate(job.signers):
        href = _direct_url(job, base_url, f"signers/{place + 1}")
        _add_redirected(writer, writer.add("signer", href=href), signer)
    return writer.bytes


def redirected_signer(job: Job, place: int, base_url: str, *, wire: bool) -> bytes:
    """What is answered to the wish for a new redirect address."""
    href = _direct_url(job, base_url, f"signers/{place + 1}")
    writer = Writer("direct-signer-response", wire=wire, href=href)
    _add_redirected(writer, writer.root, job.signers[place])
    return writer.bytes


def _add_redirected(writer: Writer, element: etree._Element, signer: Signer) -> None:
    known = "personal-identification-number" if signer.person.personal_number else "signer-identifier"
    writer.add(known, signer.name, to=element)
    writer.add("redirect-url", signer.redirects[-1], to=element)


def url(job: Job, base_url: str, path: str) -> str:
    """An address of a job; jobs of the direct flow have such of the portal too, as observed."""
    return f"{base_url}/api/{job.sender}/portal/signature-jobs/{job.id}/{path}"


def _direct_url(job: Job, base_url: str, path: str) -> str:
    return f"{base_url}/api/{job.sender}/direct/signature-jobs/{job.id}/{path}"


def instant_text(instant: datetime) -> str:
    """In local time with a fraction of three digits, as the service writes it."""
    return instant.astimezone(_OSLO).isoformat(timespec="milliseconds")
